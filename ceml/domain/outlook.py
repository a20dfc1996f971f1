"""What is believed of all states, seen from the best one measured: what samplers weigh trials with.

Everything is on ln |cost|, which near a state is a weighted sum of ln step time and ln power; the weights are finite
differences of the objective (energy 1 and 1, EDP 2 and 1, performance 1 and 0), so that any objective works.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.candidates import candidates
from ceml.domain.ondemand import changed
from ceml.domain.values import Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Constraint, Score, UncertainFit
    from ceml.domain.knobs import KnobSpace, States
    from ceml.domain.values import Observation

    Numbers = NDArray[np.float64]

SAFE_Z = 2.0  # constraints must hold, but for the slack, that many standard deviations towards the unlucky side
SLACK = 0.02  # excess that no power sensor tells from none; the median must keep the constraint itself
AS_GOOD = 0.01  # excess that is no reason to prefer one state to another, where a cap cannot hold
DEPTHS = np.array([-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, SAFE_Z])  # quantiles looked at, ascending
PAIRS, STEEPER = 6.0, 1.5  # of knobs, as four make: where there are more, a state tells less of the whole
NUDGE = 1e-4  # of ln time and ln power, for derivatives
DEFAULT_PERIOD_S = 0.1  # between two power samples, until it has been seen


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is believed of n states of a space, seen from the best one measured.

    Attributes:
        states: The present states, of a large space its candidates; ascending.
        predicted: Rate, power and covariance.
        loss: ln |cost|, (n,); infinite where there is no cost.
        weights: Derivatives of `loss` by ln step time and ln power, (n, 2).
        variance: Variance of `loss`, (n,).
        looks: In how many windows each state was measured, (n,).
        fair: Which states keep all constraints in the median, (n,).
        safe: Which do so, but for the slack, in the upper quantile, too, (n,).
        margin: How many standard deviations towards slower and hotter a state keeps them, coarsely, (n,).
        harmless: Which surely break no cap on power, whatever becomes of limits on the run as a whole, (n,).
        hope: Violation on the lucky side, (n,).
        best: Position of the best measured one.
        left: Steps still to do.
        experience: States' worth of what other programs taught of this machine.
        breadth: How many times as many states it takes to know this space as one of four knobs; at least 1.
    """

    states: States
    predicted: Prediction
    loss: Numbers
    weights: Numbers
    variance: Numbers
    looks: NDArray[np.intp]
    fair: NDArray[np.bool_]
    safe: NDArray[np.bool_]
    margin: Numbers
    harmless: NDArray[np.bool_]
    hope: Numbers
    best: int
    left: float
    experience: float
    breadth: float

    @property
    def waste(self) -> Numbers:
        """Expected excess of each state's cost over the best one's, as share of it, at least 0, (n,)."""
        gap = self.loss - self.loss[self.best] + 0.5 * np.minimum(self.variance, 1.0)
        return np.maximum(np.expm1(np.minimum(gap, 30.0)), 0.0)

    @property
    def tried(self) -> NDArray[np.bool_]:
        """Which states were measured, (n,)."""
        return self.looks > 0

    @property
    def doubt(self) -> Numbers:
        """Standard deviation of ln power, (n,)."""
        covariance = self.predicted.covariance
        return np.zeros(len(self.states)) if covariance is None else np.sqrt(covariance[:, 1, 1])

    @property
    def count(self) -> float:
        """How many states were measured, here or, in what they taught of the machine, by other programs.

        In states of a space of four knobs, which what a trial must bring in is reckoned by: on random plants of five
        and six knobs the whole run then ends 1.2 and 1.1 % above the best (mean) instead of 3.0 and 3.4 %.
        """
        return (float(np.count_nonzero(self.tried)) + self.experience) / self.breadth


def look(
    space: KnobSpace, fit: UncertainFit, score: Score, tried: States, left: float, *, seed: int = 0
) -> Outlook | None:
    """Score all states, of a large space its candidates; None where no measured state has a cost.

    `tried`: the state of every window. `seed`: of the candidates.
    """
    states = candidates(space, score, tried.tolist(), seed=seed)
    predicted = fit.predict(states)
    covariance = predicted.covariance
    if covariance is None:
        return None
    loss, weights = log_cost(score, predicted)
    variance = np.einsum("ni,nij,nj->n", weights, covariance, weights)
    looks = np.bincount(np.searchsorted(states, tried), minlength=len(states))
    known = looks > 0
    sane = np.isfinite(loss) & np.isfinite(variance)
    if not (known & sane).any():
        return None
    margin, fair, risk = np.full(len(states), SAFE_Z), sane, np.zeros(len(states))
    hope = risk
    if score.constraints:
        margin, hope, median, risk = _margins(score, predicted)
        fair = sane & (median <= 0.0)
    safe, harmless, caps = fair & (margin >= SAFE_Z), sane, caps_of(score)
    if caps:
        capped = replace(score, constraints=caps)
        harmless = safe if len(caps) == len(score.constraints) else sane & (_margins(capped, predicted)[0] >= SAFE_Z)
    good = safe & known
    if good.any():
        best = int(np.argmin(np.where(good, loss, np.inf)))
    else:  # nothing measured is safe: the least risk, but no wish is worth a broken cap; a tie is broken by cost
        held = harmless
        if not held.any():
            held = sane & caps_kept(replace(score, surely=cumulative(np.array([SAFE_Z])).item()), predicted)
            held = held if held.any() else sane
        lowest = risk[held].min()
        best = int(np.argmin(np.where(held & (risk <= lowest), loss, np.inf)))
    return Outlook(
        states=states,
        predicted=predicted,
        loss=loss,
        weights=weights,
        variance=variance,
        looks=looks,
        fair=fair,
        safe=safe,
        margin=margin,
        harmless=harmless,
        hope=hope,
        best=best,
        left=left,
        experience=fit.experience,
        breadth=_breadth(space),
    )


def _breadth(space: KnobSpace) -> float:
    """What a model must learn are the knobs and, above all, what pairs of them do to each other."""
    knobs = sum(levels > 1 for levels in space.shape)
    return max(1.0, (knobs * (knobs - 1) / 2.0 / PAIRS) ** STEEPER)


def _margins(score: Score, predicted: Prediction) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """How deep into the unlucky side each state keeps the constraints; its violation in luck, in the middle, in bad."""
    margin = np.full(len(predicted.rate_hz), DEPTHS[0] - 1.0)
    hope = median = risk = margin
    for depth in DEPTHS.tolist():
        violation = score.of(predicted.quantile(cumulative(np.array([depth])).item())).violation
        margin = np.where((violation <= SLACK) & np.isfinite(violation), depth, margin)
        hope = violation if depth == DEPTHS[0] else hope
        median = violation if depth == 0.0 else median
        risk = violation
    return margin, hope, median, risk


def log_cost(score: Score, predicted: Prediction, *, slopes: bool = True) -> tuple[Numbers, Numbers]:
    """Give ln |cost| of n states, (n,) (negated where costs are below zero), and its derivatives, (n, 2)."""

    def at(slower: float, hotter: float) -> Numbers:
        moved = Prediction(
            rate_hz=predicted.rate_hz * math.exp(-slower),
            power_w=predicted.power_w * math.exp(hotter),
            rail_w=changed(predicted.rail_w, lambda _, watts: watts * math.exp(hotter)),
            rail_std=predicted.rail_std,
            covariance=predicted.covariance,  # for objectives that are averse to risk
        )
        cost = score.of(moved).cost
        return np.where(np.isfinite(cost), np.sign(cost) * np.log(np.abs(cost)), np.inf)

    with np.errstate(all="ignore"):
        here = at(0.0, 0.0)
        if not slopes:
            return here, np.zeros((len(here), 2))
        by = np.stack([(at(NUDGE, 0.0) - here) / NUDGE, (at(0.0, NUDGE) - here) / NUDGE], axis=1)
        return here, np.where(np.isfinite(by), by, 0.0)


def caps_of(score: Score) -> tuple[Constraint, ...]:
    """The constraints that watts alone break, however fast a state is: not to be broken for a single step.

    Others (a deadline, a target, an allowance of energy) bound what a run comes to; a few steps are no harm. What a
    state without any watts breaks, too (a deadline that has passed), is no cap either.
    """
    cold_and_hot = Prediction(rate_hz=np.full(2, 1e30), power_w=np.array([1e-9, 1e9]))
    with np.errstate(all="ignore"):
        told = [(each, each.violation(cold_and_hot, score.now)) for each in score.constraints]
    return tuple(each for each, (cold, hot) in told if hot > 0.0 >= cold)


def caps_kept(score: Score, predicted: Prediction) -> NDArray[np.bool_]:
    """Which states keep the caps on power as well as can be, (n,); all where there is none.

    A cap that some state keeps is kept, one after the other; of what breaks another one the least, but for `AS_GOOD`.
    So neither a cap that cannot hold nor any wish costs one that can.
    """
    kept = np.ones(len(predicted.rate_hz), dtype=np.bool_)
    broken: list[Numbers] = []
    for cap in caps_of(score):
        violation = replace(score, constraints=(cap,)).of(predicted).violation
        keeps = kept & (violation <= 0.0)
        if keeps.any():
            kept = keeps
        else:
            broken.append(violation)
    for violation in broken:
        kept &= violation <= violation[kept].min() + AS_GOOD
    return kept


def held_against_max(score: Score) -> bool:
    """Whether a constraint asks how fast the program is with every knob at its highest: that must be measured."""
    one = Prediction(rate_hz=np.ones(1), power_w=np.ones(1))
    slow, fast = (replace(score.now, rate_at_max_hz=rate_hz) for rate_hz in (1e-3, 1e3))
    with np.errstate(all="ignore"):
        return any(each.violation(one, slow)[0] != each.violation(one, fast)[0] for each in score.constraints)


def cumulative(z: Numbers) -> Numbers:
    """Normal distribution function, Abramowitz and Stegun 26.2.17: absolute error below 1e-7."""
    t = 1.0 / (1.0 + 0.2316419 * np.abs(z))
    tail = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    tail *= t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    return np.where(z > 0, 1.0 - tail, tail)


def period_s(observations: Sequence[Observation]) -> float:
    """Seconds between two power samples, as seen in the windows; 0 where there is no power."""
    spans = [seen.counted_s / seen.power_samples for seen in observations if seen.power_samples >= 2]
    if spans:
        return float(np.median(spans))
    return DEFAULT_PERIOD_S if any(seen.power_samples for seen in observations) else 0.0


def in_order(space: KnobSpace, states: States) -> NDArray[np.intp]:
    """Positions of states in an order that neither that of knobs nor that of words changes: the last name first."""
    key, weight = np.zeros(len(states), dtype=np.intp), 1
    for axis in space.by_name:
        places, knob = states // space.strides[axis] % space.shape[axis], space.knobs[axis]
        if not knob.ordered:
            places = np.argsort(np.argsort(np.array(knob.levels, dtype=np.str_)))[places]
        key += places * weight
        weight *= space.shape[axis]
    return np.argsort(key)
