"""The bus: who gets what, in which order, and what is counted when a listener is slow.

Not covered here: throughput (tests/benchmarks).
"""

from __future__ import annotations

import anyio
import pytest

from ceml.control.bus import MOST_GATHERED, STILL, TURN, Bus, Keep, Subscription
from ceml.domain.events import AppJoined, AppLeft, EventsMissed, Heartbeat


def beat(number: int) -> Heartbeat:
    return Heartbeat(at_s=float(number), app="a", beat=number)


async def taken(subscription, how_many: int) -> list:
    got = []
    async for event in subscription:
        got.append(event)
        if len(got) == how_many:
            break
    return got


async def test_events_reach_those_who_listen_to_their_type_in_order() -> None:
    bus = Bus()
    beats, joins = bus.subscribe("beats", Heartbeat), bus.subscribe("joins", AppJoined)
    for number in range(3):
        bus.publish(beat(number))
    bus.publish(AppJoined(at_s=0.0, app="a"))
    assert [e.beat for e in await taken(beats, 3)] == [0, 1, 2]
    assert [e.app for e in await taken(joins, 1)] == ["a"]


async def test_urgent_events_overtake_the_backlog() -> None:
    bus = Bus()
    inbox = bus.subscribe("controller", Heartbeat, AppLeft, urgent=(AppLeft,))
    bus.publish(beat(1))
    bus.publish(AppLeft(at_s=2.0, app="a"))
    assert [type(e) for e in await taken(inbox, 2)] == [AppLeft, Heartbeat]


async def test_a_slow_listener_loses_the_oldest_and_the_loss_is_counted_and_announced() -> None:
    bus = Bus()
    slow = bus.subscribe("slow", Heartbeat, room=2)
    news = bus.subscribe("news", EventsMissed)
    for number in range(5):
        bus.publish(beat(number))
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            assert [e.beat for e in await taken(slow, 2)] == [3, 4]
            await taken(slow, 1)  # nothing more: announces, then waits

        group.start_soon(listen)
        (missed,) = await taken(news, 1)
        assert (missed.subscriber, missed.missed, slow.lost) == ("slow", 3, 3)
        group.cancel_scope.cancel()


async def test_latest_keeps_the_newest_only_and_calls_it_no_loss() -> None:
    bus = Bus()
    view = bus.subscribe("view", Heartbeat, keep=Keep.LATEST)
    for number in range(5):
        bus.publish(beat(number))
    assert [e.beat for e in await taken(view, 1)] == [4]
    assert view.lost == 0


async def test_a_waiting_listener_is_woken() -> None:
    bus = Bus()
    inbox = bus.subscribe("late", Heartbeat)
    got: list[Heartbeat] = []

    async def listen() -> None:
        got.extend(await taken(inbox, 2))

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        bus.publish(beat(1))
        await anyio.wait_all_tasks_blocked()
        bus.publish(beat(2))
    assert [e.beat for e in got] == [1, 2]


async def test_closing_lets_the_listener_finish_what_is_there() -> None:
    bus = Bus()
    inbox = bus.subscribe("eyes", Heartbeat)
    bus.publish(beat(1))
    inbox.close()
    bus.publish(beat(2))
    assert [e.beat async for e in inbox] == [1]


async def test_a_flood_leaves_room_for_other_tasks() -> None:
    bus = Bus()
    inbox = bus.subscribe("flooded", Heartbeat)
    for number in range(6 * TURN):
        bus.publish(beat(number))
    inbox.close()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        async for _ in inbox:
            pass
        group.cancel_scope.cancel()
    assert turns >= 5


def heard(
    virtually, publish, *, patience_s: float = 0.55, urgent: tuple[type, ...] = (), defers_s: float = 0.0
) -> list[tuple[float, str]]:
    """When a listener that lets beats gather heard of what `publish(bus, inbox)` tells, and of what."""
    woken_at: list[tuple[float, str]] = []

    async def main() -> None:
        bus = Bus()
        inbox = bus.subscribe(
            *("eyes", Heartbeat, AppLeft),
            gathered=(Heartbeat,),
            patience_s=patience_s,
            urgent=urgent,
            defers_s=defers_s,
        )

        async def listen() -> None:
            async for event in inbox:
                woken_at.append((round(anyio.current_time(), 3), type(event).__name__))

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            await publish(bus, inbox)
            inbox.close()

    virtually(main)
    return woken_at


@pytest.mark.parametrize("urgent", [(), (AppLeft,)])
def test_some_events_gather_before_they_wake_a_listener_and_others_wake_it_at_once(virtually, urgent) -> None:
    async def publish(bus: Bus, inbox: Subscription) -> None:
        for number in range(1, 13):
            await anyio.sleep(0.1)
            bus.publish(Heartbeat(at_s=number / 10, app="a", beat=number))
            if number == 9:
                bus.publish(AppLeft(at_s=0.9, app="a"))

    assert heard(virtually, publish, urgent=urgent) == (
        [(0.7, "Heartbeat")] * 7 + [(0.9, "Heartbeat")] * 2 + [(0.9, "AppLeft")] + [(1.2, "Heartbeat")] * 3
    )  # with the first that comes half a second later, with what cannot wait but does not overtake, and when closed


@pytest.mark.parametrize("at_s", [0.0, -1e9, 1e9])
def test_what_has_gathered_is_told_although_nothing_more_comes(virtually, at_s: float) -> None:
    async def publish(bus: Bus, inbox: Subscription) -> None:
        for number in (1, 2):  # of one moment, or with times of another clock
            bus.publish(Heartbeat(at_s=at_s, app="a", beat=number))
        await anyio.sleep(60.0)

    told = heard(virtually, publish)
    assert len(told) == 2
    assert all(0.55 * STILL <= at_s <= 2 * 0.55 * STILL for at_s, _ in told)


def test_events_hurry_as_long_as_one_listener_is_woken_by_each(virtually) -> None:
    async def main() -> None:
        bus = Bus()
        assert not bus.hurries(Heartbeat), "nobody listens"
        calm = bus.subscribe("calm", Heartbeat, AppLeft, gathered=(Heartbeat,), patience_s=1.0)
        assert (bus.hurries(Heartbeat), bus.hurries(AppLeft)) == (False, True)
        eager = bus.subscribe("eager", Heartbeat)
        assert bus.hurries(Heartbeat)
        eager.close()
        assert not bus.hurries(Heartbeat)
        calm.gathered = frozenset()
        assert bus.hurries(Heartbeat)

    virtually(main)


def test_a_flood_gathers_no_further_than_a_bound(virtually) -> None:
    async def publish(bus: Bus, inbox: Subscription) -> None:
        for _ in range(MOST_GATHERED):
            bus.publish(beat(0))
        await anyio.sleep(0.1)

    assert heard(virtually, publish) == [(0.0, "Heartbeat")] * MOST_GATHERED


def test_a_listener_that_no_longer_lets_events_gather_hears_them_at_once(virtually) -> None:
    async def publish(bus: Bus, inbox: Subscription) -> None:
        bus.publish(beat(0))
        await anyio.sleep(0.1)
        inbox.gathered = frozenset()
        bus.publish(beat(0))
        await anyio.sleep(0.1)

    assert heard(virtually, publish) == [(0.1, "Heartbeat")] * 2


@pytest.mark.parametrize("urgent", [(), (AppLeft,)])
def test_a_listener_that_defers_lets_a_moment_pass_and_then_hears_all_in_order(virtually, urgent) -> None:
    async def publish(bus: Bus, inbox: Subscription) -> None:
        bus.publish(beat(0))
        bus.publish(AppLeft(at_s=0.0, app="a"))
        await anyio.sleep(0.002)
        bus.publish(beat(1))  # would gather, but is younger than what is about to wake
        await anyio.sleep(0.01)
        bus.publish(AppLeft(at_s=0.0, app="b"))
        inbox.close()

    told = heard(virtually, publish, urgent=urgent, defers_s=0.005)
    assert told == [(0.005, "Heartbeat"), (0.005, "AppLeft"), (0.005, "Heartbeat"), (0.012, "AppLeft")]


def test_who_acts_on_an_event_goes_before_a_listener_that_defers(virtually) -> None:
    went: list[str] = []

    async def main() -> None:
        bus = Bus()
        listeners = [bus.subscribe(name, AppLeft, defers_s=s) for name, s in (("eyes", 0.005), ("hands", 0.0))]

        async def listen(inbox: Subscription) -> None:
            async for _ in inbox:
                for _ in range(5):  # in several turns
                    await anyio.lowlevel.checkpoint()
                went.append(inbox.name)

        async with anyio.create_task_group() as group:
            for inbox in listeners:
                group.start_soon(listen, inbox)
            await anyio.wait_all_tasks_blocked()
            bus.publish(AppLeft(at_s=0.0, app="a"))
            await anyio.sleep(0.1)
            for inbox in listeners:
                inbox.close()

    virtually(main)
    assert went == ["hands", "eyes"]
