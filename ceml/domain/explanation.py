"""Why a configuration was chosen: the best candidates as the models see them now, and what was measured of them.

Pure; nothing is fitted or decided anew: the models as last fitted are asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ceml.domain.budget import (
    AMBIENT_C,
    Deadline,
    EnergyAllowance,
    MaxSlowdown,
    PowerCap,
    RailCap,
    Target,
    TemperatureCap,
    unjudged,
)
from ceml.domain.reasoning import SURELY, within_caps
from ceml.domain.values import NAN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ceml.domain.contracts import Constraint, Score, Scored
    from ceml.domain.knobs import Configuration
    from ceml.domain.reasoning import Reasoning
    from ceml.domain.values import Observation, Parameter, Prediction, Situation

FINE = 1e-6  # a bound this many times tighter is exceeded by everything, and the excess tells the distance to it


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One configuration as the models see it.

    Attributes:
        configuration: Which.
        rate_hz: Steps per second expected.
        power_w: Watts of the board expected; NaN where no power is known.
        energy_j: Joules per step expected.
        cost: What the objective says; lower is better, infinite where the models say nothing sensible.
        violation: Largest relative excess over a constraint, as expected; 0 = all hold.
        violation_surely: The same at the pessimistic quantile that searches use.
        rate_sd: Relative standard deviation of the rate expected; NaN where the model states none.
        power_sd: The same of power.
        margins: Constraint -> share of its bound that is left, negative where broken; NaN: cannot be judged.
        measured: What was measured there last, in this run or in earlier ones; None: nothing.
    """

    configuration: Configuration
    rate_hz: float
    power_w: float
    energy_j: float
    cost: float
    violation: float
    violation_surely: float
    rate_sd: float
    power_sd: float
    margins: Mapping[str, float]
    measured: Observation | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The best candidates, the best first, and the model behind them.

    Attributes:
        status: How the fit went.
        sentence: The same in words.
        states: How many there are to choose from.
        measured_states: How many of them were measured.
        candidates: As a search ranks them: where nothing is feasible by whether the caps hold, then by violation, then
            by cost; what was asked for besides comes last.
        measured: What was measured, one each configuration, the latest first.
        parameters: The model's numbers, with units.
        unjudged: Which constraints cannot be judged now, and why.
    """

    status: str
    sentence: str
    states: int
    measured_states: int
    candidates: tuple[Candidate, ...]
    measured: tuple[Observation, ...]
    parameters: tuple[Parameter, ...]
    unjudged: str


def explain(reasoning: Reasoning, at_s: float, top: int, besides: Sequence[Configuration] = ()) -> Explanation:
    """Score every state with the models as last fitted and tell the best.

    Args:
        reasoning: What was learnt.
        at_s: Now.
        top: How many candidates, at least 1.
        besides: Configurations that are told in any case, e.g. the one in force.
    """
    fit, space, score = reasoning.fit, reasoning.allowed, reasoning.score(at_s)
    measured = {seen.configuration: seen for seen in reasoning.known}
    states: list[int] = []
    if len(space):
        scored, surely = score(space.states), replace(score, surely=SURELY)(space.states).violation
        feasible = (surely <= 0.0).any()
        violation = surely if feasible else scored.violation  # as searches do
        hopeless = not feasible and not (violation <= 0.0).any()  # then no other limit is worth a broken cap
        broken = ~within_caps(score, space.states) if hopeless else np.zeros(len(space), dtype=bool)
        order = np.lexsort((scored.cost, violation, broken))[:top]
        states = [int(state) for state in space.states[order]]
    others = (space.find(configuration) for configuration in besides)
    states += [state for state in dict.fromkeys(others) if state is not None and state not in states]
    return Explanation(
        status=fit.status.value,
        sentence=fit.sentence,
        states=len(space),
        measured_states=len(measured),
        candidates=_candidates(reasoning, score, np.array(states, dtype=np.intp), measured),
        measured=tuple(reversed(measured.values())),
        parameters=fit.parameters(),
        unjudged=unjudged(reasoning.constraints, score.now),
    )


def _candidates(
    reasoning: Reasoning, score: Score, states: Any, measured: Mapping[Configuration, Observation]
) -> tuple[Candidate, ...]:
    if not len(states):
        return ()
    scored, surely = score(states), replace(score, surely=SURELY)(states).violation
    margins = {each.name: margin(each, scored.predicted, score.now) for each in reasoning.constraints}
    sd = _deviations(scored)
    told: list[Candidate] = []
    for at, state in enumerate(states.tolist()):
        configuration = reasoning.space.configuration(state)
        told.append(
            Candidate(
                configuration=configuration,
                rate_hz=float(scored.predicted.rate_hz[at]),
                power_w=float(scored.predicted.power_w[at]),
                energy_j=float(scored.predicted.energy_j[at]),
                cost=float(scored.cost[at]),
                violation=float(scored.violation[at]),
                violation_surely=float(surely[at]),
                rate_sd=float(sd[at, 0]),
                power_sd=float(sd[at, 1]),
                margins={name: float(left[at]) for name, left in margins.items()},
                measured=measured.get(configuration),
            )
        )
    return tuple(told)


def _deviations(scored: Scored) -> Any:
    """Standard deviations of (ln step time, ln power), shape (n, 2): relative ones, where they are small."""
    covariance = scored.predicted.covariance
    if covariance is None:
        return np.full((len(scored.cost), 2), np.nan)
    return np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))


def margin(constraint: Constraint, predicted: Prediction, now: Situation) -> Any:
    """Share of a constraint's bound that is left, shape (n,): 1 - amount / bound, negative where it is broken.

    The amount comes from the constraint's own formula: against a bound b / f with f = 1 / FINE everything is in
    excess, v = f amount / b - 1, so that amount / b = (v + 1) / f. NaN where the constraint cannot be judged now, and
    where one of a plugin's own, whose bound nobody knows, holds.
    """
    bare: Constraint = getattr(constraint, "inside", constraint)
    if unjudged((bare,), now):
        return np.full(predicted.rate_hz.shape, np.nan)
    with np.errstate(all="ignore"):
        if isinstance(bare, MaxSlowdown):
            return 1.0 - now.rate_at_max_hz / predicted.rate_hz / (1.0 + bare.slowdown)
        tight = _tightened(bare)
        if tight is None:
            excess = constraint.violation(predicted, now)
            return np.where(excess > 0.0, -excess, NAN)
        return 1.0 - (cast("Any", tight.violation(predicted, now)) + 1.0) * FINE


def _tightened(constraint: Constraint) -> Constraint | None:
    """The same with a bound that nothing keeps; None where its bound is not known."""
    match constraint:
        case PowerCap() | RailCap():
            return replace(constraint, cap_w=constraint.cap_w * FINE)
        case Target():
            return replace(constraint, target_hz=constraint.target_hz / FINE)
        case Deadline():
            return replace(constraint, deadline_s=constraint.deadline_s * FINE)
        case EnergyAllowance():
            return replace(constraint, allowance_j=constraint.allowance_j * FINE)
        case TemperatureCap():
            return replace(constraint, cap_c=AMBIENT_C + (constraint.cap_c - AMBIENT_C) * FINE)
        case _:
            return None
