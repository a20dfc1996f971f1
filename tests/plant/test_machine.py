"""Which state is in force when, how a step progresses, where a request lands. Not covered: waiting (see platforms)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Knob, KnobKind, KnobSpace
from ceml.errors import Refused
from ceml.plant.board import jetson_tx2
from ceml.plant.machine import Machine, Plant, landing, progress

VIT = jetson_tx2("vit")
TOP = VIT.space.max_state


def state(**levels: float) -> int:
    found = VIT.space.find(dict(VIT.space.configuration(TOP)) | levels)
    assert found is not None
    return found


SLOW_CPU = state(cpu_hz=806.4e6)
SLOW_MEM = state(mem_hz=665.6e6)


def test_a_machine_is_found_with_every_knob_at_its_highest_level():
    assert Machine(VIT, 3.0).state_at(3.0) == TOP


def test_a_change_is_in_force_after_the_slowest_settle_time_of_the_knobs_that_change():
    machine = Machine(VIT)
    assert machine.put(SLOW_CPU, 1.0) == pytest.approx(1.001)
    assert machine.put(state(cpu_hz=806.4e6, mem_hz=665.6e6, gpu_hz=420.75e6), 2.0) == pytest.approx(2.008)
    assert [machine.state_at(t) for t in (0.5, 1.0005, 1.002, 2.007)] == [TOP, TOP, SLOW_CPU, SLOW_CPU]
    assert machine.next_change_s(2.0) == pytest.approx(2.008)
    assert machine.next_change_s(2.008) == math.inf


def test_a_newer_request_replaces_one_that_is_not_yet_in_force():
    machine = Machine(VIT)
    machine.put(SLOW_MEM, 1.0)
    assert machine.put(SLOW_CPU, 1.002) == pytest.approx(1.003)
    assert machine.state_at(1.1) == SLOW_CPU
    assert [s for _, s in machine.transitions] == [TOP, SLOW_CPU]


def test_asking_for_what_is_there_or_on_its_way_changes_nothing():
    machine = Machine(VIT)
    assert machine.put(TOP, 1.0) == 1.0
    due_s = machine.put(SLOW_MEM, 1.0)
    assert machine.put(SLOW_MEM, 1.004) == due_s
    assert machine.put(TOP, 1.005) == 1.005
    assert machine.transitions == [(0.0, TOP)]


@given(st.lists(st.tuples(st.integers(0, 539), st.floats(0.0, 0.02)), max_size=30))
def test_transitions_ascend_and_each_changes_the_state(puts):
    machine, now_s = Machine(VIT), 0.0
    for wanted, pause_s in puts:
        now_s += pause_s
        assert machine.put(wanted, now_s) >= now_s
        assert machine.target == wanted
    times = [at_s for at_s, _ in machine.transitions]
    assert times == sorted(times)
    assert all(a != b for (_, a), (_, b) in zip(machine.transitions, machine.transitions[1:], strict=False))
    assert machine.state_at(now_s + 1.0) == machine.target


pieces = st.lists(st.tuples(st.floats(0.01, 2.0), st.floats(0.0, 1.0)), min_size=1, max_size=8)


@given(pieces, st.floats(0.5, 2.0))
def test_a_step_over_several_states_takes_each_states_share_of_its_own_time(pieces, noise):
    left, elapsed_s, expected = 1.0, 0.0, 1.0
    for step_s, available_s in pieces:
        left, used_s = progress(left, step_s, noise, available_s)
        assert 0.0 <= used_s <= available_s
        expected = max(0.0, expected - used_s / (step_s * noise))
        elapsed_s += used_s
        assert left == pytest.approx(expected, abs=1e-9)
    left, used_s = progress(left, 1.0, noise, math.inf)
    assert left == 0.0


@given(st.floats(0.01, 2.0), st.lists(st.floats(0.001, 0.2), max_size=10))
def test_cutting_a_step_into_slices_of_one_state_does_not_change_how_long_it_takes(step_s, slices):
    left, total_s = 1.0, 0.0
    for available_s in [*slices, math.inf]:
        left, used_s = progress(left, step_s, 1.0, available_s)
        total_s += used_s
    assert left == 0.0
    assert total_s == pytest.approx(step_s)


def test_the_timeline_covers_the_work_without_gaps():
    machine = Machine(VIT)
    machine.put(SLOW_CPU, 0.5)
    machine.put(TOP, 1.5)
    machine.work(TOP, 0.25, 0.2, 0.501)
    machine.work(SLOW_CPU, 0.75, 0.501, 2.0)
    lines = list(machine.timeline())
    assert lines[0][0] == 0.2
    assert lines[-1][1] == 2.0
    assert [end for _, end, _ in lines[:-1]] == [begin for begin, _, _ in lines[1:]]
    assert [s for _, _, s in lines] == [TOP, SLOW_CPU, TOP]
    assert machine.steps_in == {TOP: 0.25, SLOW_CPU: 0.75}


def test_energy_is_that_of_the_phase_in_which_the_work_was_done():
    machine, hungry = Machine(VIT), VIT.changed(power=3.0)
    machine.work(TOP, 1.0, 0.0, 1.0)
    machine.become(hungry, 1.0)
    machine.work(TOP, 0.5, 1.0, 2.0)
    step_j = float(VIT.step_s[TOP] * VIT.power_w[TOP])
    assert machine.energy_j == pytest.approx(step_j + 0.5 * 3.0 * step_j)
    assert [(begin, end) for begin, end, _ in machine.timeline()] == [(0.0, 1.0), (1.0, 2.0)]
    assert machine.plant_at(0.5) is VIT
    assert machine.plant_at(1.5) is hungry


@given(st.floats(1e6, 3e9))
def test_a_request_lands_on_the_next_level_up_or_the_highest(hz):
    levels = VIT.space.knobs[1].levels
    landed = VIT.space.configuration(landing(VIT.space, TOP, {"gpu_hz": hz}))["gpu_hz"]
    assert landed == min((level for level in levels if level >= hz), default=levels[-1])
    assert VIT.space.configuration(landing(VIT.space, TOP, {"gpu_hz": hz}))["cpu_hz"] == 2035.2e6


def test_what_a_board_cannot_do_is_refused_with_the_knob_and_what_it_knows():
    mode = Knob(name="mode", levels=("eco", "fast"), kind=KnobKind.CATEGORY)
    space = KnobSpace((mode, VIT.space.knobs[0]), np.array([True] * 17 + [False]))
    assert landing(space, 0, {"mode": "fast"}) == 9
    for wanted, knob, text in (
        ({"mode": "turbo"}, "mode", "eco, fast"),
        ({"fan": 1.0}, "fan", "mode, cpu_hz"),
        ({"cpu_hz": math.nan}, "cpu_hz", "no number"),
        ({"cpu_hz": "max"}, "cpu_hz", "no number"),
        ({"mode": "fast", "cpu_hz": 3e9}, "mode", "never measured"),
    ):
        with pytest.raises(Refused, match=text) as refused:
            landing(space, 0, wanted)
        assert refused.value.knob == knob


def test_truth_is_the_plants_arrays_in_the_shape_of_a_prediction():
    states = np.array([0, TOP])
    truth = VIT.truth(states)
    assert truth.energy_j == pytest.approx(VIT.step_s[states] * VIT.power_w[states])
    assert isinstance(VIT, Plant)
