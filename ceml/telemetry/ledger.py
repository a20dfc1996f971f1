"""The ledger: what a run has done and cost so far, added up from events. Pure; it waits for nothing and writes nothing.

Energy is integrated over the timestamps of samples, for each rail on its own: the trapezoid between instantaneous
readings, the rectangle of readings that are means of the past `covers_s`; what such means do not cover is bridged by
a trapezoid. Nothing is counted from a lost sensor's last reading on until it answers again, nor over a gap in which
nobody looked: the loop was held up, or the machine slept.

One application holds the machine at a time; each new one opens a `Chapter`: its own states, baseline and saving.
All steps count as work. Only those done while power was measured are held against energy: a program carries over
what it did while nobody listened, and a sensor may have been lost in the middle of a step. Nor does a stall enter the
saving: not the steps that a window left out as such, and not the silence from which a program comes back.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappush, heapreplace, nlargest
from math import inf, isfinite
from typing import TYPE_CHECKING, NamedTuple

from ceml.domain.events import (
    SILENT,
    AppJoined,
    AppLeft,
    ConfigurationApplied,
    ConfigurationReleased,
    ConfigurationWithheld,
    ControlPaused,
    ControlRefused,
    ControlResumed,
    Decided,
    Heartbeat,
    KnobOverwritten,
    LinesRefused,
    PhaseChanged,
    RunEnded,
    RunStarted,
    Sampled,
    SensorLost,
    WindowClosed,
)
from ceml.domain.values import NAN
from ceml.telemetry.chapter import Chapter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ceml.domain.events import Event
    from ceml.domain.knobs import Configuration
    from ceml.domain.values import Observation

REMARKS = ("far_time", "not_finite")  # said of lines that count all the same
GAP = 40  # times the usual time between two samples, of which as many were seen
EARLY_GAP_S, EARLY = 10.0, 5  # the least that is a gap while fewer were seen, and how many it takes to know of any
TRUSTED = 2.0  # times the usual time after the last sample of all, of which the power is still believed
MOST_STALLS = 1024  # of one window: so many of its slowest steps are remembered until it closes
Key = tuple[str, str]  # application, source


class _Step(NamedTuple):
    """From one beat to the next; compared by how slow it was."""

    step_s: float
    at_s: float
    seconds: float
    steps: float  # of which the energy was measured
    energy_j: float


class _Rail:
    """The running integral of one rail's power."""

    def __init__(self) -> None:
        self.at_s = NAN
        self.power_w = NAN
        self._covered_s = 0.0
        self._usual_s, self._seen = 0.0, 0  # between two samples, a running mean, and of how many

    @property
    def _longest_s(self) -> float:
        """Longer than this nobody looked: the loop was held up, or the machine slept."""
        if self._seen < EARLY:
            return inf
        return GAP * self._usual_s if self._seen >= GAP else max(GAP * self._usual_s, EARLY_GAP_S)

    def lost(self) -> None:
        """The sensor answers no more: what comes after the last sample is not measured."""
        self.at_s = self.power_w = NAN

    def measured_s(self, until_s: float) -> float:
        """Seconds in which it was measured; while it lives, those up to the next sample will be, too."""
        return self._covered_s + (min(until_s - self.at_s, self._longest_s) if isfinite(self.at_s) else 0.0)

    def unproven_s(self, until_s: float) -> float:
        """How many of those seconds no sample will ever confirm, where none comes after `until_s`."""
        if not isfinite(self.at_s) or not self._seen:
            return 0.0
        return max(min(until_s - self.at_s, self._longest_s) - TRUSTED * self._usual_s, 0.0)

    def since_j(self, at_s: float, since_s: float) -> float:
        """Joules from the last sample on, or from `since_s`, if power stays as it is."""
        if not isfinite(self.at_s):
            return 0.0
        return self.power_w * max(min(at_s, self.at_s + self._longest_s) - max(self.at_s, since_s), 0.0)

    def add(self, at_s: float, power_w: float, covers_s: float, since_s: float) -> tuple[float, float]:
        """Take one sample.

        Returns:
            Joules since the sample before, and the part of them that fell after `since_s`.
        """
        if not isfinite(power_w) or at_s <= self.at_s:
            return 0.0, 0.0
        if at_s - self.at_s > self._longest_s:
            self.lost()
        elif isfinite(self.at_s):
            self._seen += 1
            self._usual_s += (at_s - self.at_s - self._usual_s) / min(self._seen, 5 * GAP)
        covered_s = max(covers_s, 0.0)
        bridged_s = 0.0
        if isfinite(self.at_s):
            covered_s = min(covered_s, at_s - self.at_s)
            bridged_s = at_s - self.at_s - covered_s
        joules = power_w * covered_s
        if bridged_s:
            joules += (power_w + self.power_w) / 2 * bridged_s
        took_s = covered_s + bridged_s
        self.at_s, self.power_w = at_s, power_w
        self._covered_s += took_s
        share = min(max(at_s - since_s, 0.0) / took_s, 1.0) if took_s > 0 else 0.0
        return joules, joules * share


class Ledger:
    """Adds up the events of a run.

    Attributes:
        total_rails: Rails whose sum is the power of the board; empty: energy is not known.
        steps: Steps of all applications while they held the machine.
        unmeasured_steps: Those of them that were done while no power was measured.
        chapters: How many applications held the machine so far.
        energy_j: Energy of the board since the first sample.
        measured: Whether any power was measured at all.
        configuration: What is in force now; None before that was said.
        why: Why it is.
        chapter: The application in charge, or the last one.
        refused_lines: Lines on the pipe that were no good.
        overwritten: Knob -> how often somebody else turned it.
        decisions: How many there were.
        readings_w: Last reading of each rail; those of a lost sensor are gone.
        temperature_c: The hottest zone, last reading.
        last_s: When the latest event was; NaN before the first.
    """

    def __init__(self, total_rails: Sequence[str]) -> None:
        self.total_rails = tuple(total_rails)
        self.steps = self.unmeasured_steps = 0.0
        self.chapters = 0
        self.energy_j = 0.0
        self.measured = False
        self.configuration: Configuration | None = None
        self.why = ""
        self.refused_lines = 0
        self.overwritten: dict[str, int] = {}
        self.decisions = 0
        self.readings_w: dict[str, float] = {}
        self.temperature_c = NAN
        self.chapter = Chapter("", NAN, None)
        self._started: RunStarted | None = None
        self.last_s = NAN
        self._first_s = NAN
        self._rails = {rail: _Rail() for rail in self.total_rails}
        self._rails_of: dict[str, set[str]] = {}  # sensor -> rails of the total that it gave
        self._read_by: dict[str, str] = {}  # rail -> sensor
        self._latest_sensor = ""  # whose rails those in `_read_by` surely are
        self._queue: list[Key] = []  # applications that are here; the first one holds the machine
        self._key: Key | None = None  # whose chapter it is
        self._earlier: tuple[Key, Chapter] | None = None  # the last one in which anything was measured
        self._profiled_s = 0.0  # in earlier chapters
        self._beat_s = self._measured_s = NAN  # of the holder's last beat; NaN: the next one starts the clock
        self._beat_j = 0.0  # what its chapter had cost up to then
        self._work_hz = 0.0  # of its latest beat
        self._early: dict[Key, Heartbeat] = {}  # of those who beat while the holder had not yet: one gets the machine
        self._slowest: list[_Step] = []  # of the window that is open, a heap

    @property
    def seconds(self) -> float:
        """Seconds from the first event to the latest."""
        return self.last_s - self._first_s if isfinite(self._first_s) else 0.0

    @property
    def power_w(self) -> float:
        """Watts of the board, last readings; NaN where a rail of the total has none."""
        return sum(self.readings_w.get(rail, NAN) for rail in self.total_rails) if self.total_rails else NAN

    @property
    def told(self) -> Chapter:
        """The last chapter in which anything was measured: of one that only joined there is nothing to tell."""
        return self.chapter if self.chapter.latest is not None or self._earlier is None else self._earlier[1]

    @property
    def profiling_s(self) -> float:
        """Seconds spent profiling, over all applications."""
        return self._profiled_s + self.chapter.profiling_s(self.last_s)

    def ended(self, reason: str) -> RunEnded:
        """The last event of the run, made from what was added up."""
        return RunEnded(
            at_s=self.last_s if isfinite(self.last_s) else 0.0,
            reason=reason,
            steps=self.steps,
            seconds=self.seconds,
            energy_j=self.energy_j if self.measured else NAN,
            profiling_s=self.profiling_s,
        )

    def on(self, event: Event) -> None:
        """Take in one event."""
        if not self.last_s >= event.at_s:
            self.last_s = event.at_s
        if not isfinite(self._first_s):
            self._first_s = event.at_s
        match event:
            case Heartbeat():
                if self._holds(event):
                    self._worked(event)
                elif not isfinite(self._beat_s) and (key := (event.app, event.source)) in self._queue:
                    before = self._early.get(key)
                    self._early[key] = replace(event, work=event.work + before.work) if before else event
            case Sampled():
                self._sampled(event)
            case WindowClosed():
                self._measured_window(event)
            case Decided():
                self.decisions += 1
                self.chapter.decide(event)
            case PhaseChanged() if self._holds(event):
                self.chapter.changed()
            case AppJoined() | AppLeft():
                self._came_or_went(event)
            case RunEnded():
                self._take_back_unproven()
            case ControlRefused() if self._queue[:1] == [(event.app, event.source)]:
                self._gave_way(event)
            case _:
                self._machine(event)

    def _machine(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._started, self.configuration = event, event.found
            case ConfigurationApplied() | ConfigurationWithheld():
                self.why = event.why
                if isinstance(event, ConfigurationApplied):
                    self.configuration = event.effective
                if self._queue:
                    self.chapter.in_force(event)
            case ConfigurationReleased():
                self.configuration, self.why = event.effective, event.why
            case KnobOverwritten():
                self.overwritten[event.knob] = self.overwritten.get(event.knob, 0) + 1
            case ControlPaused():
                self.chapter.paused(event.at_s)
            case ControlResumed():
                self.chapter.resumed(event.at_s)
            case SensorLost():
                for rail in self._rails_of.get(event.sensor, ()):
                    self._rails[rail].lost()
                gone = [rail for rail, sensor in self._read_by.items() if sensor == event.sensor]
                self.readings_w = {rail: watts for rail, watts in self.readings_w.items() if rail not in gone}
            case LinesRefused():
                self.refused_lines += sum(n for reason, n in event.counts.items() if reason not in REMARKS)
            case _:
                pass

    def _measured_window(self, event: WindowClosed) -> None:
        """A window may end as its program leaves, and be told when another one has the machine already."""
        if self._earlier is not None and self._earlier[0] == (event.app, event.source) != self._key:
            self._earlier[1].window(event.observation, event.phase)
            return
        self._leave_out_stalls(event.observation)
        self.chapter.window(event.observation, event.phase)
        seen = event.observation
        self.chapter.shared([app for app, _ in self._queue[1:]], seen.end_s - seen.start_s, event.phase)

    def _holds(self, event: Heartbeat | PhaseChanged) -> bool:
        return bool(self._queue) and self._queue[0] == (event.app, event.source)

    def _worked(self, event: Heartbeat) -> None:
        """Steps were done; the first beat of a chapter only starts the clock, as in a window."""
        measured_s = min([rail.measured_s(event.at_s) for rail in self._rails.values()], default=0.0)
        share = 0.0
        if event.at_s > self._beat_s:
            # Below 0 where what was thought to be measured proves not to be: then it is taken back.
            share = min((measured_s - self._measured_s) / (event.at_s - self._beat_s), 1.0)
        else:
            self.chapter.begin(event.at_s)
            self._slowest = []
        until_j = self.chapter.energy_j + sum(
            [rail.since_j(event.at_s, self.chapter.since_s) for rail in self._rails.values()]
        )
        if event.at_s > self._beat_s and event.work > 0:
            seconds = event.at_s - self._beat_s
            self._work_hz = event.work / seconds
            self._remember(_Step(seconds / event.work, event.at_s, seconds, event.work * share, until_j - self._beat_j))
        self._beat_s, self._measured_s, self._beat_j = event.at_s, measured_s, until_j
        self.steps += event.work
        self.unmeasured_steps += event.work * (1.0 - share)
        self.chapter.worked(event.work * share)

    def _take_back_unproven(self) -> None:
        """The run is over: what was done long after the last sample was never measured, though it was thought to be."""
        unproven_s = max([rail.unproven_s(self._beat_s) for rail in self._rails.values()], default=0.0)
        steps = min(unproven_s * self._work_hz, self.chapter.steps)
        if steps > 0.0:
            self.unmeasured_steps += steps
            self.chapter.worked(-steps)

    def _remember(self, step: _Step) -> None:
        if len(self._slowest) < MOST_STALLS:
            heappush(self._slowest, step)
        elif step > self._slowest[0]:
            heapreplace(self._slowest, step)

    def _leave_out_stalls(self, seen: Observation) -> None:
        """The window says how many of its steps were stalls: the slowest."""
        inside = [step for step in self._slowest if not step.at_s > seen.end_s]
        self._slowest = []
        for step in nlargest(seen.outliers, inside):
            self.chapter.stalled(step.seconds, step.steps, step.energy_j)
            self._beat_j -= step.energy_j

    def _sampled(self, event: Sampled) -> None:
        since_s = self.chapter.since_s if self._queue else float("inf")
        self.readings_w.update(event.rails_w)
        if self._latest_sensor != event.sensor or not event.rails_w.keys() <= self._read_by.keys():
            self._latest_sensor = event.sensor
            self._read_by.update(dict.fromkeys(event.rails_w, event.sensor))
        if event.temperatures_c:
            self.temperature_c = max(event.temperatures_c.values())
        for name, rail in self._rails.items():
            if name not in event.rails_w:
                continue
            joules, of_chapter = rail.add(event.at_s, event.rails_w[name], event.covers_s, since_s)
            self.energy_j += joules
            self.chapter.energy_j += of_chapter
            self.measured = self.measured or isfinite(rail.power_w)
            self._rails_of.setdefault(event.sensor, set()).add(name)

    def _came_or_went(self, event: AppJoined | AppLeft) -> None:
        key, holder = (event.app, event.source), self._queue[:1]
        if isinstance(event, AppLeft):
            self._queue = [other for other in self._queue if other != key]
        elif key not in self._queue:
            self._queue.append(key)
        if self._queue[:1] == holder:
            return
        if isinstance(event, AppLeft) and event.reason == SILENT and isfinite(self._beat_s):
            self.chapter.fell_silent(self._beat_s, self._beat_j)
        self._handed_over(event.at_s)

    def _gave_way(self, event: ControlRefused) -> None:
        """The holder lost the machine to another one that is here, and waits behind all others."""
        silent, heir = self._queue[0], (event.holder, event.holder_source)
        if heir in self._queue[1:]:
            self._queue = [heir, *(other for other in self._queue[1:] if other != heir), silent]
            beat = self._early.get(heir)
            self._handed_over(event.at_s)
            if beat is not None:
                self._worked(beat)

    def _handed_over(self, at_s: float) -> None:
        self.chapter.stop(at_s)
        self._beat_s, self._early = NAN, {}
        if self._queue and self._queue[0] != self._key:
            if self._key is not None and self.chapter.latest is not None:
                self._earlier = self._key, self.chapter
            self._key = self._queue[0]
            self.chapters += 1
            self._profiled_s += self.chapter.profiling_s(at_s)
            self.chapter = Chapter(self._key[0], at_s, self._started)
        elif self._queue:  # it fell silent and is back: its chapter goes on
            self.chapter.open(at_s)
