"""What travels between the rooms: samples, observations, predictions, choices. Plain frozen values, SI units."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.ondemand import changed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ceml.domain.knobs import Configuration, Knob

NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reading of one sensor.

    Attributes:
        at_s: When it was taken, monotonic seconds.
        rails_w: Power per rail; the rail `total` is the whole board.
        utilisation: Busy share per device, 0 to 1.
        temperatures_c: Temperature per zone.
        covers_s: 0 for an instantaneous reading, else the past seconds that it is the mean of.
        throttled: What holds clocks down against our will, as the hardware tells it, a few words each.
    """

    at_s: float
    rails_w: Mapping[str, float] = field(default_factory=dict[str, float])
    utilisation: Mapping[str, float] = field(default_factory=dict[str, float])
    temperatures_c: Mapping[str, float] = field(default_factory=dict[str, float])
    covers_s: float = 0.0
    throttled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was measured while one configuration was in force, from beats and samples that lie wholly inside.

    Attributes:
        configuration: What was in force.
        start_s: First beat counted from (its own interval is not counted).
        end_s: Last beat counted.
        beats: Intervals between beats that were counted.
        steps: Work done in them.
        rate_hz: Steps per second, the paper's performance (C5).
        power_w: Mean power of the whole board; NaN where no power was measured.
        rail_w: Mean power per rail.
        utilisation: Mean busy share per device.
        power_samples: Samples behind `power_w`.
        step_cv: Coefficient of variation of the time per step between beats, as far as it moves the mean of many
            (`sums.Batches`); NaN below two.
        power_cv: Coefficient of variation of the power samples; NaN below two.
        outliers: Intervals left out because they are stalls; they are in none of the figures above.
        outlier_s: Seconds that these took; the power meanwhile is left out, too.
    """

    configuration: Configuration
    start_s: float
    end_s: float
    beats: int
    steps: float
    rate_hz: float
    power_w: float = NAN
    rail_w: Mapping[str, float] = field(default_factory=dict[str, float])
    utilisation: Mapping[str, float] = field(default_factory=dict[str, float])
    power_samples: int = 0
    step_cv: float = NAN
    power_cv: float = NAN
    outliers: int = 0
    outlier_s: float = 0.0

    @property
    def energy_j(self) -> float:
        """Joules per step."""
        return self.power_w / self.rate_hz if self.rate_hz > 0 else NAN

    @property
    def duration_s(self) -> float:
        """Seconds between the first and the last beat."""
        return self.end_s - self.start_s

    @property
    def counted_s(self) -> float:
        """Seconds behind `rate_hz` and `power_w`: those between the first and the last beat that were no stall."""
        return self.duration_s - self.outlier_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model expects of n states.

    Attributes:
        rate_hz: Steps per second, shape (n,).
        power_w: Watts of the whole board, shape (n,); NaN where the model knows no power.
        rail_w: Watts per rail, each (n,).
        rail_std: Standard deviation of ln watts per rail, each (n,); a rail that is missing is as sure as the board.
        covariance: Covariance of (ln step time, ln power), shape (n, 2, 2); None where the model states none.
    """

    rate_hz: NDArray[np.float64]
    power_w: NDArray[np.float64]
    rail_w: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # type: ignore[assignment]
    rail_std: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # type: ignore[assignment]
    covariance: NDArray[np.float64] | None = None

    @property
    def energy_j(self) -> NDArray[np.float64]:
        """Joules per step, shape (n,)."""
        return self.power_w / self.rate_hz

    @property
    def energy_sd(self) -> NDArray[np.float64] | None:
        """Relative standard deviation of joules per step, shape (n,); None where the model states none."""
        if self.covariance is None:
            return None
        return np.sqrt(np.maximum(self.covariance.sum(axis=(1, 2)), 0.0))  # ln E = ln t + ln P

    def quantile(self, share: float) -> Prediction:
        """The pessimistic side: slower and hotter than this, each, with probability 1 - `share`.

        Where no covariance is stated it is the prediction itself.
        """
        if self.covariance is None:
            return self
        z = NormalDist().inv_cdf(share)
        time_sd, power_sd = np.sqrt(self.covariance[:, 0, 0]), np.sqrt(self.covariance[:, 1, 1])
        hotter = np.exp(z * power_sd)
        return Prediction(
            rate_hz=self.rate_hz * np.exp(-z * time_sd),
            power_w=self.power_w * hotter,
            rail_w=changed(
                self.rail_w,
                lambda rail, watts: watts * (np.exp(z * self.rail_std[rail]) if rail in self.rail_std else hotter),
            ),
        )

    @staticmethod
    def measured(observation: Observation) -> Prediction:
        """An observation in the shape of a prediction of one state, so that objectives can judge it."""
        return Prediction(
            rate_hz=np.array([observation.rate_hz]),
            power_w=np.array([observation.power_w]),
            rail_w={rail: np.array([watts]) for rail, watts in observation.rail_w.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where the run stands, for objectives and constraints that care.

    NaN stands for what is not known.

    Attributes:
        at_s: Now, monotonic seconds.
        unix_s: Now, seconds since 1970; NaN where time is virtual.
        remaining_work: Steps still to do; None where the application announced no total.
        spent_s: Seconds since the application joined.
        spent_j: Joules of the whole board while it was here.
        rate_at_max_hz: Steps per second with every knob at its highest, as expected now.
        power_w: Power of the whole board, averaged over the last half minute or so: what the temperature comes from.
        temperature_c: The hottest zone, last reading.
        rail_shares: Largest share of the board's power that each rail was seen to draw.
        excesses: How many trials have broken a cap on power, or seemed to, since the limits were set.
    """

    at_s: float = 0.0
    unix_s: float = NAN
    remaining_work: float | None = None
    spent_s: float = 0.0
    spent_j: float = NAN
    rate_at_max_hz: float = NAN
    power_w: float = NAN
    temperature_c: float = NAN
    rail_shares: Mapping[str, float] = field(default_factory=dict[str, float])
    excesses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What must hold, as the user set it (C22); None, or no entry: no such limit. `budget.py` makes constraints of it.

    Attributes:
        power_cap_w: Cap on the power of the whole board.
        rail_caps_w: Caps on the power of single rails.
        target_hz: Steps per second that must be reached.
        max_slowdown: By how much a step may take longer than with every knob at its highest; 0.1 is 10 %.
        deadline_s: Seconds from the application's start in which its announced work must be done.
        energy_allowance_j: Joules of the whole board that the announced work may cost.
        max_temperature_c: Cap on the temperature of the hottest zone.
    """

    power_cap_w: float | None = None
    rail_caps_w: Mapping[str, float] = field(default_factory=dict[str, float])
    target_hz: float | None = None
    max_slowdown: float | None = None
    deadline_s: float | None = None
    energy_allowance_j: float | None = None
    max_temperature_c: float | None = None


NO_LIMITS = Limits()


def spoken(phase: str) -> str:
    """A phase of a run as people are told it: `idle` is what the manager is once it has decided."""
    return "settled" if phase == "idle" else phase


class FitStatus(str, Enum):
    """How a fit went; a bad fit is a value, not an exception."""

    GOOD = "good"
    TOO_FEW = "too_few"
    SINGULAR = "singular"
    NOT_FINITE = "not_finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One number of a fitted model, fit to be shown to a person."""

    name: str
    value: float
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePower:
    """Eq. 2 of the paper for one device: P = slope_w * utilisation + idle_w, one pair per level (C9).

    Attributes:
        levels_hz: Clock of each pair, ascending, shape (levels,).
        slope_w: The paper's epsilon, shape (levels,).
        idle_w: The paper's zeta, shape (levels,).
    """

    levels_hz: tuple[float, ...]
    slope_w: tuple[float, ...]
    idle_w: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What one program did on this machine in one of its phases, as it was measured, pooled per configuration.

    Measurements and not parameters are kept, so that a better model makes more of them.

    Attributes:
        app: The program's name.
        knobs: What could be turned then.
        observations: One per configuration, without times of day.
    """

    app: str
    knobs: tuple[Knob, ...]
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What is known of a machine beforehand.

    Attributes:
        board: Offline power calibration per device (C9).
        programs: What earlier runs measured, the latest first.
        unreachable: Configurations that the machine was asked for and refused; some name one knob alone, and then
            that level is reached in none.
    """

    board: Mapping[str, DevicePower] = field(default_factory=dict)  # type: ignore[assignment]
    programs: tuple[Remembered, ...] = ()
    unreachable: frozenset[Configuration] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a search found.

    Attributes:
        state: The state to put in force.
        cost: Its predicted cost; lower is better.
        violation: Its predicted violation of the constraints: relative excess, 0 = allowed.
        evaluated: How many states were scored.
    """

    state: int
    cost: float
    violation: float
    evaluated: int

    @property
    def feasible(self) -> bool:
        """Whether all constraints are predicted to hold; False means least violation, and must be said aloud."""
        return self.violation <= 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """What a sampler wants measured next, and for how long.

    A trial ends as soon as all lower bounds are met and both errors are small enough, or its `patience` is over and the
    rate roughly known, and at the latest after `longest_s`, as soon as there is one beat to count. A commitment lasts
    for its steps.

    Attributes:
        state: Where to stay.
        beats: Heartbeats to count there, at least.
        steps: Steps to count there, at least.
        power_samples: Power samples to collect there, at least (where there is a power sensor).
        rate_se: Relative standard error wanted of the rate; NaN: not asked.
        power_se: The same of power (where there is a power sensor).
        step_cv: Scatter of the time of one step that these were reckoned with.
        power_cv: Scatter of one power sample.
        longest_s: Seconds that a trial may last.
        patience: Times the steps and samples that a trial is expected to take, after which it ends, sure or not.
        commits: Whether this is a commitment: the state believed best, not a trial.
        why: A few words for the log.
    """

    state: int
    beats: int = 1
    steps: float = 0.0
    power_samples: int = 2
    rate_se: float = NAN
    power_se: float = NAN
    step_cv: float = 0.02
    power_cv: float = 0.025
    longest_s: float = math.inf
    patience: float = math.inf
    commits: bool = False
    why: str = ""
