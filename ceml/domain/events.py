"""Everything that can happen, and what a manager may ask for. Frozen values; every event carries `at_s`.

Events are facts, named in the past tense or by a plain noun. Intents are the imperative counterpart: a
`RuntimeManager` answers an event with intents, which the controller carries out, and events, which it publishes.
Fields marked `record=False` travel inside the process only and are left out of records.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the record's schema reads the type hints at run time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ceml.domain.values import NAN, FitStatus, Limits, Observation, Parameter

if TYPE_CHECKING:
    from ceml.domain.knobs import Configuration, KnobSpace


# Said by applications -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AppJoined:
    """An application announced itself, or beat for the first time. `source` tells apart runs of one name."""

    at_s: float
    app: str
    source: str = ""
    total_work: float | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppLeft:
    """An application said goodbye, died or fell silent; `reason` says which."""

    at_s: float
    app: str
    source: str = ""
    reason: str = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """`work` steps were completed at `at_s` since the beat before."""

    at_s: float
    app: str
    source: str = ""
    beat: int = 0
    work: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesRefused:
    """Lines on the pipe that were no good, by reason; said at most every few seconds, with the latest as example."""

    at_s: float
    counts: Mapping[str, int]
    example: str


# Said by sensors ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """One poll of one sensor (see `Sample` for the fields)."""

    at_s: float
    sensor: str
    rails_w: Mapping[str, float] = field(default_factory=dict[str, float])
    utilisation: Mapping[str, float] = field(default_factory=dict[str, float])
    temperatures_c: Mapping[str, float] = field(default_factory=dict[str, float])
    covers_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """The hardware began to hold clocks down against our will, for other reasons than before, or no more (none)."""

    at_s: float
    sensor: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorLost:
    """A sensor stopped answering; the run goes on without it."""

    at_s: float
    sensor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorRecovered:
    """A lost sensor answers again."""

    at_s: float
    sensor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorStuck:
    """Power reads the same in several different configurations; `why` says what to do."""

    at_s: float
    power_w: float
    configurations: int
    why: str


# Said by people, files, watchers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetChanged:
    """What must hold changed: the whole set now in force. Nobody can tell where it came from but by `source`."""

    at_s: float
    limits: Limits
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRefused:
    """New limits were no good; what was in force stays so."""

    at_s: float
    source: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveChanged:
    """What is wanted less of changed; `objective` is what a person calls it, `made` the objective itself, checked."""

    at_s: float
    objective: str
    source: str = ""
    made: object = field(default=None, metadata={"record": False})  # a contracts.Objective, which lives a floor above


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPaused:
    """Somebody wants the machine left alone: prior values are put back, and nothing is turned until the resumption."""

    at_s: float
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResumed:
    """The knobs may be turned again."""

    at_s: float
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChanged:
    """The program changed, or does not do what was expected: `signal` (rate or power) moved from `before` to `after`.

    `cause` is the likeliest one as far as the sensors tell: `program`, `interference`, `throttling` or `model`; `why`
    says what speaks for it.
    """

    at_s: float
    app: str
    signal: str
    before: float
    after: float
    source: str = ""
    cause: str = "program"
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RhythmFound:
    """The program's steps differ and repeat after so many beats: from now on it is measured by whole periods."""

    at_s: float
    app: str
    period_beats: int
    period_steps: float
    source: str = ""


# Said by the controller and its managers ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowClosed:
    """A window of measurement ended, in the manager's `phase`; predictions are NaN where none was made."""

    at_s: float
    app: str
    observation: Observation
    phase: str
    predicted_rate_hz: float = NAN
    predicted_power_w: float = NAN
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFitted:
    """Models were fitted to what was measured; `sentence` says in words how it went."""

    at_s: float
    app: str
    status: FitStatus
    sentence: str
    observations: int
    parameters: tuple[Parameter, ...] = ()
    fit: object = field(default=None, metadata={"record": False})  # a contracts.Fit, which lives a floor above
    space: KnobSpace | None = field(default=None, metadata={"record": False})  # whose states the fit speaks of


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A configuration was chosen. Where not `feasible`, it is the least predicted violation, and `why` says so.

    Of a two-state schedule it is the one for `share` of the time, at least half; the rest belongs to `other`. A turn of
    each takes `period_s` seconds, and all that is expected is expected of the mean.
    `rate_at_max_hz` and `power_at_max_w` are what the model expects with every knob at its highest: what to save from;
    `energy_at_max_sd` is the relative standard deviation of the joules per step there, NaN where it states none.
    """

    at_s: float
    app: str
    configuration: Configuration
    rate_hz: float
    power_w: float
    cost: float
    feasible: bool
    violation: float
    evaluated: int
    why: str
    rate_at_max_hz: float = NAN
    power_at_max_w: float = NAN
    energy_at_max_sd: float = NAN
    other: Configuration | None = None
    share: float = 1.0
    period_s: float = NAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """Nothing can be chosen, and what was chosen before stays; said once, until something is chosen again."""

    at_s: float
    app: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpacePredicted:
    """What the model expected of the states at a decision, rounded, for pictures; of large spaces only a coarse grid.

    `states` are positions in the product of the levels in `RunStarted.knobs`, last knob fastest; the rest goes with
    them, NaN where the model says nothing. `energy_sd` is the relative standard deviation of the joules per step;
    empty where the model states none. Records are given it (telemetry/prediction.py); nobody publishes it.
    """

    at_s: float
    app: str
    states: tuple[int, ...]
    rate_hz: tuple[float, ...]
    power_w: tuple[float, ...]
    energy_sd: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardStepped:
    """A limit was broken beyond noise in the configuration `found`, which was left at once for `configuration`.

    `bound` and `measured` are watts, for a target steps per second, for a temperature degrees Celsius. `measured` is
    NaN where power can no longer be measured. `steps` counts the guard's steps for this application so far.
    """

    at_s: float
    app: str
    limit: str
    bound: float
    measured: float
    found: Configuration
    configuration: Configuration
    steps: int
    why: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationApplied:
    """The machine says it now is at `effective`; it is in force from `in_force_s` on."""

    at_s: float
    requested: Configuration
    effective: Configuration
    in_force_s: float
    took_s: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationRefused:
    """The machine would not take a configuration; the state leaves the space.

    `passing`: it could not be asked, several times over; in another run it may well be reached.
    """

    at_s: float
    requested: Configuration
    knob: str
    reason: str
    passing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationWithheld:
    """Dry run: this would have been applied, and was not; `effective` stays in force."""

    at_s: float
    requested: Configuration
    effective: Configuration
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationReleased:
    """The application is gone and the knobs are back at their prior values; `unrestored` names those that are not."""

    at_s: float
    effective: Configuration
    unrestored: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnobOverwritten:
    """Somebody else turned a knob that was `wanted` so; whatever was measured after `since_s` is of another state.

    `since_s` is when it was last seen as wanted, `times` counts these meetings in the last minutes. It is put back.
    """

    at_s: float
    knob: str
    wanted: float | str
    found: float | str
    since_s: float
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlYielded:
    """Somebody else turned this knob back so often that the machine is left to them; `why` says what to do."""

    at_s: float
    knob: str
    times: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineResumed:
    """The machine was suspended for `asleep_s`; what was in force before is asserted again."""

    at_s: float
    asleep_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionSlow:
    """Thinking took so long that beats and samples had to wait; said again where it is twice as bad."""

    at_s: float
    app: str
    took_s: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelsAllowed:
    """Somebody set other limits: of the knobs named they leave only these levels.

    What stands there now is what will be put back; `changed` says of each value what it was and what it is; it is empty
    where limits could be told only now, since cooling hid them when the run began.
    """

    at_s: float
    levels: Mapping[str, tuple[float | str, ...]]
    changed: tuple[str, ...]

    @property
    def said(self) -> str:
        """In words."""
        if self.changed:
            return f"somebody else changed {', '.join(self.changed)}"
        left = ", ".join(f"{len(left)} levels of {knob}" for knob, left in self.levels.items())
        return f"limits that somebody else set leave {left}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRefused:
    """Another application holds the machine; this one is heard but not controlled until that one leaves.

    Where it held the machine until now, `why` says what took it away.
    """

    at_s: float
    app: str
    holder: str
    source: str = ""
    holder_source: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsMissed:
    """A subscriber was too slow and lost its oldest events."""

    at_s: float
    subscriber: str
    missed: int


# The run itself -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """First line of every record: what runs on what, so that a record can be read years later."""

    at_s: float
    schema: int
    version: str
    platform: str
    labels: tuple[str, ...]
    knobs: Mapping[str, tuple[float | str, ...]]
    found: Configuration
    objective: str
    model: str
    search: str
    limits: Limits
    total_rails: tuple[str, ...]
    board: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """Last line of a record: what came of it. NaN where it could not be measured."""

    at_s: float
    reason: str
    steps: float
    seconds: float
    energy_j: float
    profiling_s: float


Event = (
    AppJoined
    | AppLeft
    | Heartbeat
    | LinesRefused
    | Sampled
    | Throttled
    | SensorLost
    | SensorRecovered
    | SensorStuck
    | BudgetChanged
    | BudgetRefused
    | ObjectiveChanged
    | ControlPaused
    | ControlResumed
    | PhaseChanged
    | RhythmFound
    | WindowClosed
    | ModelFitted
    | Decided
    | Undecided
    | SpacePredicted
    | GuardStepped
    | ConfigurationApplied
    | ConfigurationRefused
    | ConfigurationWithheld
    | ConfigurationReleased
    | KnobOverwritten
    | ControlYielded
    | MachineResumed
    | DecisionSlow
    | LevelsAllowed
    | ControlRefused
    | EventsMissed
    | RunStarted
    | RunEnded
)

SILENT = "silent"  # why a program left that was not heard of for too long; it may come back
TURN = "its turn"  # why a configuration is applied over and over in a two-state schedule

# Intents ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """Put this configuration in force to measure it."""

    configuration: Configuration
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Put this configuration in force because it was chosen."""

    configuration: Configuration
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give the machine back: every knob to its prior value."""

    why: str


Intent = Try | Use | Release
