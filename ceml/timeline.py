"""Event loops whose time is virtual (simulation, replay, tests) or runs faster than the clock (`--speed`).

Everyone in the house asks `anyio.current_time()`, which is `loop.time()`. So a loop with another `time()` moves
the whole house in time, and no clock object has to be threaded through it. Both loops are asyncio's own selector
loop around a selector that waits differently: the selector is a public argument, nothing private is touched.
A worker thread is invisible to virtual time, therefore nothing that runs here may start one.
"""

from __future__ import annotations

import asyncio
import selectors
from math import floor
from time import CLOCK_BOOTTIME, CLOCK_MONOTONIC, clock_gettime, monotonic  # here alone the system is asked
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


LOOK_EVERY = 16  # turns of a busy virtual loop between two looks at the outside world; an idle one always looks


class _Delegating(selectors.BaseSelector):
    """A selector that leaves all but the waiting to the system's own."""

    def __init__(self) -> None:
        self._system = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._system.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._system.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._system.modify(fileobj, events, data)

    def close(self) -> None:
        self._system.close()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._system.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._system.get_map()


class _VirtualSelector(_Delegating):
    """Never waits: when nothing can run, time jumps to the next timer. Whole nanoseconds, so sums stay exact."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # no timer at all: only the outside world can wake us
            return self._system.select(None)
        self._turns += 1
        if timeout <= 0 and self._turns % LOOK_EVERY:
            return []
        ready = self._system.select(0)
        if not ready and timeout > 0:
            self.now_ns += max(1, round(timeout * 1e9))
        return ready


class _ScaledSelector(_Delegating):
    """Waits for timers `speed` times shorter than asked."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self._system.select(timeout if timeout is None or timeout <= 0 else timeout / self._speed)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at second 0 and in which an hour passes as fast as its events can be worked off."""

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual.now_ns / 1e9


class ScaledLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds pass `speed` times faster than the monotonic clock's.

    `time()` is `origin_s + (monotonic - origin_s) * speed`: processes that know origin and speed share the time base.
    """

    def __init__(self, speed: float) -> None:
        self.origin_s = monotonic()
        self.speed = speed
        super().__init__(_ScaledSelector(speed))

    def time(self) -> float:
        """Seconds on the scaled clock."""
        return self.origin_s + (monotonic() - self.origin_s) * self.speed


def next_tick(at_s: float, period_s: float) -> float:
    """The first whole multiple of a period after a moment, in seconds of the same clock.

    Whoever looks every so often looks then, so that many wake together: what an idle machine does costs little, that it
    is woken costs much (the kernel rounds its timers for the same reason, round_jiffies()).
    """
    return (floor(at_s / period_s + 1e-6) + 1) * period_s


def slept_s() -> float:
    """Seconds that this machine has been suspended since it was booted: meanwhile the monotonic clock stands still."""
    return clock_gettime(CLOCK_BOOTTIME) - clock_gettime(CLOCK_MONOTONIC)


def scaled(speed: float) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes such a loop: pass it to `anyio.run` as `backend_options={"loop_factory": ...}`."""
    return lambda: ScaledLoop(speed)
