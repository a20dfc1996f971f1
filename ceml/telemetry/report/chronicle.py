"""What a run's digest is made of: what happened in words, phases of control, signals, and one account a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ceml.domain import events
from ceml.domain.budget import named
from ceml.domain.values import NAN
from ceml.telemetry.report.trace import Trace

if TYPE_CHECKING:
    from ceml.domain.events import Decided, Event, SpacePredicted
    from ceml.domain.knobs import Configuration
    from ceml.telemetry.chapter import Chapter


class Remark(NamedTuple):
    """Something that happened, in words."""

    at_s: float
    kind: str  # decision, guard, change, budget, objective, sensor, control
    text: str


class Span(NamedTuple):
    """A stretch of time in one phase of control."""

    from_s: float
    to_s: float
    phase: str


@dataclass
class Agreement:
    """Predictions of windows in one configuration against what they measured, summed up."""

    windows: int = 0
    predicted_rate_hz: float = 0.0
    predicted_power_w: float = 0.0


@dataclass
class Told:
    """One application's chapter, and what a picture of it needs.

    Attributes:
        chapter: Its ledger.
        begun_s: When it got the machine.
        predicted: What the model expected of the space, at the latest decision that the record has it of.
        first_predicted: The same at the first.
        joules: Energy of the board by phase of control; empty where samples were not recorded.
        window_steps: Steps in windows whose power was measured.
        window_joules_profiling: Energy in windows while profiling.
        window_joules_running: Energy in the other windows.
        agreements: Windows that had a prediction, by configuration.
        spread: Sums of squares of the relative standard errors of windows, by configuration.
    """

    chapter: Chapter
    begun_s: float
    decided: Decided | None = None
    first_decided_s: float = NAN
    predicted: SpacePredicted | None = None
    first_predicted: SpacePredicted | None = None
    joules: dict[str, float] = field(default_factory=dict[str, float])
    window_steps: float = 0.0
    window_joules_profiling: float = 0.0
    window_joules_running: float = 0.0
    agreements: dict[Configuration, Agreement] = field(default_factory=dict)  # type: ignore[assignment]
    spread: dict[Configuration, tuple[int, float]] = field(default_factory=dict)  # type: ignore[assignment]


@dataclass
class Lines:
    """Signals over time, thinned."""

    power: Trace = field(default_factory=Trace)  # of the board, each sample
    window_power: Trace = field(default_factory=Trace)  # means of windows
    rate: Trace = field(default_factory=Trace)
    cap: Trace = field(default_factory=Trace)
    knobs: dict[str, Trace] = field(default_factory=dict[str, Trace])
    busy: dict[str, Trace] = field(default_factory=dict[str, Trace])


def in_words(event: Event) -> Remark | None:
    """What a person wants to read of an event; None for those of which there are too many."""
    match event:
        case events.Decided():
            return Remark(event.at_s, "decision", f"{event.configuration}: {event.why}")
        case events.Undecided():
            return Remark(event.at_s, "decision", f"none: {event.why}")
        case events.DecisionSlow():
            return Remark(event.at_s, "decision", f"slow: {event.why}")
        case events.LevelsAllowed():
            return Remark(event.at_s, "control", event.said)
        case events.GuardStepped():
            text = f"{event.limit}: {event.measured:.3g} measured, {event.bound:.3g} allowed; {event.why}"
            return Remark(event.at_s, "guard", text)
        case events.PhaseChanged():
            text = f"{event.app}: {event.signal} from {event.before:.4g} to {event.after:.4g}, {event.cause}"
            return Remark(event.at_s, "change", f"{text}: {event.why}" if event.why else text)
        case events.RhythmFound():
            return Remark(event.at_s, "change", f"{event.app}: its steps repeat every {event.period_beats} beats")
        case events.BudgetChanged():
            source = f" ({event.source})" if event.source else ""
            return Remark(event.at_s, "budget", named(event.limits) + source)
        case events.ObjectiveChanged():
            source = f" ({event.source})" if event.source else ""
            return Remark(event.at_s, "objective", f"{event.objective}{source}")
        case events.SensorLost():
            return Remark(event.at_s, "sensor", f"{event.sensor} lost: {event.reason}")
        case events.SensorRecovered():
            return Remark(event.at_s, "sensor", f"{event.sensor} answers again")
        case events.Throttled():
            return Remark(event.at_s, "sensor", f"throttled: {', '.join(event.reasons) or 'not any more'}")
        case events.ControlPaused():
            return Remark(event.at_s, "control", "paused")
        case events.ControlResumed():
            return Remark(event.at_s, "control", "resumed")
        case events.AppJoined():
            return Remark(event.at_s, "control", f"{event.app} came")
        case events.AppLeft():
            return Remark(event.at_s, "control", f"{event.app} went: {event.reason}")
        case _:
            return None
