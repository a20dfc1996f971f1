"""What programs taught of a machine, in words. Not covered: what makes the belief (domain/response/test_overlap)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ceml.commands.learnt import learnt_lines
from ceml.domain.values import Observation, Remembered
from ceml.plant.board import jetson_tx2
from tests.test_serve import ceml


def taught(workload: str, states: int, *, app: str = "") -> Remembered:
    """What a program measured without noise in some states of the simulated board, and long."""
    plant = jetson_tx2(workload)
    some = np.random.default_rng(0).choice(plant.space.states, states, replace=False)
    seen = tuple(
        Observation(
            configuration=plant.space.configuration(state),
            start_s=0.0,
            end_s=1.0,
            beats=1000,
            steps=1000.0,
            rate_hz=1.0 / float(plant.step_s[state]),
            power_w=float(plant.power_w[state]),
            power_samples=1000,
        )
        for state in some.tolist()
    )
    return Remembered(app=app or workload, knobs=plant.space.knobs, observations=seen)


def numbers(lines: list[str]) -> int:
    return sum(" .. " in line for line in lines)


def test_without_programs_nothing_is_said() -> None:
    assert list(learnt_lines(())) == []


def test_more_measurements_and_more_programs_tell_of_more_numbers() -> None:
    few = list(learnt_lines([taught("vit", 3)]))
    many = list(learnt_lines([taught("vit", 30)]))
    both = list(learnt_lines([taught("vit", 30), taught("lstm", 30)]))
    assert "from 1 program," in many[0]
    assert "from 2 programs," in both[0]
    assert numbers(few) <= numbers(many) <= numbers(both)
    assert numbers(both) >= 3
    assert any("what draws always" in line for line in both)


def test_ranges_are_narrower_than_those_before_any_program() -> None:
    for line in [each for each in learnt_lines([taught("vit", 30), taught("lstm", 30)]) if " .. " in each]:
        now, before = line.split("  (")
        low, high = (float(each.strip(" %)").split()[-1]) for each in now.split(" .. "))
        usual = [float(each.strip(" %)")) for each in before.split(" .. ")]
        assert low <= high
        narrower = high / low < usual[1] / usual[0] if "%" in line else high - low < usual[1] - usual[0]
        assert narrower, line


def test_two_phases_of_a_program_are_one_program() -> None:
    twice = taught("vit", 10)
    assert "from 1 program," in next(learnt_lines([twice, replace(twice, observations=twice.observations[:5])]))


def test_a_person_sees_it(tmp_path: Path) -> None:
    known = tmp_path / "known"
    assert ceml("replay", "jetson-tx2", "--workload", "vit", "--steps", 300, "--knowledge", known).returncode == 0
    shown = ceml("knowledge", "show", "--knowledge", known)
    assert shown.returncode == 0
    assert "nothing is probed; try ceml doctor --probe" in shown.stdout
    assert "learnt    from 1 program, where the next one begins" in shown.stdout
