"""The bus: who gets what, in which order, and what is counted when a listener is slow.

Not covered here: throughput (tests/benchmarks).
"""

from __future__ import annotations

import anyio

from ceml.control.bus import TURN, Bus, Keep
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


def test_some_events_gather_before_they_wake_a_listener_and_others_wake_it_at_once(virtually) -> None:
    woken_at: list[tuple[float, type]] = []

    async def main() -> None:
        bus = Bus()
        inbox = bus.subscribe("eyes", Heartbeat, AppLeft, gathered=(Heartbeat,), patience_s=0.55)

        async def listen() -> None:
            async for event in inbox:
                woken_at.append((round(anyio.current_time(), 3), type(event)))

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            for number in range(1, 13):
                await anyio.sleep(0.1)
                bus.publish(beat(number))
                if number == 9:
                    bus.publish(AppLeft(at_s=0.9, app="a"))
            inbox.close()

    virtually(main)
    assert woken_at == (
        [(0.65, Heartbeat)] * 6 + [(0.9, Heartbeat)] * 3 + [(0.9, AppLeft)] + [(1.2, Heartbeat)] * 3
    )  # half a second after the first, with the one that cannot wait, and when it was closed
