"""Boards that are plants keep every promise too. Not covered here: all others (test_jetson.py and its neighbours)."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from ceml.platforms.simulated import simulated
from ceml.store.paths import PlatformContext
from ceml.testing.checks import check_actuator, check_sensor


@pytest.mark.parametrize("in_process", [False, True])
def test_a_simulated_board_keeps_every_promise_in_files_and_in_memory(tmp_path: Path, virtually, in_process) -> None:
    async def main() -> None:
        made = simulated(
            PlatformContext(runtime_dir=tmp_path, in_process=in_process), workload="vit", sensor_period_s=0.01
        )
        assert made.stage is not None
        for actuator in made.actuators:

            async def disturb() -> None:
                made.stage.overwrite({"gpu_hz": 522.75e6})

            await check_actuator(actuator, levels_per_knob=5, disturb=disturb)
        for sensor in made.sensors:
            await check_sensor(sensor)

    virtually(main) if in_process else anyio.run(main)
