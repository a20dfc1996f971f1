"""Knobs that somebody else turns: noticed, named, left out of what is learnt, put back, or yielded. Virtual time.

Not covered here: which reads a driver needs for that (tests/platforms/test_glance.py), the scenario (tests/api).
"""

from __future__ import annotations

import math

import anyio
import pytest

from ceml.control.readback import PERIOD_S
from ceml.domain.events import (
    AppLeft,
    ConfigurationApplied,
    ControlPaused,
    ControlResumed,
    ControlYielded,
    KnobOverwritten,
    MachineResumed,
    WindowClosed,
)
from ceml.domain.knobs import Configuration
from ceml.errors import Temporary
from tests.control.lived import KNOBS, Dial, beats, join, lived, of


def dials() -> list[Dial]:
    return [Dial(knob) for knob in KNOBS]


@pytest.mark.parametrize("moment_s", [0.05, 0.31, 0.6, 6.4, 12.03])
def test_a_knob_turned_by_somebody_else_is_noticed_within_a_period_and_turned_back(virtually, moment_s) -> None:
    two = dials()

    async def story(bus) -> None:
        bus.publish(join("a"))
        async with anyio.create_task_group() as group:
            group.start_soon(beats, bus, "a", 200)
            await anyio.sleep(moment_s)
            two[1].level = 0.7e9
            await anyio.sleep(PERIOD_S)
            assert two[1].level != 0.7e9

    heard, _ = lived(virtually, two, story)
    (met,) = of(heard, KnobOverwritten)
    assert (met.knob, met.found, met.times) == ("gpu_hz", 0.7e9, 1)
    assert met.since_s <= moment_s < met.at_s <= moment_s + PERIOD_S
    after = [event for event in of(heard, ConfigurationApplied) if event.at_s >= met.at_s]
    assert after
    assert of(heard, ControlYielded) == []


@pytest.mark.parametrize("moment_s", [0.05, 0.31, 0.6, 1.15])
def test_nothing_measured_while_a_knob_was_wrong_is_learnt(virtually, moment_s) -> None:
    two = dials()

    async def story(bus) -> None:
        bus.publish(join("a"))
        async with anyio.create_task_group() as group:
            group.start_soon(beats, bus, "a", 100)
            await anyio.sleep(moment_s)
            two[1].level = 0.7e9

    heard, controller = lived(virtually, two, story)
    (met,) = of(heard, KnobOverwritten)
    learnt = controller.managers["a", ""].reasoning.observations
    assert learnt
    assert not [seen for seen in learnt if met.since_s < seen.end_s <= met.at_s]
    for closed in of(heard, WindowClosed):  # no window goes on over the meeting
        seen = closed.observation
        assert seen.end_s <= met.at_s or seen.start_s >= met.at_s


def test_the_plan_is_still_carried_out_when_a_trial_was_spoilt(virtually) -> None:
    two = dials()

    async def story(bus) -> None:
        bus.publish(join("a"))
        async with anyio.create_task_group() as group:
            group.start_soon(beats, bus, "a", 100)
            await anyio.sleep(0.35)
            two[0].level = 1.1e9 if two[0].level != 1.1e9 else 1.4e9

    _, controller = lived(virtually, two, story)
    _, undisturbed = lived(virtually, dials(), calmly)
    states = [
        {seen.configuration for seen in each.managers["a", ""].reasoning.observations}
        for each in (controller, undisturbed)
    ]
    assert states[0] == states[1]


async def calmly(bus) -> None:
    bus.publish(join("a"))
    await beats(bus, "a", 100)


def test_one_who_insists_gets_the_machine_until_somebody_says_resume(virtually) -> None:
    two = dials()

    async def story(bus) -> None:
        bus.publish(join("a"))
        async with anyio.create_task_group() as group:
            group.start_soon(beats, bus, "a", 400)
            for _ in range(100):
                await anyio.sleep(0.2)
                two[1].level = 0.7e9
            writes = len(two[1].writes)
            await anyio.sleep(5)
            assert len(two[1].writes) == writes
            bus.publish(ControlResumed(at_s=anyio.current_time()))
            await anyio.sleep(2)
            assert len(two[1].writes) > writes

    heard, _ = lived(virtually, two, story)
    (yielded,) = of(heard, ControlYielded)
    assert (yielded.knob, yielded.times) == ("gpu_hz", 5)
    assert "ceml resume" in yielded.why
    assert [event.times for event in of(heard, KnobOverwritten)] == [1, 2, 3, 4, 5]
    assert of(heard, ControlPaused)[0].source == "gpu_hz is fought over"


def test_a_limit_that_the_kernel_sets_is_lived_with_and_not_fought(virtually) -> None:
    class Cooled(Dial):
        most = math.inf

        async def locate(self) -> Configuration:
            return Configuration({"gpu_hz": min(float(self.level), self.most)})

    two = [Dial(KNOBS[0]), Cooled(KNOBS[1])]

    async def story(bus) -> None:
        bus.publish(join("a"))
        async with anyio.create_task_group() as group:
            group.start_soon(beats, bus, "a", 300)
            await anyio.sleep(8)
            two[1].most = 0.5e9

    heard, controller = lived(virtually, two, story)
    assert {event.found for event in of(heard, KnobOverwritten)} <= {0.5e9}
    assert len(of(heard, KnobOverwritten)) <= 1
    assert of(heard, ControlYielded) == []
    assert controller.managers["a", ""].reasoning.territory.unreachable == set()  # it was reached before: heat passes


def test_knobs_that_cannot_be_read_back_prove_nothing(virtually) -> None:
    class Shy(Dial):
        asked = 0

        async def glance(self) -> Configuration:
            self.asked += 1
            if self.asked % 3 == 0:
                raise Temporary("not now")
            return Configuration({self.knobs[0].name: "?" if self.asked % 3 == 1 else self.level})

    two = [Shy(KNOBS[0]), Shy(KNOBS[1])]
    heard, _ = lived(virtually, two, calmly)
    assert two[0].asked > 5
    assert of(heard, KnobOverwritten) == []


def test_a_change_of_our_own_that_nobody_waited_for_is_nobody_elses(virtually) -> None:
    class Slow(Dial):
        """The deadline passes, the write does not: a driver call cannot be called back (kernel.md, point 9)."""

        async def apply(self, wanted: Configuration) -> Configuration:
            if wanted[self.knobs[0].name] != self.level:
                self.level = wanted[self.knobs[0].name]
                await anyio.sleep(0.4)
            return await super().apply(wanted)

    two = [Slow(KNOBS[0]), Dial(KNOBS[1])]
    heard, _ = lived(virtually, two, calmly)
    assert len(of(heard, ConfigurationApplied)) > 3
    assert of(heard, KnobOverwritten) == []


def test_nothing_is_read_back_when_nothing_is_held(virtually) -> None:
    two = dials()

    async def story(bus) -> None:
        await calmly(bus)
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))
        await anyio.sleep(0.1)
        two[0].level = 1.1e9
        await anyio.sleep(10)
        assert two[0].level == 1.1e9

    heard, _ = lived(virtually, two, story)
    assert of(heard, KnobOverwritten) == []


def test_after_a_suspension_what_was_in_force_is_asserted_again(virtually) -> None:
    two, slept = dials(), [0.0]

    async def story(bus) -> None:
        bus.publish(join("a"))
        async with anyio.create_task_group() as group:
            group.start_soon(beats, bus, "a", 100)
            await anyio.sleep(5.2)
            slept[0] += 3600.0
            two[0].level, two[1].level = 2e9, 1e9  # the driver started anew

    heard, _ = lived(virtually, two, story, slept_s=lambda: slept[0])
    (resumed,) = of(heard, MachineResumed)
    assert resumed.asleep_s == 3600.0
    again = next(event for event in of(heard, ConfigurationApplied) if event.at_s >= resumed.at_s)
    before = [event for event in of(heard, ConfigurationApplied) if event.at_s < resumed.at_s][-1]
    assert (again.requested, again.why) == (before.requested, "the machine was suspended for 3600 s")
    assert again.effective == before.effective
