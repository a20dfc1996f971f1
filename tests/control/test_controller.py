"""The controller: who holds the machine, what is applied, refused, withheld, given back. In virtual time.

Not covered here: what a manager thinks (tests/domain/test_manager.py), whole runs (tests/test_house.py).
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, get_args

import anyio
import pytest

from ceml.control.bus import Bus
from ceml.control.controller import KEPT_AWAY, Controller
from ceml.control.machine import Machine
from ceml.control.readback import ReadBack
from ceml.domain.events import (
    AppJoined,
    AppLeft,
    BudgetChanged,
    ConfigurationApplied,
    ConfigurationRefused,
    ConfigurationReleased,
    ConfigurationWithheld,
    ControlPaused,
    ControlRefused,
    ControlResumed,
    ControlYielded,
    Decided,
    DecisionSlow,
    Event,
    GuardStepped,
    Heartbeat,
    LevelsAllowed,
    Sampled,
    SensorLost,
    SensorRecovered,
    WindowClosed,
)
from ceml.domain.knobs import Configuration, Knob, KnobSpace
from ceml.domain.manager import RuntimeManager
from ceml.domain.mind import Mind
from ceml.domain.response.paper import paper as paper_model
from ceml.domain.sampling import paper as paper_sampler
from ceml.domain.sampling import seven_states
from ceml.domain.search import exhaustive
from ceml.domain.values import Limits
from ceml.errors import Refused, Temporary, Unavailable
from ceml.plugins.performance import performance
from ceml.saved import Item, Saved, Unrestored

if TYPE_CHECKING:
    from collections.abc import Callable

KNOBS = (
    Knob(name="cpu_hz", levels=(0.8e9, 1.1e9, 1.4e9, 2e9), settle_s=0.001),
    Knob(name="gpu_hz", levels=(0.3e9, 0.5e9, 0.6e9, 1e9), settle_s=0.005),
)
SPACE = KnobSpace(KNOBS)
TOP = SPACE.configuration(SPACE.max_state)
PLAN = {SPACE.configuration(state) for state in seven_states(SPACE)}


class Dial:
    """One knob that remembers; can be slow, stubborn, or impossible to put back."""

    def __init__(
        self,
        knob: Knob,
        *,
        delay_s: float = 0.0,
        refuses: tuple[float, ...] = (),
        stuck: bool = False,
        busy: int = 0,
    ) -> None:
        self.knobs = (knob,)
        self.level = knob.levels[-1]
        self.writes: list[float | str] = []
        self._delay_s, self._refuses, self._stuck, self._busy = delay_s, refuses, stuck, busy

    async def locate(self) -> Configuration:
        return Configuration({self.knobs[0].name: self.level})

    async def glance(self) -> Configuration:
        return await self.locate()

    async def apply(self, wanted: Configuration) -> Configuration:
        await anyio.sleep(self._delay_s)
        level = wanted[self.knobs[0].name]
        if self._busy and level != self.level:
            self._busy -= 1
            raise Temporary("busy")
        if level in self._refuses:
            raise Refused(f"{level} is not for me", knob=self.knobs[0].name)
        self.level = level
        self.writes.append(level)
        return await self.locate()

    async def save(self) -> Saved:
        return Saved((Item("dial", self.knobs[0].name, str(self.level)),))

    async def restore(self, saved: Saved) -> tuple[Unrestored, ...]:
        for item in saved.items:
            if item.target == self.knobs[0].name and item.value is not None:
                if self._stuck:
                    return (Unrestored(item.target, "it is stuck"),)
                self.level = float(item.value)
        return ()


def lived(
    virtually,
    dials: list[Dial],
    story: Callable,
    *,
    slept_s: Callable[[], float] = float,
    rails: tuple[str, ...] = (),
    **options,
) -> tuple[list[Event], Controller]:
    """Run a story beside a controller and its read-back; returns everything that was published."""
    heard: list[Event] = []
    made: list[Controller] = []

    async def main() -> None:
        bus = Bus()
        eyes = bus.subscribe("eyes", *get_args(Event))
        machine = Machine(dials)
        mind = Mind(
            objective=performance(),
            model=paper_model(),
            sampler=paper_sampler(beats=3),
            search=exhaustive(),
            total_rails=rails,
            power_sensors=frozenset({"meter"} if rails else ()),
        )
        controller = Controller(
            bus,
            machine,
            SPACE,
            lambda joined, limits: RuntimeManager(joined, SPACE, mind, limits),
            saved=await machine.save(),
            **options,
        )
        made.append(controller)
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: controller.run(task_status=task_status))
            read_back = ReadBack(bus, controller, slept_s=slept_s)
            await group.start(lambda *, task_status: read_back.run(task_status=task_status))
            await story(bus)
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        eyes.close()
        heard.extend([event async for event in eyes])

    virtually(main)
    return heard, made[0]


def of(heard: list[Event], kind: type) -> list:
    return [event for event in heard if isinstance(event, kind)]


async def beats(bus: Bus, app: str, how_many: int, source: str = "") -> None:
    for number in range(how_many):
        await anyio.sleep(0.1)
        bus.publish(Heartbeat(at_s=anyio.current_time(), app=app, source=source, beat=number))


def join(app: str, source: str = "") -> AppJoined:
    return AppJoined(at_s=anyio.current_time(), app=app, source=source)


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


class Notes:
    """Prior values in memory, as a journal holds them."""

    def __init__(self) -> None:
        self.saved: Saved | None = None
        self.written: list[Saved] = []
        self.full = False

    def write(self, saved: Saved) -> None:
        if self.full:
            raise Unavailable("the disk is full")
        self.saved = saved
        self.written.append(saved)

    def ensure(self, saved: Saved) -> None:
        self.saved = saved

    def clear(self) -> None:
        self.saved = None


def test_what_somebody_turned_while_nothing_was_held_is_what_is_put_back(virtually) -> None:
    dials, notes = [Dial(knob) for knob in KNOBS], Notes()

    async def story(bus: Bus) -> None:
        await anyio.sleep(1)
        dials[0].level = 1.4e9  # before the first program comes
        for theirs in (1.1e9, 0.8e9):
            bus.publish(join("a"))
            await beats(bus, "a", 30)
            assert notes.saved is not None
            assert dials[0].writes
            bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))
            await anyio.sleep(1)
            assert notes.saved is None
            dials[0].level = theirs  # between two programs, and after the last

    heard, controller = lived(virtually, dials, story, prior=notes)
    assert [float(saved.items[0].value or "nan") for saved in notes.written] == [1.4e9, 1.1e9]
    assert dials[0].level == 0.8e9
    said = of(heard, LevelsAllowed)
    assert [event.changed for event in said] == [
        ("cpu_hz from 2000000000.0 to 1400000000.0",), ("cpu_hz from 1400000000.0 to 1100000000.0",)
    ]  # fmt: skip

    async def ends() -> None:
        assert await controller.release("the run ends") == ()

    virtually(ends)
    assert dials[0].level == 0.8e9, "nothing was held any more"


def test_limits_that_somebody_set_meanwhile_are_kept_to_until_they_are_lifted(virtually) -> None:
    class Capped(Dial):
        most = 2e9

        async def allowed(self) -> dict[str, tuple[float, ...]]:
            knob = self.knobs[0]
            return {knob.name: tuple(level for level in knob.levels if level <= self.most)}

        async def save(self) -> Saved:
            return Saved((*(await super().save()).items, Item("dial", "most", str(self.most))))

    dials = [Capped(KNOBS[0]), Dial(KNOBS[1])]
    seen: list[set[float | str]] = []

    async def story(bus: Bus) -> None:
        for most in (2e9, 1.1e9, 0.8e9, 2e9):
            dials[0].most = most  # type: ignore[attr-defined]
            dials[0].writes = []
            bus.publish(join("a"))
            await beats(bus, "a", 100)
            seen.append({*dials[0].writes, dials[0].level})
            bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))
            await anyio.sleep(1)

    heard, controller = lived(virtually, dials, story)
    assert max(seen[0]) > 1.1e9
    assert max(seen[1]) <= 1.1e9
    assert seen[2] == {0.8e9}
    assert len(of(heard, LevelsAllowed)) == 3
    assert len(controller.managers["a", ""].reasoning.space) == len(SPACE)


def test_where_nothing_can_be_written_down_nothing_is_turned_and_it_is_said(virtually) -> None:
    dials, notes = [Dial(knob) for knob in KNOBS], Notes()
    notes.full = True

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 10)
        assert [dial.writes for dial in dials] == [[], []]
        notes.full = False
        bus.publish(ControlResumed(at_s=anyio.current_time(), source="test"))
        await beats(bus, "a", 10)
        assert dials[0].writes

    heard, _ = lived(virtually, dials, story, prior=notes)
    assert [event.source for event in of(heard, ControlPaused)] == ["the disk is full; then: ceml resume"]
    assert [event.why for event in of(heard, ControlYielded)] == ["the disk is full; then: ceml resume"]


def test_settle_time_is_that_of_the_slowest_knob_that_changed(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 60)

    heard, _ = lived(virtually, dials, story)
    before = TOP
    for event in of(heard, ConfigurationApplied):
        assert round(event.in_force_s - event.at_s, 9) == SPACE.settle_s(before, event.effective)
        before = event.effective


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


def test_a_dry_run_announces_and_writes_nothing(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 20)
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))

    heard, _ = lived(virtually, dials, story, dry_run=True)
    assert [dial.writes for dial in dials] == [[], []]
    assert {event.requested for event in of(heard, ConfigurationWithheld)} == PLAN
    assert of(heard, ConfigurationApplied) == []


def test_a_refusal_is_an_event_and_the_run_goes_on(virtually) -> None:
    dials = [Dial(KNOBS[0]), Dial(KNOBS[1], refuses=(0.3e9,))]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 60)

    heard, controller = lived(virtually, dials, story)
    assert {event.knob for event in of(heard, ConfigurationRefused)} == {"gpu_hz"}
    assert 0.3e9 not in dials[1].writes
    assert len(controller.managers["a", ""].reasoning.space) < len(SPACE)


def test_a_level_that_the_firmware_clamps_leaves_the_space_whatever_the_other_knobs_say(virtually) -> None:
    class Clamped(Dial):
        async def apply(self, wanted: Configuration) -> Configuration:
            return await super().apply(Configuration({"gpu_hz": min(float(wanted["gpu_hz"]), 0.6e9)}))

    dials = [Dial(KNOBS[0]), Clamped(KNOBS[1])]
    dials[1].level = 0.6e9

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 100)

    heard, controller = lived(virtually, dials, story)
    reasoning = controller.managers["a", ""].reasoning
    asked = {event.requested for event in of(heard, ConfigurationApplied) if event.requested["gpu_hz"] == 1e9}
    assert len(asked) == 2
    assert not len(reasoning.space.having({"gpu_hz": 1e9}))
    assert len(reasoning.space) == 12
    assert Configuration({"gpu_hz": 1e9}) not in reasoning.unreachable  # heat may do the same: the next run asks again


def test_a_failure_that_passes_costs_no_state(virtually) -> None:
    dials = [Dial(KNOBS[0], busy=3), Dial(KNOBS[1])]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 60)

    heard, controller = lived(virtually, dials, story)
    assert of(heard, ConfigurationRefused) == []
    assert {event.requested for event in of(heard, ConfigurationApplied)} >= PLAN
    assert len(controller.managers["a", ""].reasoning.space) == len(SPACE)


def test_patience_with_a_busy_machine_is_not_cut_short_by_the_read_back(virtually) -> None:
    class Timed(Dial):
        asked_s: list[float]

        async def apply(self, wanted: Configuration) -> Configuration:
            self.asked_s.append(anyio.current_time())
            return await super().apply(wanted)

    dials = [Timed(KNOBS[0], busy=3), Dial(KNOBS[1])]
    dials[0].asked_s = []

    async def story(bus: Bus) -> None:
        await anyio.sleep(0.7)
        bus.publish(join("a"))
        await beats(bus, "a", 60)

    lived(virtually, dials, story)
    gaps = [round(after - before, 6) for before, after in pairwise(dials[0].asked_s)]
    assert [0.125, 0.5, 2.0] in [gaps[at : at + 3] for at in range(len(gaps))]


def test_a_failure_that_lasts_costs_the_state_in_this_run_alone(virtually) -> None:
    dials = [Dial(KNOBS[0], busy=10_000), Dial(KNOBS[1])]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 60)

    heard, controller = lived(virtually, dials, story)
    refused = of(heard, ConfigurationRefused)
    assert refused
    assert all(event.passing and event.reason == "busy" for event in refused)
    assert len(controller.managers["a", ""].reasoning.space) < len(SPACE)
    assert controller.managers["a", ""].reasoning.unreachable == set()


def test_an_apply_that_never_answers_does_not_block_the_mind(virtually) -> None:
    dials = [Dial(KNOBS[0], delay_s=1e6), Dial(KNOBS[1])]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 60)

    heard, _ = lived(virtually, dials, story)
    refused = of(heard, ConfigurationRefused)
    assert refused
    assert all("no answer" in event.reason for event in refused)


def test_what_cannot_be_put_back_is_named_and_stops_nothing_else(virtually) -> None:
    dials = [Dial(KNOBS[0]), Dial(KNOBS[1], stuck=True)]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 60)
        bus.publish(BudgetChanged(at_s=anyio.current_time(), limits=Limits()))
        await beats(bus, "a", 5)
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))

    heard, _ = lived(virtually, dials, story)
    (released,) = of(heard, ConfigurationReleased)
    assert released.unrestored == ("gpu_hz: it is stuck",)
    assert dials[0].level == 2e9


def test_minds_of_the_departed_are_kept_but_not_for_ever(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        for number in range(3 * KEPT_AWAY):
            bus.publish(join("a", f"{number:08x}"))
            bus.publish(AppLeft(at_s=anyio.current_time(), app="a", source=f"{number:08x}"))
            await anyio.sleep(0.1)

    _, controller = lived(virtually, dials, story)
    assert len(controller.managers) == KEPT_AWAY


def test_a_machine_that_reads_back_is_verified_and_one_that_does_not_is_not(virtually) -> None:
    class Mute(Dial):
        mute = False

        async def locate(self) -> Configuration:
            if self.mute:
                await anyio.sleep_forever()
            return await super().locate()

    dial, proven = Mute(KNOBS[0]), []

    async def main() -> None:
        machine = Machine([dial])
        controller = Controller(Bus(), machine, SPACE, lambda joined, limits: None, saved=await machine.save())  # type: ignore[arg-type]
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: controller.run(task_status=task_status))
            for dial.mute in (False, True, False):
                with anyio.move_on_after(5.0) as waited:
                    await controller.verified()
                proven.append(not waited.cancelled_caught)
            group.cancel_scope.cancel()

    virtually(main)
    assert proven == [True, False, True]


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
        controller = Controller(bus, machine, SPACE, made, saved=await machine.save())
        async with anyio.create_task_group() as group:
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
