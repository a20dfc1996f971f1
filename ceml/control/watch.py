"""Small loops that watch: one per sensor, one for phase changes."""

from __future__ import annotations

from math import inf, nan, sqrt
from typing import TYPE_CHECKING

import anyio

from ceml.domain.events import AppLeft, PhaseChanged, Sampled, SensorLost, SensorRecovered, WindowClosed
from ceml.errors import Temporary, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from ceml.control.bus import Bus
    from ceml.control.ports import Sensor
    from ceml.domain.contracts import ChangeDetector
    from ceml.domain.knobs import Configuration
    from ceml.domain.values import Sample

FAILURES_ALLOWED = 3  # reads in a row; one bad transfer on a bus is nothing to talk about
LONGEST_PATIENCE_S = 30.0  # between two tries of a lost sensor


class SensorPoller:
    """Reads one sensor at its period and announces what it said, that it was lost, that it is back.

    A read may take between one and two deadlines. One cancel scope serves all reads, its deadline moved on now and
    then: a scope for each read would be a third of a poll's cost.
    """

    def __init__(self, sensor: Sensor, bus: Bus) -> None:
        self._sensor = sensor
        self._bus = bus
        self._deadline_s = max(1.0, 5 * sensor.period_s)
        self._failures = 0
        self._lost = False
        self._due_s = 0.0

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Poll until cancelled; on a fixed beat, so that slow reads do not stretch the period."""
        self._due_s = anyio.current_time()
        task_status.started()
        while True:
            with anyio.CancelScope() as scope:
                await self._poll_for_ever(scope)
            self._next(self._failed(f"no answer within {self._deadline_s:g} s", gone=False))

    async def _poll_for_ever(self, scope: anyio.CancelScope) -> None:
        """Until a read takes too long."""
        sensor, wait_s = self._sensor, max(self._due_s - anyio.current_time(), 0.0)
        while True:
            if scope.deadline < self._due_s + self._deadline_s or scope.deadline == inf:
                scope.deadline = self._due_s + 2 * self._deadline_s  # moved now and then: moving costs, too
            await anyio.sleep(wait_s)
            try:
                sample = await sensor.read()
            except Temporary as error:
                patience_s = self._failed(str(error), gone=False)
            except Unavailable as error:
                patience_s = self._failed(str(error), gone=True)
            else:
                self._succeeded(sample)
                patience_s = 0.0
            wait_s = self._next(patience_s)

    def _next(self, patience_s: float) -> float:
        """When the next poll is due: a period on, later while the sensor is lost, never in the past.

        Returns:
            Seconds until then.
        """
        now_s, period_s = anyio.current_time(), self._sensor.period_s
        self._due_s = max(self._due_s + period_s, now_s + patience_s) if patience_s else self._due_s + period_s
        if self._due_s < now_s:  # fell behind: skip what was missed, keep the beat
            self._due_s = now_s + period_s - (now_s - self._due_s) % period_s
        return self._due_s - now_s

    def _failed(self, reason: str, *, gone: bool) -> float:
        self._failures += 1
        if not self._lost and (gone or self._failures >= FAILURES_ALLOWED):
            self._lost = True
            self._bus.publish(SensorLost(at_s=anyio.current_time(), sensor=self._sensor.name, reason=reason))
        if not self._lost:
            return 0.0
        doublings = min(self._failures - FAILURES_ALLOWED, 16)
        return min(self._sensor.period_s * 2 ** max(doublings, 0), LONGEST_PATIENCE_S)

    def _succeeded(self, sample: Sample) -> None:
        self._failures = 0
        if self._lost:
            self._lost = False
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


class PhaseWatcher:
    """Compares idle windows of an application and announces when its rate or power changed for good (C21)."""

    def __init__(self, bus: Bus, make_detector: Callable[[], ChangeDetector]) -> None:
        self._bus = bus
        self._make_detector = make_detector
        self._inbox = bus.subscribe("phase watcher", WindowClosed, AppLeft)
        self._watched: dict[tuple[str, str], tuple[Configuration, dict[str, ChangeDetector], dict[str, float]]] = {}

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Watch until cancelled."""
        task_status.started()
        async for event in self._inbox:
            if isinstance(event, WindowClosed) and event.phase == "idle":
                self._window(event)
            elif isinstance(event, AppLeft):
                self._watched.pop((event.app, event.source), None)

    def _window(self, event: WindowClosed) -> None:
        key, observation = (event.app, event.source), event.observation
        if key not in self._watched or self._watched[key][0] != observation.configuration:
            detectors = {"rate": self._make_detector(), "power": self._make_detector()}
            self._watched[key] = (observation.configuration, detectors, {})
        _, detectors, before = self._watched[key]
        readings = {
            "rate": (
                observation.rate_hz,
                event.predicted_rate_hz,
                observation.rate_hz * observation.step_cv / sqrt(max(observation.beats, 1)),
            ),
            "power": (
                observation.power_w,
                event.predicted_power_w,
                observation.power_w * observation.power_cv / sqrt(max(observation.power_samples, 1)),
            ),
        }
        for signal, (measured, predicted, std) in readings.items():
            if detectors[signal].update(measured, predicted=predicted, std=std):
                del self._watched[key]
                self._bus.publish(
                    PhaseChanged(
                        at_s=event.at_s,
                        app=event.app,
                        source=event.source,
                        signal=signal,
                        before=before.get(signal, nan),
                        after=measured,
                    )
                )
                return
            before.setdefault(signal, measured)
