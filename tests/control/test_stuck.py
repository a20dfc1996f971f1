"""A stuck power sensor is said once. In virtual time. Not covered: real ones (platforms/test_bad_boards.py)."""

from __future__ import annotations

import anyio
import pytest

from ceml.control.bus import Bus
from ceml.control.stuck import StuckWatcher
from ceml.domain.events import SensorStuck, WindowClosed
from ceml.domain.knobs import Configuration
from ceml.domain.values import NAN, Observation


def window(level: float, power_w: float, samples: int = 5, rate_hz: float | None = None) -> WindowClosed:
    seen = Observation(
        configuration=Configuration({"a": level}),
        start_s=0.0,
        end_s=1.0,
        beats=9,
        steps=9.0,
        rate_hz=3.0 * level if rate_hz is None else rate_hz,
        power_w=power_w,
        power_samples=samples,
    )
    return WindowClosed(at_s=1.0, app="a", observation=seen, phase="profiling")


def said(virtually, windows: list[WindowClosed]) -> list[SensorStuck]:
    heard: list[SensorStuck] = []

    async def main() -> None:
        bus = Bus()
        eyes = bus.subscribe("eyes", SensorStuck)
        watcher = StuckWatcher(bus)
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: watcher.run(task_status=task_status))
            for each in windows:
                bus.publish(each)
                await anyio.sleep(0.1)
            group.cancel_scope.cancel()
        eyes.close()
        heard.extend([event async for event in eyes])  # type: ignore[misc]

    virtually(main)
    return heard


def test_the_same_power_in_four_configurations_is_said_once(virtually) -> None:
    (stuck,) = said(virtually, [window(level, 5.7) for level in (1.0, 2.0, 3.0, 4.0, 5.0, 1.0)])
    assert (stuck.power_w, stuck.configurations) == (5.7, 4)
    assert "ceml doctor" in stuck.why


def test_where_the_program_hardly_follows_it_takes_more_configurations(virtually) -> None:
    (stuck,) = said(virtually, [window(level, 5.7, rate_hz=9.0) for level in range(20)])
    assert stuck.configurations == 12


@pytest.mark.parametrize(
    "windows",
    [
        [window(1.0, 5.7)] * 20,
        [window(level, 5.7 + 1e-6 * level) for level in (1.0, 2.0, 3.0, 4.0, 5.0)],
        [window(level, 5.7 if level != 3.0 else 6.0) for level in (1.0, 2.0, 3.0, 4.0, 5.0)],
        [window(level, 5.7, rate_hz=9.0 + level) for level in (1.0, 2.0, 3.0, 4.0, 5.0)],  # a coarse one
        [window(level, NAN) for level in (1.0, 2.0, 3.0, 4.0, 5.0)],
        [window(level, 5.7, samples=1) for level in (1.0, 2.0, 3.0, 4.0, 5.0)],
    ],
)
def test_a_sensor_that_moves_or_says_nothing_is_not_stuck(virtually, windows) -> None:
    assert said(virtually, windows) == []
