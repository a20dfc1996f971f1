"""The diary: what happened lately, a sentence each, for those who look at a run while it goes on. Pure, bounded."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ceml.domain.budget import named
from ceml.domain.events import (
    AppJoined,
    AppLeft,
    BudgetChanged,
    BudgetRefused,
    ConfigurationApplied,
    ConfigurationRefused,
    ConfigurationReleased,
    ConfigurationWithheld,
    ControlPaused,
    ControlRefused,
    ControlResumed,
    Decided,
    DecisionSlow,
    GuardStepped,
    LevelsAllowed,
    ObjectiveChanged,
    PhaseChanged,
    RhythmFound,
    SensorLost,
    SensorRecovered,
    Throttled,
    Undecided,
)

if TYPE_CHECKING:
    from ceml.domain.events import Event

KEPT = 20  # a screen full; all of it travels with every status
LONGEST = 200  # characters of a sentence


class Entry(NamedTuple):
    """One thing that happened.

    Attributes:
        number: Counted from 1 in this run, without gaps: who looks again knows what is new.
        at_s: When, on the run's clock.
        what: Which kind of thing, in one or two words.
        text: The sentence.
        grave: Whether a person should look at it.
    """

    number: int
    at_s: float
    what: str
    text: str
    grave: bool


class Diary:
    """Keeps the latest entries and counts those that metrics are made of.

    Attributes:
        entries: The latest, the newest last.
        guard_steps: How often a broken limit was stepped away from.
        phase_changes: How often the program changed.
    """

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.guard_steps = 0
        self.phase_changes = 0
        self._number = 0

    def on(self, event: Event) -> None:
        """Take in one event; most are nothing to write down."""
        self.guard_steps += isinstance(event, GuardStepped)
        self.phase_changes += isinstance(event, PhaseChanged)
        said = _said(event)
        if said is None:
            return
        what, text, grave = said
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        self._number += 1
        self.entries.append(Entry(self._number, event.at_s, what, text, grave))


def _said(event: Event) -> tuple[str, str, bool] | None:
    """Kind, sentence and gravity of what is worth a line; None of what is not."""
    match event:
        case Decided():
            return "decided", f"{event.configuration}: {event.why}", not event.feasible
        case Undecided():
            return "undecided", event.why, True
        case DecisionSlow():
            return "slow", event.why, True
        case LevelsAllowed():
            return "found", f"{event.said}: that is kept to", True
        case ConfigurationApplied():
            return "applied", f"{event.effective}: {event.why}", False
        case ConfigurationWithheld():
            return "dry run", f"{event.requested} would be tried: {event.why}", False
        case ConfigurationReleased():
            left = f"; not put back: {', '.join(event.unrestored)}" if event.unrestored else ""
            return "released", f"the knobs are as they were found: {event.why}{left}", bool(event.unrestored)
        case ConfigurationRefused():
            return "refused", f"{event.requested}: {event.knob}: {event.reason}", True
        case GuardStepped():
            return "guard", f"{event.limit} was broken, now {event.configuration}: {event.why}", True
        case PhaseChanged():
            change = f"{event.signal} of {event.app} moved from {event.before:.4g} to {event.after:.4g}"
            return "phase", f"{change} ({event.cause}){': ' if event.why else ''}{event.why}", False
        case RhythmFound():
            return "rhythm", f"the steps of {event.app} repeat every {event.period_beats} beats", False
        case _:
            return _of_people(event)


def _of_people(event: Event) -> tuple[str, str, bool] | None:
    match event:
        case BudgetChanged():
            return "limits", f"now {named(event.limits)} ({event.source})", False
        case BudgetRefused():
            return "refused", f"limits of {event.source}: {event.reason}", True
        case ObjectiveChanged():
            return "objective", f"now {event.objective} ({event.source})", False
        case ControlPaused():
            return "paused", f"the knobs are left alone ({event.source})", False
        case ControlResumed():
            return "resumed", f"the knobs may be turned again ({event.source})", False
        case AppJoined():
            total = f", {event.total_work:g} steps to do" if event.total_work is not None else ""
            return "joined", f"{event.app}{total}", False
        case AppLeft():
            return "left", f"{event.app}: {event.reason}", False
        case ControlRefused():
            why = event.why or f"{event.holder} holds the machine"
            return "refused", f"{event.app} is heard but not controlled: {why}", True
        case SensorLost():
            return "sensor", f"{event.sensor} lost: {event.reason}", True
        case Throttled():
            return "throttled", ", ".join(event.reasons) or "not any more", bool(event.reasons)
        case SensorRecovered():
            return "sensor", f"{event.sensor} answers again", False
        case _:
            return None
