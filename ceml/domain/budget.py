"""Constraints, how far a state is from keeping them (C17, C22), and which of them cannot hold.

Each violation is a relative excess, shape (n,): 0 = allowed, 0.1 = 10 % over the bound. What a *state* does not tell
(a power that the model does not know) breaks a constraint infinitely: nobody may promise what he does not know. What
the *situation* does not tell (a deadline, but no announced work) says nothing about any state: then the constraint is
not judged, violation 0, and `unjudged` says so in words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from ceml.domain.guard import BOARD, HEAT, STEP_TIME, Bound
from ceml.domain.values import NAN, Prediction
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Constraint
    from ceml.domain.values import Limits, Observation, Situation

    Numbers = NDArray[np.float64]

DOUBT = 0.02  # of the energy and time of a step, measured in one window: a run is not called short for less
ROUNDING = 1e-9  # relative, of the same rate predicted alone and among others
AMBIENT_C = 25.0  # of the air around the board: boards do not measure it, and a warmer room is on the safe side


@dataclass(frozen=True)
class PowerCap:
    """The power of the whole board must not exceed `cap_w`, in watts."""

    cap_w: float

    def __post_init__(self) -> None:
        _above_0("cap_w", self.cap_w, "no power cap", "watts, e.g. 8; to have no cap, leave the budget away")

    @property
    def name(self) -> str:
        """E.g. `power cap 8 W`."""
        return f"power cap {self.cap_w:g} W"

    def violation(self, predicted: Prediction, now: Situation) -> Numbers:
        """P / cap - 1."""
        return _excess(predicted.power_w, self.cap_w)


@dataclass(frozen=True)
class RailCap:
    """The power of one rail must not exceed `cap_w`, in watts."""

    rail: str
    cap_w: float

    def __post_init__(self) -> None:
        _above_0("cap_w", self.cap_w, f"no power cap of rail {self.rail}", "watts, e.g. 3")

    @property
    def name(self) -> str:
        """E.g. `power cap 3 W of rail gpu`."""
        return f"power cap {self.cap_w:g} W of rail {self.rail}"

    def violation(self, predicted: Prediction, now: Situation) -> Numbers:
        """P_rail / cap - 1.

        Where the model predicts no rails: the largest share of the board's power that the rail was seen to draw, and
        all of it before anything was seen.
        """
        rail_w = predicted.rail_w.get(self.rail)
        return _excess(
            predicted.power_w * now.rail_shares.get(self.rail, 1.0) if rail_w is None else rail_w, self.cap_w
        )


@dataclass(frozen=True)
class Target:
    """At least `target_hz` steps per second."""

    target_hz: float

    def __post_init__(self) -> None:
        _above_0("target_hz", self.target_hz, "no performance target", "steps/s, e.g. 2.5")

    @property
    def name(self) -> str:
        """E.g. `target 2.5 steps/s`."""
        return f"target {self.target_hz:g} steps/s"

    def violation(self, predicted: Prediction, now: Situation) -> Numbers:
        """Time per step over the time allowed: target / rate - 1."""
        return _excess(_over(self.target_hz, predicted), 1.0)


@dataclass(frozen=True)
class MaxSlowdown:
    """A step takes at most (1 + `slowdown`) times what it takes with every knob at its highest."""

    slowdown: float

    def __post_init__(self) -> None:
        if not (isfinite(self.slowdown) and self.slowdown >= 0):
            raise SettingsError(f"max_slowdown = {self.slowdown:g} is no slowdown: give a share from 0 on, e.g. 0.1")

    @property
    def name(self) -> str:
        """E.g. `max slowdown 10 %`."""
        return f"max slowdown {100 * self.slowdown:g} %"

    def violation(self, predicted: Prediction, now: Situation) -> Numbers:
        """rate_at_max / rate / (1 + slowdown) - 1; the maximum itself never breaks it, whatever the rounding."""
        bound = (1.0 + self.slowdown) * (1.0 + ROUNDING)
        return _excess(_over(now.rate_at_max_hz, predicted), bound, given=now.rate_at_max_hz)


@dataclass(frozen=True)
class Deadline:
    """The announced work must be done `deadline_s` seconds after the application's start."""

    deadline_s: float

    def __post_init__(self) -> None:
        _above_0("deadline_s", self.deadline_s, "no deadline", "seconds, e.g. 300")

    @property
    def name(self) -> str:
        """E.g. `deadline 300 s`."""
        return f"deadline {self.deadline_s:g} s"

    def violation(self, predicted: Prediction, now: Situation) -> Numbers:
        """(spent_s + remaining work / rate) / deadline - 1."""
        left = _or_nan(now.remaining_work)
        return _excess(now.spent_s + _over(left, predicted), self.deadline_s, given=left)


@dataclass(frozen=True)
class EnergyAllowance:
    """The announced work may cost `allowance_j` joules of the whole board, from the application's start."""

    allowance_j: float

    def __post_init__(self) -> None:
        _above_0("allowance_j", self.allowance_j, "no energy allowance", "joules, e.g. 2000")

    @property
    def name(self) -> str:
        """E.g. `energy allowance 2000 J`."""
        return f"energy allowance {self.allowance_j:g} J"

    def violation(self, predicted: Prediction, now: Situation) -> Numbers:
        """(spent_j + remaining work * P / rate) / allowance - 1."""
        left = _or_nan(now.remaining_work)
        with np.errstate(all="ignore"):
            needed_j = predicted.power_w * _over(left, predicted)
        return _excess(now.spent_j + needed_j, self.allowance_j, given=left + now.spent_j)


@dataclass(frozen=True)
class TemperatureCap:
    """The hottest zone must not exceed `cap_c`, in degrees Celsius."""

    cap_c: float

    def __post_init__(self) -> None:
        if not AMBIENT_C < self.cap_c < inf:
            raise SettingsError(f"cap_c = {self.cap_c:g} is no cap on a board: give more than {AMBIENT_C:g} C, e.g. 80")

    @property
    def name(self) -> str:
        """E.g. `temperature cap 80 C`."""
        return f"temperature cap {self.cap_c:g} C"

    def violation(self, predicted: Prediction, now: Situation) -> Numbers:
        """Rise over the air that the power will bring, over the rise allowed, less 1.

        A rise is proportional to power once it is steady (one thermal resistance): dT(P) = P `rise_per_watt`. While the
        board still warms up that is too little; each decision looks again, and the guard looks all the time.
        """
        per_watt = rise_per_watt(now)
        return _excess(predicted.power_w * per_watt, self.cap_c - AMBIENT_C, given=per_watt)


@dataclass(frozen=True)
class NoHotter:
    """While the board is too hot, whatever heats it, nothing may draw more than `most_w`, as the state in force does.

    What a temperature tells of powers (`TemperatureCap`) is wrong where something else heats the board, and late.
    """

    most_w: float

    @property
    def name(self) -> str:
        """As people are told."""
        return "no more power while the board is too hot"

    def violation(self, predicted: Prediction, now: Situation) -> Numbers:
        """P / most_w - 1."""
        return _excess(predicted.power_w, self.most_w)


def rise_per_watt(now: Situation) -> float:
    """How much hotter than the air the hottest zone is, per watt that made it so, in C/W; NaN: not known."""
    rise_c = max(now.temperature_c - AMBIENT_C, 0.0) if isfinite(now.temperature_c) else NAN
    return rise_c / now.power_w if now.power_w > 0.0 else NAN


def constraints_of(limits: Limits) -> tuple[Constraint, ...]:
    """The constraints that the limits stand for.

    Raises:
        SettingsError: A bound that is none.
    """
    single: tuple[tuple[Any, float | None], ...] = (
        (PowerCap, limits.power_cap_w),
        (Target, limits.target_hz),
        (MaxSlowdown, limits.max_slowdown),
        (Deadline, limits.deadline_s),
        (EnergyAllowance, limits.energy_allowance_j),
        (TemperatureCap, limits.max_temperature_c),
    )
    rails = tuple(RailCap(rail, cap_w) for rail, cap_w in limits.rail_caps_w.items())
    return (*(kind(bound) for kind, bound in single if bound is not None), *rails)


def named(limits: Limits) -> str:
    """The limits as a person reads them: `power cap 8 W, target 2.5 steps/s`, or `no limits`."""
    try:
        return ", ".join(constraint.name for constraint in constraints_of(limits)) or "no limits"
    except SettingsError as error:  # nobody announces such limits; a look at them must not end a run all the same
        return str(error)


def bounds_of(constraints: Sequence[Constraint]) -> tuple[Bound, ...]:
    """What the guard watches: caps on power and temperature, and targets as bounds on the time of a step.

    A constraint that something is wrapped around (to look at a plugin's answers) shows it as `inside`. Of several of
    one signal the tightest counts.
    """
    tightest: dict[str, Bound] = {}
    for constraint in constraints:
        match getattr(constraint, "inside", constraint):
            case PowerCap() as cap:
                bound = Bound(name=cap.name, signal=BOARD, most=cap.cap_w)
            case RailCap() as cap:
                bound = Bound(name=cap.name, signal=cap.rail, most=cap.cap_w)
            case Target() as target:
                bound = Bound(name=target.name, signal=STEP_TIME, most=1.0 / target.target_hz)
            case TemperatureCap() as cap:
                bound = Bound(name=cap.name, signal=HEAT, most=cap.cap_c)
            case _:
                continue
        if bound.signal not in tightest or bound.most < tightest[bound.signal].most:
            tightest[bound.signal] = bound
    return tuple(tightest.values())


def unjudged(constraints: Sequence[Constraint], now: Situation) -> str:
    """Which constraints cannot be judged now, and why; empty where all can."""
    said: list[str] = []
    for constraint in constraints:
        match constraint:
            case Deadline() | EnergyAllowance() if now.remaining_work is None:
                said.append(f"{constraint.name} is not judged: the application announced no total of its work")
            case EnergyAllowance() if not isfinite(now.spent_j):
                said.append(f"{constraint.name} is not judged: no power has been measured yet")
            case TemperatureCap() if not isfinite(now.temperature_c + now.power_w):
                said.append(f"{constraint.name} is not judged: temperature and power are not both known yet")
            case MaxSlowdown() if not isfinite(now.rate_at_max_hz):
                said.append(f"{constraint.name} is not judged: the speed at maximum frequencies is not known yet")
            case _:
                pass
    return "; ".join(said)


def runs_short(constraints: Sequence[Constraint], seen: Observation, now: Situation) -> str | None:
    """Which limit on the run as a whole the rest of it would break as it goes now, its name; None where none.

    The rest counts `DOUBT` less than the window shows: the smaller it is, the less doubt there is.
    """
    lenient = Prediction.measured(replace(seen, rate_hz=seen.rate_hz * (1.0 + DOUBT)))
    for constraint in constraints:
        bare = getattr(constraint, "inside", constraint)
        if isinstance(bare, Deadline | EnergyAllowance) and 0.0 < float(bare.violation(lenient, now)[0]) < inf:
            return bare.name
    return None


def cannot_hold(
    constraints: Sequence[Constraint], everywhere: Prediction, chosen: Prediction, now: Situation
) -> str | None:
    """What is wrong where no state is feasible, in words: what no state keeps, and what is broken most besides.

    Args:
        constraints: What should hold.
        everywhere: What is expected of all states.
        chosen: What is expected of the state of least violation, n = 1.
        now: Where the run stands.

    Returns:
        `power cap 1 W cannot hold` where no state keeps it; else, with what it conflicts with, `target 9 steps/s cannot
        hold together with power cap 4 W`; both, joined, where both are so; None where no constraint is broken.
    """
    with np.errstate(all="ignore"):
        broken = {at: float(each.violation(chosen, now)[0]) for at, each in enumerate(constraints)}
        keeps = {at: constraints[at].violation(everywhere, now) <= 0.0 for at, most in broken.items() if most > 0.0}
        alone = [at for at, kept in keeps.items() if not kept.any()]
        culprit = max((at for at in keeps if at not in alone), key=lambda at: broken[at], default=None)
        said = [f"{' and '.join(constraints[at].name for at in alone)} cannot hold"] if alone else []
        if culprit is not None:
            at_odds = {
                at: other.violation(everywhere, now)[keeps[culprit]] > 0.0
                for at, other in enumerate(constraints)
                if at != culprit
            }
            against = [constraints[at].name for at in _as_few_as_exclude_all(at_odds)]
            together = f" together with {' and '.join(against)}" if against else ""
            said.append(f"{constraints[culprit].name} cannot hold{together}")
    return ", and ".join(said) or None


def _as_few_as_exclude_all(broken: Mapping[int, NDArray[np.bool_]]) -> list[int]:
    """Constraints that break as many states as all do, and each of them is needed; the narrowest are done without."""
    needed = sorted((at for at in broken if broken[at].any()), key=lambda at: (int(broken[at].sum()), -at))
    for at in tuple(needed):
        rest = [other for other in needed if other != at]
        if rest and not (broken[at] & ~np.any([broken[other] for other in rest], axis=0)).any():
            needed = rest
    return sorted(needed)


def _over(amount: float, predicted: Prediction) -> Numbers:
    """Amount / rate; at a rate that is not known or not positive it takes for ever."""
    rate_hz = predicted.rate_hz
    with np.errstate(all="ignore"):
        return np.where(rate_hz > 0.0, amount / rate_hz, inf)


def _excess(amount: Numbers, bound: float, *, given: float = 0.0) -> Numbers:
    """max(amount / bound - 1, 0); infinite where the amount is NaN, 0 everywhere where `given` is."""
    if given != given:
        return np.zeros(amount.shape)
    with np.errstate(all="ignore"):
        excess = np.fmin(amount, inf) / bound  # fmin passes over NaN: what is not known becomes infinite
        excess -= 1.0
        return np.maximum(excess, 0.0, out=excess)


def _or_nan(number: float | None) -> float:
    return NAN if number is None else number


def _above_0(name: str, value: float, what: str, remedy: str) -> None:
    if not (isfinite(value) and value > 0):
        raise SettingsError(f"{name} = {value:g} is {what}: give a positive number of {remedy}")
