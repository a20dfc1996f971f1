"""The picture of the moment, made once for all who look: at most five a second, and none while nobody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import anyio
import anyio.lowlevel

from ceml.control.bus import Keep
from ceml.domain.events import Event, Heartbeat, Sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from ceml.control.bus import Bus, Subscription

PERIOD_S = 0.2
GATHER_S = 0.5  # where there is no news but beats and samples: what is told of them is added up no faster
NEWS = tuple(kind for kind in get_args(Event) if kind not in (Heartbeat, Sampled))
TURN = 8  # viewers woken at once: between two turns the house may do what it is there for


class Viewer:
    """Somebody who looks; sees the newest frame whenever there is time for one."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._seen = 0
        self.news = anyio.Event()

    async def next(self) -> bytes:
        """The newest frame, once there is one not seen yet."""
        while self._seen == self._frames.number:
            await self.news.wait()
        self.news = anyio.Event()
        self._seen = self._frames.number
        return self._frames.latest


class Frames:
    """Makes frames while somebody looks.

    Args:
        bus: Wakes it when something happened.
        make: Makes a frame, from what is in memory.
        speed: Seconds of the loop per second of the clock.

    Attributes:
        latest: The newest frame.
        number: How many there were.
    """

    def __init__(self, bus: Bus, make: Callable[[], bytes], *, speed: float = 1.0) -> None:
        self.latest = b""
        self.number = 0
        self._made_s = float("-inf")
        self._bus = bus
        self._make = make
        self._speed = speed
        self._viewers: dict[Viewer, None] = {}
        self._came = anyio.Event()
        self._news = anyio.Event()

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    def join(self) -> Viewer:
        """Somebody looks from now on, and sees a frame of now at once."""
        viewer = Viewer(self)
        self._viewers[viewer] = None
        if anyio.current_time() - self._made_s >= PERIOD_S * self._speed:  # a crowd sees one frame
            self._new()
        self._came.set()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Nobody looks there any more."""
        self._viewers.pop(viewer, None)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Make them until cancelled; between two runs of viewers it listens to nothing."""
        task_status.started()
        while True:
            await self._came.wait()
            self._came = anyio.Event()
            inbox = self._bus.subscribe("screens", *NEWS, keep=Keep.LATEST)
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._listen, inbox)
                    await self._film()
                    group.cancel_scope.cancel()
            finally:
                inbox.close()

    async def _listen(self, inbox: Subscription) -> None:
        async for _ in inbox:
            self._news.set()

    async def _film(self) -> None:
        """Make frames until nobody looks any more."""
        while self._viewers:
            with anyio.move_on_after(GATHER_S * self._speed):
                await self._news.wait()
            await anyio.sleep(PERIOD_S * self._speed)  # before, not after: the others have heard of it by then
            self._news = anyio.Event()
            if self._viewers:
                self._new()
                await self._show()

    def _new(self) -> None:
        self.latest, self._made_s = self._make(), anyio.current_time()
        self.number += 1

    async def _show(self) -> None:
        for count, viewer in enumerate(list(self._viewers), 1):
            viewer.news.set()
            if count % TURN == 0:
                await anyio.lowlevel.checkpoint()
