"""Frames in virtual time: made once for all, five a second at most, none while nobody looks.

Not covered: how they travel (test_web.py), slow readers on real sockets (test_web_crowd.py).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from ceml.control.bus import Bus
from ceml.domain.events import ControlPaused, Sampled
from ceml.screens.frames import PERIOD_S, Frames, Viewer

if TYPE_CHECKING:
    from collections.abc import Callable


class Studio:
    """Frames with a count of how many were made."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.frames = Frames(self.bus, self._make)
        self.made = 0

    def _make(self) -> bytes:
        self.made += 1
        return b"%d" % self.made

    async def sample(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.bus.publish(Sampled(at_s=anyio.current_time(), sensor="a"))
            await anyio.sleep(0.01)

    async def look(self, viewer: Viewer, seen: list[bytes]) -> None:
        while True:
            seen.append(await viewer.next())


async def living(studio: Studio, seconds: float, viewers: int, seen: list[list[bytes]]) -> None:
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: studio.frames.run(task_status=task_status))
        for _ in range(viewers):
            seen.append([])
            group.start_soon(studio.look, studio.frames.join(), seen[-1])
        await studio.sample(seconds)
        group.cancel_scope.cancel()


def test_a_hundred_see_the_same_frames_as_one(virtually: Callable):
    made = []
    for viewers in (1, 100):
        studio, seen = Studio(), []
        virtually(partial(living, studio, 10.0, viewers, seen))
        made.append(studio.made)
        assert all(each == seen[0] for each in seen)
        assert len(seen[0]) == studio.made
    assert made[0] == made[1] <= 10.0 / PERIOD_S + 1


def test_while_nobody_looks_nothing_is_made(virtually: Callable):
    studio = Studio()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: studio.frames.run(task_status=task_status))
            await studio.sample(5.0)
            assert studio.made == 0
            viewer = studio.frames.join()
            await studio.sample(2.0)
            studio.frames.leave(viewer)
            await studio.sample(2.0)
            made = studio.made
            await studio.sample(5.0)
            assert studio.made == made > 2
            await studio.frames.join().next()
            assert studio.made == made + 1, "who comes sees a frame of now"
            group.cancel_scope.cancel()

    virtually(main)


def test_what_is_decided_shows_before_the_next_sample(virtually: Callable):
    studio = Studio()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: studio.frames.run(task_status=task_status))
            viewer = studio.frames.join()
            await viewer.next()
            await anyio.sleep(10.0)
            await viewer.next()
            await viewer.next()  # one made just now: the next by itself is due in 0.7 s
            before_s = anyio.current_time()
            studio.bus.publish(ControlPaused(at_s=before_s))
            await viewer.next()
            assert anyio.current_time() - before_s <= PERIOD_S * 1.001
            group.cancel_scope.cancel()

    virtually(main)
