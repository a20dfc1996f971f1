"""Mishaps on a plant. Not covered: when they happen (tests/api/test_scenario.py)."""

from __future__ import annotations

import pytest

from ceml.errors import Refused, Unavailable
from ceml.plant.board import jetson_tx2
from ceml.plant.machine import Machine
from ceml.platforms.plantboard import MemoryBoard, PlantActuator
from ceml.platforms.played import played, sensors
from ceml.platforms.stage import PlantStage

PLANT = jetson_tx2("vit")


def test_a_lost_sensor_is_unavailable_until_it_is_back(virtually) -> None:
    async def main() -> None:
        board = MemoryBoard(PLANT)
        (sensor,) = sensors(PLANT, board, 0.0, 0.1, 0)
        stage = PlantStage(board, [sensor])
        stage.lose("board")
        with pytest.raises(Unavailable, match="board is lost"):
            await sensor.read()
        stage.regain("board")
        assert (await sensor.read()).rails_w["total"] > 0

    virtually(main)


def test_what_somebody_else_writes_is_what_the_board_then_is(virtually) -> None:
    async def main() -> None:
        board = MemoryBoard(PLANT)
        stage = PlantStage(board, [])
        stage.overwrite({"gpu_hz": 4.2e8})
        assert (await PlantActuator(board).locate())["gpu_hz"] == 420.75e6
        with pytest.raises(Refused):
            stage.overwrite({"npu_hz": 1.0})

    virtually(main)


def test_only_a_program_of_its_own_can_be_sent_away() -> None:
    assert not PlantStage(MemoryBoard(PLANT), []).brings_program
    stage = played(PLANT).stage
    assert stage is not None
    assert stage.brings_program


def test_another_phase_is_another_truth_from_then_on(virtually) -> None:
    async def main() -> None:
        board = MemoryBoard(PLANT)
        board.running = True
        before_w, _ = board.readings(0.0)
        board.become(PLANT.changed(step_time=2.0, power=0.5))
        after_w, _ = board.readings(0.0)
        assert after_w["total"] == pytest.approx(before_w["total"] / 2)
        assert board.machine.plant.step_s == pytest.approx(2 * PLANT.step_s, nan_ok=True)
        assert board.machine.plant.power_w == pytest.approx(PLANT.power_w / 2, nan_ok=True)

    virtually(main)


def test_rests_are_no_part_of_the_timeline() -> None:
    machine = Machine(PLANT)
    machine.work(machine.target, 1.0, 0.0, 10.0)
    machine.work(machine.target, 1.0, 30.0, 40.0)
    machine.rests.append((10.0, 30.0))
    assert [(begin, end) for begin, end, _ in machine.timeline()] == [(0.0, 10.0), (30.0, 40.0)]
