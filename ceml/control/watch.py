"""Small loops that watch: one per sensor, one for phase changes."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import dataclass, field
from math import inf, nan, sqrt
from typing import TYPE_CHECKING

import anyio

from ceml.control.believable import Readings
from ceml.control.ports import InstantSensor
from ceml.domain.events import (
    AppJoined,
    AppLeft,
    KnobOverwritten,
    PhaseChanged,
    Sampled,
    SensorLost,
    SensorRecovered,
    Throttled,
    WindowClosed,
)
from ceml.domain.phase import MODEL_SMALL, Signs, cause_of
from ceml.errors import Temporary, Unavailable
from ceml.timeline import next_tick

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from ceml.control.bus import Bus
    from ceml.control.ports import Sensor
    from ceml.domain.contracts import ChangeDetector
    from ceml.domain.knobs import Configuration
    from ceml.domain.values import Observation, Sample

FAILURES_ALLOWED = 3  # reads in a row; one bad transfer on a bus is nothing to talk about
TURNS = 2  # configurations of one program that are watched, each on its own
PATIENCE_S = 60.0  # of the phase watcher for temperatures alone: each closed window makes it look anyway
LONGER = 1.25  # times as long until each next try: that it is back is seen after a fifth of the time it was away ...
LONGEST_PATIENCE_S = 30.0  # ... or this
WELL_S = 60.0  # without a loss: what was lost before then is forgotten


class SensorPoller:
    """Reads one sensor at its period and announces what it said, that it was lost, that it is back.

    One that is lost again soon after it came back is asked half as often for each such time, and is back only when it
    answers several times in a row: a sensor that lies every other time would else be lost and back for ever.

    A read may take between one and two deadlines. One cancel scope serves all reads, its deadline moved on now and
    then: a scope for each read would be a third of a poll's cost.
    """

    def __init__(self, sensor: Sensor, bus: Bus) -> None:
        self._sensor = sensor
        self._bus = bus
        self._deadline_s = max(1.0, 5 * sensor.period_s)
        self._readings = Readings()
        self._failures = 0
        self._answers = 0  # in a row
        self._lost = False
        self._back_s = -inf
        self._relapses = 0
        self._due_s = 0.0
        self._throttled: tuple[str, ...] = ()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Poll until cancelled; on a fixed beat, so that slow reads do not stretch the period."""
        sensor, self._due_s = self._sensor, anyio.current_time()
        task_status.started()
        if isinstance(sensor, InstantSensor):
            await self._tick_for_ever(sensor)
        while True:
            with anyio.CancelScope() as scope:
                await self._poll_for_ever(scope)
            self._failed(f"no answer within {self._deadline_s:g} s", anyio.current_time())

    async def _tick_for_ever(self, sensor: InstantSensor) -> None:
        """The loop itself calls what answers at once; what is wrong beyond a sensor's failures is raised here."""
        loop = asyncio.get_running_loop()
        broken: asyncio.Future[None] = loop.create_future()

        def tick() -> None:
            nonlocal timer
            try:
                try:
                    sample = self._readings.believed(sensor.read_now())
                except (Temporary, Unavailable) as error:
                    wait_s = self._missed(error, loop.time())
                else:
                    wait_s = self._took(sample, loop.time())
            except BaseException as error:  # raised in the task, where it ends the house as any bug does
                if not broken.done():
                    broken.set_exception(error)
                return
            timer = loop.call_later(wait_s, tick)

        timer = loop.call_at(self._due_s, tick)
        try:
            await broken
        finally:
            timer.cancel()

    async def _poll_for_ever(self, scope: anyio.CancelScope) -> None:
        """Until a read takes too long."""
        sensor, time = self._sensor, asyncio.get_running_loop().time
        wait_s, deadline_s = max(self._due_s - time(), 0.0), -inf
        while True:
            if deadline_s < self._due_s + self._deadline_s:
                scope.deadline = deadline_s = self._due_s + 2 * self._deadline_s  # now and then: moving costs, too
            await anyio.sleep(wait_s)
            try:
                sample = self._readings.believed(await sensor.read())
            except (Temporary, Unavailable) as error:
                wait_s = self._missed(error, time())
            else:
                wait_s = self._took(sample, time())

    def _next(self, now_s: float, patience_s: float) -> float:
        """When the next poll is due: with the next tick of its period, later while the sensor is lost.

        Returns:
            Seconds until then.
        """
        period_s = self._sensor.period_s
        self._due_s = next_tick(max(now_s + max(patience_s - period_s, 0.0), self._due_s), period_s)
        return self._due_s - now_s

    def _missed(self, error: Temporary | Unavailable, now_s: float) -> float:
        """No reading; returns the seconds until the next poll, as all of these do."""
        return self._failed(str(error), now_s, gone=isinstance(error, Unavailable))

    def _failed(self, reason: str, now_s: float, *, gone: bool = False) -> float:
        self._failures, self._answers = self._failures + 1, 0
        if not self._lost and (gone or self._failures >= FAILURES_ALLOWED):
            self._lost = True
            self._relapses = self._relapses + 1 if now_s - self._back_s < WELL_S else 0
            self._bus.publish(SensorLost(at_s=now_s, sensor=self._sensor.name, reason=reason))
        if not self._lost:
            return self._next(now_s, 0.0)
        tries = min(max(self._failures - FAILURES_ALLOWED, 0), 64)
        longer = LONGER**tries * 2.0 ** min(self._relapses, 16)
        return self._next(now_s, min(self._sensor.period_s * longer, LONGEST_PATIENCE_S))

    def _took(self, sample: Sample, now_s: float) -> float:
        self._failures, self._answers = 0, self._answers + 1
        if self._lost and self._relapses and self._answers < FAILURES_ALLOWED:
            return self._next(now_s, 0.0)  # not yet: it lied before
        if self._lost:
            self._lost, self._back_s = False, sample.at_s
            self._bus.publish(SensorRecovered(at_s=sample.at_s, sensor=self._sensor.name))
        self._bus.publish(
            Sampled(
                at_s=sample.at_s,
                sensor=self._sensor.name,
                rails_w=sample.rails_w,
                utilisation=sample.utilisation,
                temperatures_c=sample.temperatures_c,
                covers_s=sample.covers_s,
            )
        )
        if sample.throttled != self._throttled:
            self._throttled = sample.throttled
            self._bus.publish(Throttled(at_s=sample.at_s, sensor=self._sensor.name, reasons=sample.throttled))
        return self._next(now_s, 0.0)


@dataclass
class _Watched:
    """One application while it is idle in one configuration."""

    configuration: Configuration
    detectors: dict[str, ChangeDetector]
    before: Signs | None = None
    near: dict[str, bool] = field(default_factory=dict[str, bool])  # was a prediction of this signal ever right?

    def moved(self, configuration: Configuration) -> None:
        """Another configuration is in force; what the detectors know of the noise they keep."""
        self.configuration, self.before, self.near = configuration, None, {}
        for detector in self.detectors.values():
            detector.reset()


class PhaseWatcher:
    """Compares idle windows of an application and announces when its rate or power changed for good (C21).

    The two latest configurations are watched each on its own, so that two that take turns do not hide a change.
    Two detectors, one for each signal; what they fired at, sensors and neighbours give a likely cause to. A model is
    said to be wrong once in a configuration: if learning from that did not help, saying it again will not either.
    """

    def __init__(self, bus: Bus, make_detector: Callable[[], ChangeDetector]) -> None:
        self._bus = bus
        self._make_detector = make_detector
        self._inbox = bus.subscribe(
            "phase watcher",
            *(WindowClosed, AppJoined, AppLeft, KnobOverwritten, Sampled, Throttled),
            gathered=(Sampled,),
            patience_s=PATIENCE_S,
        )
        self._watched: dict[tuple[str, str], list[_Watched]] = {}  # the latest first
        self._blamed: set[tuple[tuple[str, str], Configuration]] = set()
        self._present: set[tuple[str, str]] = set()
        self._hottest_c = nan
        self._throttled: dict[str, tuple[str, ...]] = {}  # by sensor

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Watch until cancelled."""
        task_status.started()
        async for event in self._inbox:
            match event:
                case WindowClosed() if event.phase == "idle":
                    self._window(event)
                case Sampled() if event.temperatures_c:
                    self._hottest_c = max(event.temperatures_c.values())
                case Throttled():
                    self._throttled[event.sensor] = event.reasons
                case KnobOverwritten():  # the latest windows may be of another state
                    for watched in [each for known in self._watched.values() for each in known]:
                        watched.moved(watched.configuration)
                case AppJoined():
                    self._present.add((event.app, event.source))
                case AppLeft():
                    key = (event.app, event.source)
                    self._present.discard(key)
                    self._watched.pop(key, None)
                    self._blamed = {blame for blame in self._blamed if blame[0] != key}
                case _:
                    pass

    def _window(self, event: WindowClosed) -> None:
        key, seen = (event.app, event.source), event.observation
        watched = self._watching(key, seen.configuration)
        now = self._signs(key, seen)
        for signal, measured, predicted, error in (
            ("rate", seen.rate_hz, event.predicted_rate_hz, seen.step_cv / sqrt(max(seen.beats, 1))),
            ("power", seen.power_w, event.predicted_power_w, seen.power_cv / sqrt(max(seen.power_samples, 1))),
        ):
            near = abs(measured / predicted - 1.0) <= MODEL_SMALL if predicted > 0.0 else True
            watched.near[signal] = near or watched.near.get(signal, False)
            blamed = (key, seen.configuration) in self._blamed
            expected = nan if blamed else predicted
            if watched.detectors[signal].update(measured, predicted=expected, std=measured * error):
                self._changed(event, watched, signal, now)
                return
        watched.before = watched.before or now

    def _watching(self, key: tuple[str, str], configuration: Configuration) -> _Watched:
        """What is watched in this configuration, as it was left, else a copy that starts anew."""
        known = self._watched.setdefault(key, [])
        found = next((each for each in known if each.configuration == configuration), None)
        if found is None:
            if len(known) == TURNS:
                found = known[-1]
            elif known:
                found = _Watched(configuration, deepcopy(known[0].detectors))
            else:
                found = _Watched(configuration, {signal: self._make_detector() for signal in ("rate", "power")})
            found.moved(configuration)
        self._watched[key] = [found, *(each for each in known if each is not found)]
        return found

    def _signs(self, key: tuple[str, str], seen: Observation) -> Signs:
        return Signs(
            rate_hz=seen.rate_hz,
            power_w=seen.power_w,
            busiest=max(seen.utilisation.values(), default=nan),
            hottest_c=self._hottest_c,
            throttled=", ".join(reason for reasons in self._throttled.values() for reason in reasons),
            others=len(self._present - {key}),
        )

    def _changed(self, event: WindowClosed, watched: _Watched, signal: str, now: Signs) -> None:
        key, before = (event.app, event.source), watched.before or Signs()
        wrong = not watched.near[signal] and (key, watched.configuration) not in self._blamed
        cause, why = cause_of(before, now, model_was_right=not wrong)
        if cause == "model":
            self._blamed.add((key, watched.configuration))
            watched.moved(watched.configuration)
        else:
            self._blamed = {blame for blame in self._blamed if blame[0] != key}
            del self._watched[key]
        expected = {"rate": event.predicted_rate_hz, "power": event.predicted_power_w}[signal]
        said = {"rate": (before.rate_hz, now.rate_hz), "power": (before.power_w, now.power_w)}[signal]
        self._bus.publish(
            PhaseChanged(
                at_s=event.at_s,
                app=event.app,
                source=event.source,
                signal=signal,
                before=expected if cause == "model" else said[0],
                after=said[1],
                cause=cause,
                why=why,
            )
        )
