"""The applier: what is applied, refused, withheld, written down and given back. In virtual time.

Not covered here: who holds the machine (test_controller.py), knobs that somebody else turns (test_readback.py).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
from structlog.testing import capture_logs

from ceml.control.applier import Applier
from ceml.control.bus import Bus
from ceml.control.machine import Machine
from ceml.control.ports import NewLimit
from ceml.domain.events import (
    AppLeft,
    BudgetChanged,
    ConfigurationApplied,
    ConfigurationRefused,
    ConfigurationReleased,
    ConfigurationWithheld,
    ControlPaused,
    ControlResumed,
    ControlYielded,
    Heartbeat,
    LevelsAllowed,
)
from ceml.domain.knobs import Configuration, Knob, KnobSpace
from ceml.domain.values import Limits
from ceml.errors import Unavailable
from ceml.saved import Item, Saved
from tests.control.lived import KNOBS, PLAN, SPACE, TOP, Dial, beats, join, lived, of

if TYPE_CHECKING:
    from collections.abc import Collection


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
        assert await controller.applier.release("the run ends") == ()

    virtually(ends)
    assert dials[0].level == 0.8e9, "nothing was held any more"


def test_limits_that_somebody_set_meanwhile_are_kept_to_until_they_are_lifted(virtually) -> None:
    class Capped(Dial):
        most = 2e9

        async def allowed(self, saved: Saved) -> dict[str, tuple[float, ...]]:
            knob = self.knobs[0]
            return {knob.name: tuple(level for level in knob.levels if level <= float(saved.values["most"]))}

        async def new_limits(self, _: Collection[str]) -> tuple[NewLimit, ...]:
            return ()

        async def cools(self) -> bool:
            return False

        async def uncooled(self, now: Saved, _: Saved) -> Saved:
            return now

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


class Fence(Dial):
    """What it turns is a limit itself: who lowers it means it."""

    async def allowed(self, saved: Saved) -> dict[str, tuple[float, ...]]:
        (knob,) = self.knobs
        return {knob.name: tuple(level for level in knob.levels if level <= float(saved.values[knob.name]))}

    hot = False
    told: float | str | None = None

    async def new_limits(self, _: Collection[str]) -> tuple[NewLimit, ...]:
        if self.hot or not self.writes or self.level in (self.writes[-1], self.told):
            return ()
        self.told = self.level
        (item,) = (await self.save()).items
        return (NewLimit(self.knobs[0].name, item, lowers=self.level < float(self.writes[-1])),)

    async def cools(self) -> bool:
        return self.hot

    async def uncooled(self, now: Saved, before: Saved) -> Saved:
        own = [item for item in before.items if item.target == self.knobs[0].name]
        return now.with_values(own) if self.hot else now


async def paced(bus: Bus, dial: Dial, how_many: int) -> None:
    """Beats of a program that follows the clock."""
    for number in range(how_many):
        await anyio.sleep(2e8 / float(dial.level))
        bus.publish(Heartbeat(at_s=anyio.current_time(), app="a", beat=number))


def test_a_limit_that_somebody_lowers_while_it_is_ours_is_kept_to_and_put_back(virtually) -> None:
    dials, notes = [Fence(KNOBS[0]), Dial(KNOBS[1])], Notes()
    after: list[set[float | str]] = []

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await paced(bus, dials[0], 200)
        for theirs in (1.1e9, 0.8e9, 2e9):
            dials[0].level = theirs
            await paced(bus, dials[0], 25)
            assert notes.saved is not None
            assert notes.saved.values["cpu_hz"] == str(theirs)
            dials[0].writes = [dials[0].level]
            await paced(bus, dials[0], 100)
            after.append({*dials[0].writes, dials[0].level})
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))

    heard, _ = lived(virtually, dials, story, prior=notes)
    assert max(after[0]) == 1.1e9
    assert after[1] == {0.8e9}
    assert max(after[2]) > 0.8e9
    assert [event.levels.get("cpu_hz") for event in of(heard, LevelsAllowed)] == [(0.8e9, 1.1e9), (0.8e9,), None]
    assert dials[0].level == 2e9


def test_who_lowers_a_limit_again_and_again_is_never_fought(virtually) -> None:
    knob = Knob(name="cpu_hz", levels=tuple(1e8 * step for step in range(1, 21)), settle_s=0.001)
    dials = [Fence(knob), Dial(KNOBS[1])]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await paced(bus, dials[0], 200)
        for _ in range(8):
            dials[0].level = max(level for level in knob.levels if level < dials[0].level)
            await paced(bus, dials[0], 25)

    heard, _ = lived(virtually, dials, story, space=KnobSpace([knob, KNOBS[1]]))
    assert len(of(heard, LevelsAllowed)) == 8
    assert not of(heard, ControlYielded)


def test_what_cooling_lowers_between_two_programs_is_no_prior_value(virtually) -> None:
    dials, notes = [Fence(KNOBS[0])], Notes()
    space = KnobSpace(KNOBS[:1])

    async def story(bus: Bus) -> None:
        dials[0].hot, dials[0].level = True, 0.8e9
        bus.publish(join("a"))
        await paced(bus, dials[0], 50)
        assert notes.saved is not None
        assert notes.saved.values["cpu_hz"] == "2000000000.0"
        dials[0].hot = False
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))

    heard, _ = lived(virtually, dials, story, prior=notes, space=space)
    assert not of(heard, ControlYielded)
    assert dials[0].level == 2e9


def test_a_limit_set_between_two_programs_is_known_although_cooling_hides_it_later(virtually) -> None:
    dials = [Fence(KNOBS[0])]

    async def story(bus: Bus) -> None:
        dials[0].level = 1.4e9
        await anyio.sleep(3)
        dials[0].hot, dials[0].level = True, 0.8e9
        bus.publish(join("a"))
        await paced(bus, dials[0], 50)
        dials[0].hot = False
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))

    lived(virtually, dials, story, space=KnobSpace(KNOBS[:1]))
    assert dials[0].level == 1.4e9


def test_who_starts_while_the_kernel_cools_turns_nothing_until_it_has_cooled_and_says_so_once(virtually) -> None:
    dials = [Fence(KNOBS[0])]
    dials[0].hot, dials[0].level = True, 1.1e9

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await paced(bus, dials[0], 50)
        assert dials[0].writes == []
        dials[0].hot, dials[0].level = False, 2e9
        await paced(bus, dials[0], 50)
        assert dials[0].writes
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))

    with capture_logs() as logs:
        lived(virtually, dials, story, space=KnobSpace(KNOBS[:1]), sure=False)
    assert [log["event"] for log in logs] == ["waits_for_cooling"]
    assert dials[0].level == 2e9


def test_who_starts_while_the_kernel_cools_keeps_to_the_limits_that_show_afterwards(virtually) -> None:
    dials = [Fence(KNOBS[0])]
    dials[0].hot, dials[0].level = True, 0.8e9

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await paced(bus, dials[0], 50)
        dials[0].hot, dials[0].level = False, 1.1e9
        await paced(bus, dials[0], 100)
        assert max(map(float, dials[0].writes)) == 1.1e9
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))

    with capture_logs():
        heard, _ = lived(virtually, dials, story, space=KnobSpace(KNOBS[:1]), sure=False)
    (said,) = of(heard, LevelsAllowed)
    assert (said.levels, said.changed) == ({"cpu_hz": (0.8e9, 1.1e9)}, ())
    assert said.said == "limits that somebody else set leave 2 levels of cpu_hz"
    assert dials[0].level == 1.1e9


def test_a_limit_lowered_just_before_the_end_is_what_stands_there_afterwards(virtually) -> None:
    dials = [Fence(KNOBS[0]), Dial(KNOBS[1])]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await paced(bus, dials[0], 200)
        dials[0].level = 0.8e9
        bus.publish(AppLeft(at_s=anyio.current_time(), app="a"))

    lived(virtually, dials, story)
    assert [dial.level for dial in dials] == [0.8e9, 1e9]


def test_a_limit_below_every_level_leaves_the_machine_alone_with_it(virtually) -> None:
    dials = [Fence(KNOBS[0]), Dial(KNOBS[1])]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await paced(bus, dials[0], 200)
        dials[0].level = 0.5e9
        await paced(bus, dials[0], 50)

    heard, _ = lived(virtually, dials, story)
    (said,) = of(heard, ControlYielded)
    assert "cpu_hz below every level" in said.why
    assert [dial.level for dial in dials] == [0.5e9, 1e9]


def test_where_a_new_limit_cannot_be_written_down_everything_is_put_back(virtually) -> None:
    dials, notes = [Fence(KNOBS[0]), Dial(KNOBS[1])], Notes()

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await paced(bus, dials[0], 200)
        notes.full, dials[0].level = True, 0.8e9
        await paced(bus, dials[0], 50)

    heard, _ = lived(virtually, dials, story, prior=notes)
    (said,) = of(heard, ControlYielded)
    assert "the disk is full" in said.why
    assert [dial.level for dial in dials] == [0.8e9, 1e9]


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
    lost = reasoning.territory.unreachable
    assert Configuration({"gpu_hz": 1e9}) not in lost  # heat may do the same: the next run asks again


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
    assert controller.managers["a", ""].reasoning.territory.unreachable == set()


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
        applier = Applier(Bus(), machine, SPACE, saved=await machine.save())
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: applier.run(task_status=task_status))
            for dial.mute in (False, True, False):
                with anyio.move_on_after(5.0) as waited:
                    await applier.verified()
                proven.append(not waited.cancelled_caught)
            group.cancel_scope.cancel()

    virtually(main)
    assert proven == [True, False, True]
