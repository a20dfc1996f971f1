"""Two states in turn, where no single state meets a limit exactly.

Rate and power of a machine that spends the share s of its time in one state and 1 - s in another are the means

    r = s r_1 + (1 - s) r_2        P = s P_1 + (1 - s) P_2,

so that limits on means (a target, a slowdown, a deadline, an energy allowance) can be met anywhere between two states.
Of all pairs, neighbours on the lower convex hull of (rate, power) need the least power for every rate between them
(Imes et al., POET, RTAS 2015). A cap on power or temperature is a promise for every instant: both states keep it.

A schedule pays only where the best constant state wastes something: levels are coarse, or the limit falls into a gap.
Each turn costs the settling of the knobs, so the period is as long as that needs, and a gain of less than 1 % is left
alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ceml.domain.budget import Deadline, EnergyAllowance, MaxSlowdown, Target
from ceml.domain.candidates import candidates
from ceml.domain.values import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ceml.domain.contracts import Constraint, Score, Scored
    from ceml.domain.knobs import KnobSpace, States
    from ceml.domain.values import Choice

    Numbers = NDArray[np.float64]

GAIN = 0.01  # of the cost of the best constant state, beyond what turning costs: less is within noise
KNOWN_SD = 0.15  # of ln step time and ln power: a state less known than that takes no turns; doubt costs margin, too
LEAST_PERIOD_S = 1.0  # slower than the sensors, faster than anybody's patience
TURN_BEATS = 4.0  # steps of each turn, so that each can be measured
LOST = 0.005  # share of a period that settling may take
PERIODS = 3.0  # of a schedule, at least, in the rest of the run where it begins
SHARES = 65  # of a pair that are looked at, twice: the share is found to 1 / 4096


class Mix(NamedTuple):
    """Two states in turn.

    Attributes:
        state: The one for at least half of the time.
        other: The other one.
        share: Of the time in `state`.
        period_s: Seconds of one turn of each.
        scored: What is expected of the mean, n = 1.
    """

    state: int
    other: int
    share: float
    period_s: float
    scored: Scored


def of_mean(constraint: Constraint) -> bool:
    """Whether a constraint concerns a mean over time, not each instant; of a plugin's own nobody knows, so: no."""
    bare = getattr(constraint, "inside", constraint)
    return isinstance(bare, Target | MaxSlowdown | Deadline | EnergyAllowance)


def mixed(one: Prediction, other: Prediction, share: Numbers) -> Prediction:
    """What is expected of the share of the time in `one` and the rest in `other`, n each.

    The covariance is taken between the two in proportion, as if both erred together: the cautious assumption.
    """

    def mean(first: Numbers, second: Numbers) -> Numbers:
        return share * first + (1.0 - share) * second

    covariance = None
    if one.covariance is not None and other.covariance is not None:
        weight = share[:, None, None]
        covariance = weight * one.covariance + (1.0 - weight) * other.covariance
    rails = [rail for rail in one.rail_w if rail in other.rail_w]
    doubted = [rail for rail in one.rail_std if rail in other.rail_std]
    return Prediction(
        rate_hz=mean(one.rate_hz, other.rate_hz),
        power_w=mean(one.power_w, other.power_w),
        rail_w={rail: mean(one.rail_w[rail], other.rail_w[rail]) for rail in rails},
        rail_std={rail: mean(one.rail_std[rail], other.rail_std[rail]) for rail in doubted},
        covariance=covariance,
    )


def better(space: KnobSpace, score: Score, choice: Choice, *, periods: float = PERIODS) -> Mix | None:
    """Two states in turn that beat a constant choice by more than turning costs; None where there are none.

    Args:
        space: Where to look; without states that were seen to break a cap.
        score: Judges; its `surely` holds for the constraints.
        choice: The best constant state.
        periods: How many must fit into the rest of the run, where it is known.
    """
    states = candidates(space, score, (choice.state,))
    instant = replace(score, constraints=[each for each in score.constraints if not of_mean(each)])
    scored = instant(states)
    hull = _hull(scored, _known(scored) & (scored.violation <= 0.0))
    if len(hull) < 2:
        return None
    slow, fast = hull[:-1], hull[1:]
    pairs = np.repeat(np.arange(len(slow)), SHARES)
    shares = np.tile(np.linspace(0.0, 1.0, SHARES), len(slow))
    at = _best(score, scored.predicted, slow[pairs], fast[pairs], shares)
    if at is None:
        return None
    pair, around = pairs[at], shares[at]
    finer = np.minimum(np.maximum(around + np.linspace(-1.0, 1.0, SHARES) / (SHARES - 1), 0.0), 1.0)
    same = np.full(SHARES, pair)
    at = _best(score, scored.predicted, slow[same], fast[same], finer)
    if at is None or not 0.0 < finer[at] < 1.0:
        return None
    best = int(slow[pair]), int(fast[pair])
    mix = _worth(space, score, choice, scored.predicted, states, best, float(finer[at]))
    left = score.now.remaining_work
    if mix is None or left is None or left >= periods * mix.period_s * float(mix.scored.predicted.rate_hz[0]):
        return mix
    return None


def _worth(
    space: KnobSpace,
    score: Score,
    choice: Choice,
    predicted: Prediction,
    states: States,
    pair: tuple[int, int],
    share: float,
) -> Mix | None:
    """The pair, `share` of the time in its first, if it is worth the turning."""
    slow, fast = pair
    scored = score.of(_between(predicted, np.array([slow]), np.array([fast]), np.array([share])))
    rates = predicted.rate_hz[slow], predicted.rate_hz[fast]
    settle_s = space.settle_s(*(space.configuration(int(states[at])) for at in pair))
    turns_s = (TURN_BEATS / (rates[0] * share), TURN_BEATS / (rates[1] * (1.0 - share)))
    period_s = float(max(LEAST_PERIOD_S, 2.0 * settle_s / LOST, *turns_s))
    cost, lost = float(scored.cost[0]), 2.0 * settle_s / period_s
    if choice.feasible and not choice.cost - cost > (GAIN + lost) * abs(choice.cost):
        return None
    first, second = (int(states[at]) for at in pair)
    if share >= 0.5:
        return Mix(first, second, share, period_s, scored)
    return Mix(second, first, 1.0 - share, period_s, scored)


def _known(scored: Scored) -> NDArray[np.bool_]:
    predicted = scored.predicted
    known = np.isfinite(scored.cost) & np.isfinite(predicted.power_w) & (predicted.rate_hz > 0.0)
    if predicted.covariance is None:
        return known
    return known & (np.maximum(predicted.covariance[:, 0, 0], predicted.covariance[:, 1, 1]) <= KNOWN_SD**2)


def _hull(scored: Scored, allowed: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Positions on the lower convex hull of (rate, power), by rising rate, from the least power to the highest rate."""
    rate_hz, power_w = scored.predicted.rate_hz, scored.predicted.power_w
    places = np.flatnonzero(allowed)
    places = places[np.lexsort((power_w[places], rate_hz[places]))]
    hull: list[int] = []
    for place in places.tolist():
        while hull and power_w[hull[-1]] >= power_w[place]:  # slower, and not for less
            hull.pop()
        while len(hull) > 1 and _above(rate_hz, power_w, hull[-2], hull[-1], place):
            hull.pop()
        hull.append(place)
    return np.array(hull, dtype=np.intp)


def _above(rate_hz: Numbers, power_w: Numbers, left: int, middle: int, right: int) -> bool:
    """Whether the middle point lies on or above the line through the other two."""
    run, rise = rate_hz[right] - rate_hz[left], power_w[right] - power_w[left]
    return bool((power_w[middle] - power_w[left]) * run >= rise * (rate_hz[middle] - rate_hz[left]))


def _between(predicted: Prediction, slow: States, fast: States, share: Numbers) -> Prediction:
    return mixed(_taken(predicted, slow), _taken(predicted, fast), share)


def _taken(predicted: Prediction, places: States) -> Prediction:
    return Prediction(
        rate_hz=predicted.rate_hz[places],
        power_w=predicted.power_w[places],
        rail_w={rail: watts[places] for rail, watts in predicted.rail_w.items()},
        rail_std={rail: sds[places] for rail, sds in predicted.rail_std.items()},
        covariance=None if predicted.covariance is None else predicted.covariance[places],
    )


def _best(
    score: Score, predicted: Prediction, slow: NDArray[np.intp], fast: NDArray[np.intp], shares: Numbers
) -> int | None:
    """Position of the cheapest mix that keeps all constraints; None where none does."""
    scored = score.of(_between(predicted, slow, fast, shares))
    cost = np.where(scored.violation > 0.0, np.inf, scored.cost)
    at = int(np.argmin(cost))
    return at if np.isfinite(cost[at]) else None
