"""Publish and subscribe, typed. Publishing never waits, so no listener can hold up a sensor or a heartbeat."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from ceml.domain.events import EventsMissed
from ceml.timeline import next_tick

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ceml.domain.events import Event


TURN = 2048  # events a listener takes before others may run: a flood starves nobody, and who reads one keeps up with it
STILL = 4  # to twice as many times its patience, and what has gathered is told although nothing more comes
MOST_GATHERED = 512  # then the listener is woken: what is urgent never waits long behind what has gathered


class Keep(str, Enum):
    """What a slow subscriber keeps."""

    ALL = "all"  # everything, up to `room`; beyond it the oldest goes, counted and announced
    LATEST = "latest"  # room of one, newest wins: live views


class Subscription:
    """One listener's inbox; iterate over it. Urgent types overtake a backlog, but nothing that has gathered before.

    Attributes:
        gathered: Types that alone do not wake a listener that waits; it may change them at any time.
    """

    def __init__(
        self,
        name: str,
        keep: Keep,
        room: int,
        urgent: frozenset[type],
        gathered: frozenset[type],
        patience_s: float,
        defers_s: float,
        bus: Bus,
    ) -> None:
        self.name = name
        self.lost = 0
        self.gathered = gathered
        self._keep = keep
        self._room = room if keep is Keep.ALL else 1
        self._urgent_types = urgent
        self._urgent: deque[Any] = deque()
        self._events: deque[Any] = deque()
        self._bus = bus
        self._waiting: deque[Any] = deque()  # gathered while the listener waits: older than all that wakes it
        self._patience_s = patience_s
        self._defers_s = defers_s
        self._due = False  # something came that wakes the listener in a moment
        self._alarmed = False  # an alarm is set
        self._announced = 0
        self._waiter: asyncio.Future[None] | None = None  # a plain future: half the cost of an event, a beat a turn
        self._closed = False

    def put(self, event: Event) -> None:
        """Called by the bus. Never waits; wakes the listener once a burst."""
        kind = type(event)
        if self._waiter is not None and kind in self.gathered and not self._due:
            self._gather(event)
            return
        if kind in self._urgent_types:
            self._urgent.append(event)  # few by nature (decisions), so without bound
        else:
            if len(self._events) >= self._room:
                self._events.popleft()
                if self._keep is Keep.ALL:
                    self.lost += 1
            self._events.append(event)
        if self._waiter is None or self._due:
            return
        if self._defers_s:
            self._due, loop = True, asyncio.get_running_loop()
            loop.call_later(self._defers_s, self._wake)
        else:
            self._wake()

    def _gather(self, event: Event) -> None:
        """While events flow, the one that comes after enough time wakes; an alarm of its own would be one more wake."""
        waiting = self._waiting
        waiting.append(event)
        if event.at_s - waiting[0].at_s >= self._patience_s or len(waiting) >= MOST_GATHERED:
            self._wake()
        elif not self._alarmed:
            self._alarmed, loop, still_s = True, asyncio.get_running_loop(), STILL * self._patience_s
            loop.call_at(next_tick(loop.time() + still_s, still_s), self._alarm)

    def _alarm(self) -> None:
        """Whether or not the listener was woken meanwhile: to take every alarm back would cost more."""
        self._alarmed = False
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        self._due = False
        if self._waiter is not None:
            if not self._waiter.done():  # done: the listener was cancelled while it waited
                self._waiter.set_result(None)
            self._waiter = None

    def close(self) -> None:
        """No more events: the listener takes what is there and its iteration ends."""
        self._closed = True
        self._bus.forget(self)
        self._wake()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events as they come, until closed."""
        waiting, urgent, events = self._waiting, self._urgent, self._events
        taken = 0
        while True:
            while waiting or urgent or events:
                yield (waiting or urgent or events).popleft()
                taken += 1
                if taken % TURN == 0:
                    await anyio.lowlevel.checkpoint()
            if self.lost > self._announced:
                missed, self._announced = self.lost - self._announced, self.lost
                self._bus.publish(EventsMissed(at_s=anyio.current_time(), subscriber=self.name, missed=missed))
                continue
            if self._closed:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class Bus:
    """The one place where floors and neighbours meet."""

    def __init__(self) -> None:
        self._by_type: dict[type, tuple[Subscription, ...]] = {}

    def subscribe(
        self,
        name: str,
        *types: type,
        keep: Keep = Keep.ALL,
        room: int = 65536,
        urgent: tuple[type, ...] = (),
        gathered: tuple[type, ...] = (),
        patience_s: float = 0.0,
        defers_s: float = 0.0,
    ) -> Subscription:
        """Listen to these types of events.

        Args:
            name: Who listens, for announcements of losses.
            types: Event classes.
            keep: What to keep when the listener is slow.
            room: How many events ALL keeps.
            urgent: Types that overtake the others in the inbox.
            gathered: Types that alone do not wake a listener that waits, until `patience_s` seconds have passed.
            patience_s: How long these may gather.
            defers_s: How long a listener that waits lets those go first who act on any other event.
        """
        subscription = Subscription(
            name, keep, room, frozenset(urgent), frozenset(gathered), patience_s, defers_s, self
        )
        for kind in types:
            self._by_type[kind] = (*self._by_type.get(kind, ()), subscription)
        return subscription

    def publish(self, event: Event) -> None:
        """Hand an event to everyone who listens to its type; returns at once."""
        for subscription in self._by_type.get(type(event), ()):
            subscription.put(event)

    def hurries(self, kind: type) -> bool:
        """Whether some listener is woken by each event of this type, so that a fraction of a second matters."""
        return any(kind not in each.gathered for each in self._by_type.get(kind, ()))

    def forget(self, subscription: Subscription) -> None:
        """Stop delivering to a subscription."""
        self._by_type = {
            kind: tuple(other for other in listeners if other is not subscription)
            for kind, listeners in self._by_type.items()
        }
