"""The controller: who holds the machine, who waits, what gathers. In virtual time.

Not covered here: how knobs are turned (test_applier.py), what a manager thinks (tests/domain/test_manager.py), whole
runs (tests/test_house.py).
"""

from __future__ import annotations

import asyncio

import anyio
import pytest

from ceml.control.applier import Applier
from ceml.control.bus import Bus
from ceml.control.controller import KEPT_AWAY, Controller
from ceml.control.machine import Machine
from ceml.domain.events import (
    AppLeft,
    BudgetChanged,
    ConfigurationApplied,
    ConfigurationReleased,
    ControlRefused,
    Decided,
    DecisionSlow,
    Event,
    GuardStepped,
    Heartbeat,
    Sampled,
    SensorLost,
    SensorRecovered,
    WindowClosed,
)
from ceml.domain.manager import RuntimeManager
from ceml.domain.mind import Mind
from ceml.domain.response.paper import paper as paper_model
from ceml.domain.sampling import paper as paper_sampler
from ceml.domain.search import exhaustive
from ceml.domain.values import Limits
from ceml.plugins.performance import performance
from tests.control.lived import KNOBS, PLAN, SPACE, TOP, Dial, beats, join, lived, of


def test_nothing_is_written_before_the_first_join(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        await beats(bus, "stranger", 5)

    heard, _ = lived(virtually, dials, story)
    assert [dial.writes for dial in dials] == [[], []]
    assert of(heard, ConfigurationApplied) == []


def test_an_application_is_profiled_and_its_knobs_return_when_it_leaves(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 60)
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))

    heard, _ = lived(virtually, dials, story)
    applied = of(heard, ConfigurationApplied)
    assert PLAN <= {event.effective for event in applied}
    (released,) = of(heard, ConfigurationReleased)
    assert released.effective == TOP
    assert [dial.level for dial in dials] == [2e9, 1e9]


def test_a_second_application_is_refused_then_takes_over(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        bus.publish(join("first"))
        bus.publish(join("second"))
        await beats(bus, "first", 7)
        bus.publish(AppLeft(at_s=anyio.current_time(), app="first"))
        await beats(bus, "second", 5)

    heard, controller = lived(virtually, dials, story)
    (refused,) = of(heard, ControlRefused)
    assert (refused.app, refused.holder) == ("second", "first")
    assert of(heard, ConfigurationReleased) == []
    assert set(controller.managers) == {("first", ""), ("second", "")}
    measured = sum(event.observation.steps for event in of(heard, WindowClosed) if event.app == "first")
    assert measured >= 4  # the window that was open when it left closes for the record
    assert len(controller.managers["second", ""].reasoning.observations) >= 1


def test_who_never_beat_gives_way_to_the_first_that_beats_and_the_record_says_why(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        bus.publish(join("ghost"))
        bus.publish(join("real", "1"))
        await beats(bus, "real", 5, "1")
        await beats(bus, "ghost", 5)  # too late: it waits like any other

    heard, controller = lived(virtually, dials, story)
    refused, gave_way = of(heard, ControlRefused)
    assert (refused.app, refused.holder, refused.why) == ("real", "ghost", "")
    assert (gave_way.app, gave_way.holder, gave_way.holder_source) == ("ghost", "real", "1")
    assert "has not beaten yet" in gave_way.why
    assert len(controller.managers["real", "1"].reasoning.observations) >= 1
    assert not len(controller.managers["ghost", ""].reasoning.observations)
    assert of(heard, ConfigurationReleased) == []


def test_who_gave_way_gets_the_machine_when_the_other_one_leaves(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        bus.publish(join("slow"))
        bus.publish(join("short"))
        await beats(bus, "short", 3)
        bus.publish(AppLeft(at_s=anyio.current_time(), app="short"))
        await beats(bus, "slow", 30)

    _, controller = lived(virtually, dials, story)
    assert controller.holder is controller.managers["slow", ""]
    assert len(controller.managers["slow", ""].reasoning.observations) >= 1


def test_a_first_step_of_minutes_keeps_the_machine_while_nobody_else_beats(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        bus.publish(join("compiles"))
        bus.publish(join("silent"))
        await anyio.sleep(600.0)
        await beats(bus, "compiles", 5)
        await beats(bus, "silent", 5)

    heard, controller = lived(virtually, dials, story)
    assert [event.app for event in of(heard, ControlRefused)] == ["silent"]
    assert controller.holder is controller.managers["compiles", ""]


def test_beats_of_others_do_not_count_for_the_holder(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        bus.publish(join("first"))
        await beats(bus, "other", 50)

    _, controller = lived(virtually, dials, story)
    assert controller.managers["first", ""].reasoning.observations == []


def test_minds_of_the_departed_are_kept_but_not_for_ever(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        for number in range(3 * KEPT_AWAY):
            bus.publish(join("a", f"{number:08x}"))
            bus.publish(AppLeft(at_s=anyio.current_time(), app="a", source=f"{number:08x}"))
            await anyio.sleep(0.1)

    _, controller = lived(virtually, dials, story)
    assert len(controller.managers) == KEPT_AWAY


@pytest.mark.parametrize("patience_s", [0.1, 0.25, 1.0])
def test_what_gathers_changes_no_window_and_no_decision(virtually, patience_s: float) -> None:
    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        for number in range(100):
            await anyio.sleep(0.05)
            bus.publish(Sampled(at_s=anyio.current_time(), sensor="meter", rails_w={"total": 5.0 + number % 3}))
            await anyio.sleep(0.05)
            bus.publish(Heartbeat(at_s=anyio.current_time(), app="a", beat=number))
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))

    def told(patience_s: float) -> list[object]:
        dials = [Dial(knob) for knob in KNOBS]
        heard, _ = lived(virtually, dials, story, patience_s=patience_s, rails=("total",))
        decided = [event.configuration for event in of(heard, Decided)]
        return [*decided, *(event.observation for event in of(heard, WindowClosed))]

    assert len(told(0.0)) > 10
    assert told(patience_s) == told(0.0)


def test_nothing_gathers_while_each_sample_may_break_a_cap(virtually) -> None:
    left_s: list[float] = []

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        for number in range(100):
            await anyio.sleep(0.1)
            hot = number == 90
            bus.publish(Sampled(at_s=anyio.current_time(), sensor="meter", rails_w={"total": 9.0 if hot else 5.0}))
            bus.publish(Heartbeat(at_s=anyio.current_time(), app="a", beat=number))
            if hot:
                left_s.append(anyio.current_time())

    options = {"patience_s": 1.0, "limits": Limits(power_cap_w=7.0), "rails": ("total",)}
    heard, _ = lived(virtually, [Dial(knob) for knob in KNOBS], story, **options)
    assert [event.at_s for event in of(heard, GuardStepped)] == pytest.approx(left_s)
    applied = [event.at_s for event in of(heard, ConfigurationApplied) if event.at_s >= left_s[0]]
    assert applied[0] == pytest.approx(left_s[0], abs=1e-3)


def test_who_joins_after_a_sensor_was_lost_knows_of_it_until_it_is_back(virtually) -> None:
    heard: list[tuple[str, Event]] = []

    class Listening(RuntimeManager):
        def on(self, event: Event):
            heard.append((self.app, event))
            return super().on(event)

    async def main() -> None:
        bus, machine = Bus(), Machine([Dial(knob) for knob in KNOBS])
        mind = Mind(objective=performance(), model=paper_model(), sampler=paper_sampler(beats=3), search=exhaustive())
        made = lambda joined, limits: Listening(joined, SPACE, mind, limits)  # noqa: E731
        applier = Applier(bus, machine, SPACE, saved=await machine.save())
        controller = Controller(bus, applier, made)
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: applier.run(task_status=task_status))
            await group.start(lambda *, task_status: controller.run(task_status=task_status))
            bus.publish(SensorLost(at_s=0.0, sensor="ina", reason="gone"))
            await anyio.sleep(1)
            bus.publish(join("one"))
            await anyio.sleep(1)
            bus.publish(AppLeft(at_s=2.0, app="one", reason="left"))
            bus.publish(join("other"))
            await anyio.sleep(1)
            bus.publish(SensorRecovered(at_s=3.0, sensor="ina"))
            await anyio.sleep(1)
            group.cancel_scope.cancel()

    virtually(main)
    for app in ("one", "other"):
        kinds = [type(event) for who, event in heard if who == app and isinstance(event, SensorLost | SensorRecovered)]
        assert kinds == [SensorLost, SensorRecovered]


def test_thinking_that_keeps_everything_else_waiting_is_said_and_again_where_it_is_twice_as_bad(
    virtually, monkeypatch
) -> None:
    on, thinks_s = RuntimeManager.on, [0.2, 0.6, 0.7, 2.0]

    def slow(manager: RuntimeManager, event: Event):
        if isinstance(event, BudgetChanged):
            asyncio.get_running_loop()._virtual.now_ns += int(thinks_s.pop(0) * 1e9)  # type: ignore[attr-defined]
        return on(manager, event)

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        for watts in (4.0, 5.0, 6.0, 7.0):
            await beats(bus, "a", 3)
            bus.publish(BudgetChanged(at_s=anyio.current_time(), limits=Limits(power_cap_w=watts)))

    monkeypatch.setattr(RuntimeManager, "on", slow)
    heard, _ = lived(virtually, [Dial(knob) for knob in KNOBS], story, rails=("total",))
    assert [round(event.took_s, 3) for event in of(heard, DecisionSlow)] == [0.6, 2.0]
    assert all("milliseconds" in event.why for event in of(heard, DecisionSlow))
