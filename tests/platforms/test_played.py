"""The program in virtual time: steps, changes in the middle of a step, the truth noted. Not covered: scoring."""

import math
from itertools import pairwise

import anyio
import pytest

from ceml.domain.events import AppJoined, AppLeft, Heartbeat
from ceml.domain.knobs import Configuration
from ceml.errors import SettingsError
from ceml.plant.board import jetson_tx2
from ceml.platforms.played import played

VIT = jetson_tx2("vit")
TOP = VIT.space.max_state
SLOW = Configuration({"cpu_hz": 806.4e6, "gpu_hz": 420.75e6, "mem_hz": 665.6e6})
SLOW_STATE = VIT.space.find(SLOW)


def play(virtually, platform, control=None):
    """Run the program, with a controller beside it; the events it published."""

    async def main():
        events = []
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: platform.beats.run(events.append, task_status=task_status))
            if control is not None:
                group.start_soon(control, platform.actuators[0], events)
        return events

    return virtually(main)


def test_it_joins_beats_once_a_step_and_leaves(virtually):
    events = play(virtually, played(VIT, steps=50))
    assert [type(event) for event in events] == [AppJoined, *[Heartbeat] * 50, AppLeft]
    assert events[0] == AppJoined(at_s=0.0, app="vit", total_work=50.0)
    assert [event.beat for event in events[1:-1]] == list(range(1, 51))
    assert events[-1].at_s == events[-2].at_s
    assert events[-1].reason == "left"


def test_without_noise_every_step_takes_its_true_time(virtually):
    platform = played(VIT, steps=20, noise_time=0.0)
    events = play(virtually, platform)
    beats = [event.at_s for event in events[1:-1]]
    gaps = [b - a for a, b in pairwise(beats)]
    assert gaps == pytest.approx([VIT.step_s[TOP]] * 19, abs=2e-9)
    assert platform.beats.machine.steps_in == {TOP: 20.0}


def test_noise_has_mean_one_and_the_width_asked_for_and_the_seed_decides(virtually):
    def gaps(seed):
        beats = [
            e.at_s for e in play(virtually, played(VIT, steps=4000, noise_time=0.1, seed=seed)) if hasattr(e, "beat")
        ]
        return [b - a for a, b in pairwise(beats)]

    first = gaps(1)
    assert first == gaps(1) != gaps(2)
    mean = sum(first) / len(first)
    std = math.sqrt(sum((gap - mean) ** 2 for gap in first) / len(first))
    assert mean / VIT.step_s[TOP] == pytest.approx(1.0, abs=0.006)
    assert std / mean == pytest.approx(0.1, rel=0.1)


def test_control_may_act_before_the_first_step_and_the_first_step_is_then_in_that_state(virtually):
    async def control(actuator, events):
        assert events == [AppJoined(at_s=0.0, app="vit", total_work=3.0)]
        await actuator.apply(SLOW)

    platform = played(VIT, steps=3, noise_time=0.0)
    events = play(virtually, platform, control)
    machine = platform.beats.machine
    assert machine.steps_in == {SLOW_STATE: 3.0}
    assert machine.start_s == pytest.approx(0.008)
    assert events[1].at_s == pytest.approx(0.008 + VIT.step_s[SLOW_STATE])


@pytest.mark.parametrize("ask_s", [0.1, 0.2351, 0.4])
def test_a_change_in_the_middle_of_a_step_takes_effect_when_it_is_in_force(virtually, ask_s):
    async def control(actuator, events):
        await anyio.sleep(ask_s)
        await actuator.apply(SLOW)

    platform = played(VIT, steps=2, noise_time=0.0)
    events = play(virtually, platform, control)
    machine = platform.beats.machine
    done = (ask_s + 0.008 - machine.start_s) / VIT.step_s[TOP]
    first_s = ask_s + 0.008 + (1 - done) * VIT.step_s[SLOW_STATE]
    assert events[1].at_s == pytest.approx(first_s, abs=1e-8)
    assert events[2].at_s == pytest.approx(first_s + VIT.step_s[SLOW_STATE], abs=1e-8)
    assert machine.steps_in[TOP] == pytest.approx(done)
    assert math.fsum(machine.steps_in.values()) == pytest.approx(2.0)


def test_a_change_replaced_before_it_is_in_force_never_was(virtually):
    async def control(actuator, events):
        await anyio.sleep(0.1)
        top = await actuator.locate()
        await actuator.apply(SLOW)
        await anyio.sleep(0.004)
        await actuator.apply(top)

    platform = played(VIT, steps=5, noise_time=0.0)
    events = play(virtually, platform, control)
    assert list(platform.beats.machine.steps_in) == [TOP]
    assert events[-1].at_s == pytest.approx(5 * VIT.step_s[TOP], abs=1e-5)


def test_however_often_control_interferes_no_work_is_lost_and_time_agrees_with_work(virtually):
    states = [int(state) for state in VIT.space.states[:: len(VIT.space) // 40]]

    async def control(actuator, events):
        for state in states * 5:
            await actuator.apply(VIT.space.configuration(state))
            await anyio.sleep(0.0137)

    platform = played(VIT, steps=30, noise_time=0.0)
    play(virtually, platform, control)
    machine = platform.beats.machine
    assert math.fsum(machine.steps_in.values()) == pytest.approx(30.0)
    worked_s = sum(share * VIT.step_s[state] for state, share in machine.steps_in.items())
    assert worked_s == pytest.approx(machine.end_s - machine.start_s, abs=1e-5)
    in_force = {state: 0.0 for _, _, state in machine.timeline()}
    for begin_s, end_s, state in machine.timeline():
        in_force[state] += end_s - begin_s
    for state, seconds in in_force.items():
        assert machine.steps_in.get(state, 0.0) * VIT.step_s[state] == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"noise_time": -1.0}, {"noise_power": 2.0}, {"sensor_period_s": 0.0}]
)
def test_what_no_run_can_have_is_refused(options):
    with pytest.raises(SettingsError, match=next(iter(options))):
        played(VIT, **options)
