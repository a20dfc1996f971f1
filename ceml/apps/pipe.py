"""The named pipe on which applications speak: read, and made anew when somebody takes it away."""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import structlog

from ceml.apps.fifo import PIPE_BYTES, Fifo
from ceml.apps.processes import Processes
from ceml.apps.roster import Roster
from ceml.apps.wire import MAX_LINE_BYTES, WireError, parse
from ceml.errors import SettingsError
from ceml.timeline import next_tick

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anyio.abc import TaskStatus

    from ceml.control.ports import Publish

CHUNK_BYTES = 16384  # at most some 1300 lines a turn: fewer than a subscriber takes in one (control/bus.py)
LOOK_S = 0.5  # between two looks at who is still there
MOST_PIPES = 4  # that are read: ours, and those before it that were taken away
TICK_S = 0.1  # between two looks into the pipe while nobody hurries; the fastest sensors' period
DOZE_TICKS = 2.5  # without a beat, and the pipe is listened to
REPORT_LOOKS = 10  # refused lines are reported every so many looks


class PipeListener:
    """Heartbeats of any number of applications, from one named pipe.

    Attributes:
        roster: Who speaks, and what was refused; None before `run`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        group: str | None = None,
        t_tolerance_s: float = 1.0,
        silence_s: float = 5.0,
        gather_s: float = 0.2,
        tick_s: float = TICK_S,
        hurries: Callable[[], bool] = lambda: True,
    ) -> None:
        """Say where to listen; nothing is touched before `run`.

        Args:
            path: The named pipe.
            group: Members of this group may write too; None: only our own user.
            t_tolerance_s: A time in a line further than this from its arrival is not believed.
            silence_s: The shortest silence that counts as having left.
            gather_s: Over so long beats are spread that say no time and come at once: many times longer than the
                system and we take over a burst, shorter than an idle window.
            tick_s: Between two looks while nobody hurries.
            hurries: Whether somebody waits for the very next beat.
        """
        self.path = Path(path)
        self.roster: Roster | None = None
        self._fifos: list[Fifo] = []  # the last one is where programs find us; the others were taken away
        self._group = group
        self._t_tolerance_s = t_tolerance_s
        self._silence_s = silence_s
        self._gather_s = gather_s
        self._tick_s = tick_s
        self._hurries = hurries

    def open(self, stack: ExitStack) -> None:
        """Make the pipe before `run` reads it; it goes when the stack is left.

        Raises:
            SettingsError: Nobody can listen at this path.
        """
        self._fifos.append(Fifo(self.path, self._group))
        stack.callback(self._close)

    async def run(self, publish: Publish, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Publish what applications say, until cancelled.

        Raises:
            SettingsError: Nobody can listen at this path.
        """
        with ExitStack() as stack:
            if not self._fifos:
                self.open(stack)
            processes = Processes(self.path)
            self.roster = Roster(
                processes,
                t_tolerance_s=self._t_tolerance_s,
                silence_s=self._silence_s,
                gather_s=self._gather_s,
            )
            ears = _Ears(self.roster, publish, self._calm, self._tick_s)
            watch = _Watch(self._fifos, self._group, processes, ears)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_look_after, ears, self.roster, watch, publish)
                    task_status.started()
                    await ears.run()
            finally:
                last = self._close()
                with anyio.CancelScope(shield=True):
                    await ears.take(last)  # what was written before we left counts
                for event in self.roster.end(anyio.current_time()):
                    publish(event)
                _report(self.roster, publish)

    def _calm(self) -> bool:
        """Whether what is in the pipe may wait for the next tick: nobody hurries, and all beats say when they were."""
        return self.roster is not None and self.roster.tells_time and not self._hurries()

    def _close(self) -> dict[int, bytes]:
        """Take all pipes away; returns what was in each of them, the oldest first."""
        fifos = list(self._fifos)
        self._fifos.clear()
        return {fifo.fd: fifo.close() for fifo in fifos}


class _Watch:
    """Sees to it that programs find us: a pipe that was removed is made anew."""

    def __init__(self, fifos: list[Fifo], group: str | None, processes: Processes, ears: _Ears) -> None:
        self._fifos = fifos
        self._group = group
        self._processes = processes
        self._ears = ears
        self._told = ""
        self._hear(fifos[-1])

    def look(self) -> None:
        """Look at the path: one stat."""
        last = self._fifos[-1]
        if last.is_reachable():
            return
        try:
            new = Fifo(last.path, self._group)
        except SettingsError as error:  # another thing is there now: it is not ours to take away
            if str(error) != self._told:
                self._told = str(error)
                told = f"the pipe was taken away, and new programs cannot be heard: {error}"
                structlog.get_logger().warning("pipe_lost", path=str(last.path), problem=told)
            return
        self._told = ""
        self._fifos.append(new)
        self._hear(new)
        if len(self._fifos) > MOST_PIPES:
            old = self._fifos.pop(0)
            self._ears.leave(old.fd)
            old.close()
        structlog.get_logger().warning(
            "pipe_made_anew", path=str(new.path), problem="the pipe was taken away; those who wrote to it are heard on"
        )

    def _hear(self, fifo: Fifo) -> None:
        self._processes.watch(fifo.status)
        self._ears.hear(fifo.fd)


class _Ears:
    """The ears of all pipes that programs may still write to.

    The loop calls them itself; waiting for a descriptor in a task would cost two more turns a beat.
    """

    def __init__(self, roster: Roster, publish: Publish, calm: Callable[[], bool], tick_s: float) -> None:
        self._roster = roster
        self._publish = publish
        self._calm = calm
        self._tick_s = tick_s
        self._ears: dict[int, _Ear] = {}
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()

    def hear(self, fd: int) -> None:
        """Read from there, until told otherwise."""
        reader = _Reader(fd, self._roster, self._publish, self._loop.time)
        self._ears[fd] = ear = _Ear(fd, reader, self._calm, self._tick_s, self._fail)
        ear.wake()

    def _fail(self, error: Exception) -> None:
        """Raised in the task, where it ends the house as any bug does."""
        if not self._failed.done():
            self._failed.set_exception(error)

    def leave(self, fd: int) -> None:
        """Read no more from there."""
        self._ears.pop(fd).close()

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            await self._failed
        finally:
            for ear in self._ears.values():
                ear.close()

    @property
    def behind(self) -> bool:
        """Whether there was more to read than is read at once, the last time."""
        return any(ear.behind for ear in self._ears.values())

    async def read_rest(self) -> None:
        """Read as much as full pipes can hold."""
        for ear in tuple(self._ears.values()):
            await ear.reader.read_rest()

    async def take(self, last: Mapping[int, bytes]) -> None:
        """Take in what was in pipes when they were closed."""
        for fd, data in last.items():
            await self._ears[fd].reader.take(data)


class _Ear:
    """Reads one pipe a chunk a turn of the loop, so that a million beats at once starve nobody.

    Awake, it reads whenever there is something. Where beats follow each other fast and nobody hurries, it dozes: it
    looks at ticks only, when the sensors' pollers are awake as well (`next_tick`). A beat would else be a waking of its
    own, which costs more than all that is done with it. It wakes where nothing came for some ticks, or a whole chunk.
    """

    def __init__(
        self, fd: int, reader: _Reader, calm: Callable[[], bool], tick_s: float, fail: Callable[[Exception], None]
    ) -> None:
        self.reader = reader
        self.behind = False  # whether the latest chunk was a full one
        self._fd = fd
        self._calm = calm
        self._tick_s = tick_s
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._read_s = -math.inf

    def wake(self) -> None:
        """Read whenever there is something."""
        self._timer = None
        self._loop.add_reader(self._fd, self._read)

    def close(self) -> None:
        """Read no more."""
        self._loop.remove_reader(self._fd)
        if self._timer is not None:
            self._timer.cancel()

    def _read(self) -> None:
        if self._may_doze():
            self._loop.remove_reader(self._fd)
            self._doze()

    def _tick(self) -> None:
        if self._may_doze():
            self._doze()
        else:
            self.wake()

    def _doze(self) -> None:
        self._timer = self._loop.call_at(next_tick(self._loop.time(), self._tick_s), self._tick)

    def _may_doze(self) -> bool:
        """Read once; whether beats follow each other within some ticks, not too many at once, and the next may wait."""
        before_s, now_s = self._read_s, self._loop.time()
        try:
            read = self.reader.read_chunk()
        except Exception as error:
            self._fail(error)
            return False
        if read:
            self._read_s = now_s
        self.behind = read == CHUNK_BYTES
        return not self.behind and now_s - before_s < DOZE_TICKS * self._tick_s and self._calm()


class _Reader:
    """Cuts what comes out of the pipe into lines, in bounded memory, and publishes what the roster makes of them."""

    def __init__(self, fd: int, roster: Roster, publish: Publish, time: Callable[[], float]) -> None:
        self._time = time  # the loop's own
        self._fd = fd
        self._roster = roster
        self._publish = publish
        self._rest = b""  # a line that has begun
        self._skipping = False  # inside a line that is too long already

    async def read_rest(self) -> None:
        """Read as much as a full pipe can hold."""
        for _ in range(PIPE_BYTES // CHUNK_BYTES):
            if self.read_chunk() < CHUNK_BYTES:
                return
            await anyio.lowlevel.checkpoint()

    async def take(self, data: bytes) -> None:
        """Take in what somebody else read."""
        arrival_s = self._time()
        for start in range(0, len(data), CHUNK_BYTES):
            self._take(data[start : start + CHUNK_BYTES], arrival_s)
            await anyio.lowlevel.checkpoint()

    def read_chunk(self) -> int:
        """Read once; returns how many bytes. Below `CHUNK_BYTES` the pipe is empty now."""
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        self._take(data, self._time())
        return len(data)

    def _take(self, data: bytes, arrival_s: float) -> None:
        if self._skipping:
            _, newline, data = data.partition(b"\n")
            if not newline:
                return
            self._skipping = False
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line:
                self._hear(line, arrival_s)
        if len(self._rest) > MAX_LINE_BYTES:
            self._roster.refuse("too_long", self._rest)
            self._rest, self._skipping = b"", True

    def _hear(self, line: bytes, arrival_s: float) -> None:
        try:
            said = parse(line)
        except WireError as error:
            self._roster.refuse(error.reason, line)
            return
        for event in self._roster.hear(said, arrival_s, line):
            self._publish(event)


async def _look_after(ears: _Ears, roster: Roster, watch: _Watch, publish: Publish) -> None:
    """Notice who left without a word, keep the pipe where it is found, report refused lines at a bounded rate."""
    while True:
        for _ in range(REPORT_LOOKS):
            await anyio.sleep_until(next_tick(anyio.current_time(), LOOK_S))
            if roster.look():
                await ears.read_rest()  # the last words of the dead come before the news of their death
            watch.look()
            for event in roster.gone(anyio.current_time(), heard=not ears.behind):
                publish(event)
        _report(roster, publish)


def _report(roster: Roster, publish: Publish) -> None:
    refused = roster.drain(anyio.current_time())
    if refused is not None:
        publish(refused)
