"""A record read once from beginning to end, in memory that does not grow with its length: what pictures are made of."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from math import isfinite, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ceml.domain import events
from ceml.domain.values import NAN
from ceml.errors import SettingsError
from ceml.telemetry.ledger import Ledger
from ceml.telemetry.record import as_event, read
from ceml.telemetry.report.chronicle import Agreement, Lines, Remark, Span, Told, in_words
from ceml.telemetry.report.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ceml.domain.events import Event, RunEnded, RunStarted
    from ceml.domain.knobs import Configuration
    from ceml.domain.values import Limits, Observation

MOST_REMARKS = 400  # decisions, steps of the guard, ... of which the words are kept
MOST_SPANS = 2000
OPENING = 3.0  # the beginning of a program is kept in detail up to so many times the time to its first decision
FAR_S = 1e11  # moments beyond are spoilt: no monotonic clock counts thousands of years
RUNNING = ("idle", "resumed")  # phases in which the decided configuration is in force


class Digest:
    """What a record holds, thinned for pictures.

    Attributes:
        path: The record.
        name: What to call it beside others.
        ledger: As in the run itself.
        started: First line; None where it is missing.
        ended: Last line; None where the run was killed or the record is cut.
        told: One for every application that had the machine.
        lines: Signals over the whole time.
        opening: Signals up to soon after the first decision, finer.
        opening_s: When that ended.
        remarks: What happened, the first `MOST_REMARKS`.
        untold: How many remarks were left out.
        spans: Phases of control, the first `MOST_SPANS`.
        kinds: Events by kind.
        begun_s: First event.
        unknown: Lines of kinds or shapes that this version does not know.
        bad_lines: How many lines are no event, and the first of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.ledger = Ledger(())
        self.started: RunStarted | None = None
        self.ended: RunEnded | None = None
        self.told: list[Told] = []
        self.lines, self.opening = Lines(), Lines()
        self.opening_s = float("inf")
        self.remarks: list[Remark] = []
        self.untold = 0
        self.spans: list[Span] = []
        self.kinds: dict[str, int] = {}
        self.begun_s = NAN
        self.unknown = 0
        self.bad_lines = 0
        self.first_bad_line = 0
        self._span_s = NAN
        self._phase = ""
        self._joules = 0.0
        self._latest_s = NAN

    @property
    def end_s(self) -> float:
        """When the latest event was."""
        return self.ledger.last_s

    def bad(self, number: int) -> None:
        """A line is no event."""
        self.bad_lines += 1
        self.first_bad_line = self.first_bad_line or number

    def on(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, events.Heartbeat):
            self.ledger.on(event)
        elif isinstance(event, events.Sampled):
            self.ledger.on(event)
            self._sampled(event)
        else:
            self._happened(event)
        if self.ledger.chapter.phase != self._phase:
            self._enter(self.ledger.chapter.phase, event.at_s)

    def close(self) -> None:
        """The record is at its end."""
        self._enter("", self.end_s)

    def _sampled(self, event: events.Sampled) -> None:
        readings, rails = self.ledger.readings_w, self.ledger.total_rails
        if rails and rails[0] in event.rails_w:
            total = 0.0
            for rail in rails:
                total += readings.get(rail, NAN)
            self.lines.power.add(event.at_s, total)
            if event.at_s <= self.opening_s:
                self.opening.power.add(event.at_s, total)
        new_j = self.ledger.energy_j - self._joules
        if new_j:
            self._joules += new_j
            if self.told and self._phase:
                joules = self.told[-1].joules
                joules[self._phase] = joules.get(self._phase, 0.0) + new_j

    def _happened(self, event: Event) -> None:
        if isinstance(event, events.RunStarted):
            self.started = event
            self.ledger = Ledger(event.total_rails)
            self._joules = 0.0
            self._caps(event.at_s, event.limits)
        self.ledger.on(event)
        chapter = self.ledger.chapter
        if chapter.app and (not self.told or self.told[-1].chapter is not chapter):
            self.told.append(Told(chapter, event.at_s))
        told = self.told[-1] if self.told else None
        match event:
            case events.WindowClosed():
                self._window(event.observation)
                if told is not None and event.app == chapter.app:
                    _agree(told, event)
            case events.Decided() if told is not None:
                told.decided = event
                if not isfinite(told.first_decided_s):
                    told.first_decided_s = event.at_s
                    if len(self.told) == 1:
                        self.opening_s = event.at_s + (OPENING - 1) * (event.at_s - told.begun_s)
            case events.SpacePredicted() if told is not None and event.app == chapter.app:
                if len(event.states) == len(event.rate_hz) == len(event.power_w):
                    told.predicted = event
                    told.first_predicted = told.first_predicted or event
                else:
                    self.unknown += 1
            case events.RunEnded():
                self.ended = event
            case events.BudgetChanged():
                self._caps(event.at_s, event.limits)
            case events.SensorLost():
                for lines in (self.lines, self.opening):
                    lines.power.gap(event.at_s)
            case events.ConfigurationApplied():
                self._configuration(event.in_force_s if isfinite(event.in_force_s) else event.at_s, event.effective)
            case events.ConfigurationReleased():
                self._configuration(event.at_s, event.effective)
            case _:
                pass
        self._remark(event)

    def _each(self, at_s: float) -> tuple[Lines, ...]:
        return (self.lines, self.opening) if at_s <= self.opening_s else (self.lines,)

    def _window(self, seen: Observation) -> None:
        if not (isfinite(seen.start_s) and isfinite(seen.end_s)):
            return
        for lines in self._each(seen.start_s):
            if seen.start_s > self._latest_s:  # nothing is known in between
                lines.rate.gap(self._latest_s)
                lines.window_power.gap(self._latest_s)
            for at_s in (seen.start_s, seen.end_s):
                lines.rate.add(at_s, seen.rate_hz)
                lines.window_power.add(at_s, seen.power_w)
            for device, share in seen.utilisation.items():
                lines.busy.setdefault(device, Trace()).add((seen.start_s + seen.end_s) / 2, share)
        self._latest_s = seen.end_s

    def _caps(self, at_s: float, limits: Limits) -> None:
        for lines in self._each(at_s):
            lines.cap.change(at_s, NAN if limits.power_cap_w is None else limits.power_cap_w)

    def _configuration(self, at_s: float, effective: Configuration) -> None:
        levels: Mapping[str, tuple[float | str, ...]] = self.started.knobs if self.started else {}
        for lines in self._each(at_s):
            for knob, level in effective.items():
                if isinstance(level, str):  # its place among the names that the board knows
                    names = levels.get(knob, ())
                    value = float(names.index(level)) if level in names else NAN
                else:
                    value = float(level)
                lines.knobs.setdefault(knob, Trace()).change(at_s, value)

    def _enter(self, phase: str, at_s: float) -> None:
        if self._phase and at_s > self._span_s and len(self.spans) < MOST_SPANS:
            self.spans.append(Span(self._span_s, at_s, self._phase))
        self._phase, self._span_s = phase, at_s

    def _remark(self, event: Event) -> None:
        remark = in_words(event)
        if remark is None:
            return
        if len(self.remarks) < MOST_REMARKS:
            self.remarks.append(remark)
        else:
            self.untold += 1


def _agree(told: Told, event: events.WindowClosed) -> None:
    seen = event.observation
    joules = seen.power_w * seen.counted_s
    if isfinite(joules):  # a state left before its first beat has power, but no time that counts
        told.window_steps += seen.steps
        if event.phase == "profiling":
            told.window_joules_profiling += joules
        else:
            told.window_joules_running += joules
    if isfinite(event.predicted_rate_hz):
        sums = told.agreements.setdefault(seen.configuration, Agreement())
        sums.windows += 1
        sums.predicted_rate_hz += event.predicted_rate_hz
        sums.predicted_power_w += event.predicted_power_w
    variance = _relative_se(seen.step_cv, seen.beats) ** 2 + _relative_se(seen.power_cv, seen.power_samples) ** 2
    count, total = told.spread.get(seen.configuration, (0, 0.0))
    told.spread[seen.configuration] = (count + 1, total + variance)


def _relative_se(cv: float, count: int) -> float:
    return cv / sqrt(count) if isfinite(cv) and count > 0 else NAN


def quick_loads() -> Callable[[bytes], Any]:
    """A reader of JSON: orjson where it is installed, which halves the time for a day's record, else Python's."""
    try:
        from orjson import loads
    except ImportError:
        return json.loads
    return loads


def tell_apart(runs: Sequence[Digest]) -> None:
    """Records of one name in several directories are named with as much of their paths as they differ by."""
    longest = max(len(run.path.absolute().parts) for run in runs)
    for count in range(2, longest + 1):
        named = Counter(run.name for run in runs)
        for run in runs:
            if named[run.name] > 1:
                run.name = str(Path(*run.path.absolute().parts[-count:]))


def digest(path: Path) -> Digest:
    """Read a record.

    Raises:
        SettingsError: It cannot be read, is no record, or holds nothing that this version knows.
    """
    found = Digest(path)
    kinds: dict[str, int] = defaultdict(int)
    for entry in read(path, on_bad_line=found.bad, loads=quick_loads()):
        event = as_event(entry)
        if event is None or not -FAR_S < event.at_s < FAR_S:
            found.unknown += 1
            continue
        if not kinds:
            found.begun_s = event.at_s
        kinds[entry["event"]] += 1
        found.on(event)
    found.kinds = dict(kinds)
    found.close()
    if not kinds or not isfinite(found.begun_s):
        raise SettingsError(
            f"{path} holds no event that this version of ceml knows ({found.unknown} lines of other kinds); "
            "give a file that `ceml serve --record` wrote"
        )
    return found
