"""The named pipe on which applications speak: made, guarded, read, and taken away at the end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import grp
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from ceml.apps.processes import Processes
from ceml.apps.roster import Roster
from ceml.apps.wire import MAX_LINE_BYTES, WireError, parse
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from ceml.control.ports import Publish

CHUNK_BYTES = 16384  # at most some 1300 lines a turn: fewer than a subscriber takes in one (control/bus.py)
PIPE_BYTES = 1 << 20  # what a stalled loop may fall behind; the kernel's limit for those who are not root
LOOK_S = 0.5  # between two looks at who is still there
REPORT_LOOKS = 10  # refused lines are reported every so many looks


class Fifo:
    """A named pipe of ours, open and locked.

    Attributes:
        path: Where it is.
        fd: Open for reading and writing: so there is no end of file when the last writer leaves.
        status: Device and inode.
    """

    def __init__(self, path: Path, group: str | None) -> None:
        """Make it, or take over the one that a crash left.

        Raises:
            SettingsError: The path or the group cannot be used; what is there is left as it is.
        """
        self.path = path
        self._gid = _gid(group)
        try:
            self._make_directory()
            while True:
                self.fd = self._open()
                self.status = os.fstat(self.fd)
                if self._still_there():  # else the listener before us removed it just now
                    break
                os.close(self.fd)
            self._prepare()
        except OSError as error:
            raise SettingsError(
                f"pipe {path}: {error.strerror}. Name a path in a directory that you may write to (--pipe PATH)."
            ) from error

    def close(self) -> None:
        """Take it away, if it is still ours, and close it: in this order nobody is left writing to a dead pipe."""
        with contextlib.suppress(OSError):
            if self._still_there():
                self.path.unlink()
        os.close(self.fd)

    def _make_directory(self) -> None:
        directory = self.path.parent
        if not directory.exists():
            directory.mkdir(0o750, parents=True)
            os.chown(directory, -1, self._gid)
            directory.chmod(0o750)  # once more: the umask won

    def _open(self) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.path, 0o600)
        self._check(self.path.lstat())
        fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY)
        try:
            self._check(os.fstat(fd))  # what we opened may be another thing than what we looked at
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise SettingsError(
                f"another ceml serve listens on {self.path}. Stop it, or name another pipe (--pipe PATH)."
            ) from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISFIFO(found.st_mode):
            raise SettingsError(
                f"pipe {self.path}: there is something else at this path, and it is left as it is. "
                "Move it away, or name another path (--pipe PATH)."
            )
        if found.st_uid != os.geteuid():
            raise SettingsError(
                f"pipe {self.path}: it belongs to user {found.st_uid}, we are user {os.geteuid()}. "
                "Remove it as its owner, or name another path (--pipe PATH)."
            )

    def _still_there(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            found = self.path.lstat()
            return (found.st_dev, found.st_ino) == (self.status.st_dev, self.status.st_ino)
        return False

    def _prepare(self) -> None:
        try:
            os.fchown(self.fd, -1, self._gid)
            os.fchmod(self.fd, 0o620 if self._gid >= 0 else 0o600)
        except PermissionError as error:
            self.close()
            raise SettingsError(
                f"pipe group {self._gid}: {error.strerror}. Only root and members of a group may give it the pipe."
            ) from error
        with contextlib.suppress(OSError):  # as large as the system permits
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _gid(group: str | None) -> int:
    """Its number; -1 (change nothing) without one."""
    if group is None:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise SettingsError(
            f"pipe group {group!r}: this machine has no such group. Name one of `getent group`, or make it."
        ) from None


class PipeListener:
    """Heartbeats of any number of applications, from one named pipe.

    Attributes:
        roster: Who speaks, and what was refused; None before `run`.
    """

    def __init__(
        self, path: str | Path, *, group: str | None = None, t_tolerance_s: float = 1.0, silence_s: float = 5.0
    ) -> None:
        """Say where to listen; nothing is touched before `run`.

        Args:
            path: The named pipe.
            group: Members of this group may write too; None: only our own user.
            t_tolerance_s: A time in a line further than this from its arrival is not believed.
            silence_s: The shortest silence that counts as having left.
        """
        self.path = Path(path)
        self.roster: Roster | None = None
        self._group = group
        self._t_tolerance_s = t_tolerance_s
        self._silence_s = silence_s

    async def run(self, publish: Publish, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Publish what applications say, until cancelled.

        Raises:
            SettingsError: Nobody can listen at this path.
        """
        fifo = Fifo(self.path, self._group)
        try:
            processes = Processes(self.path, fifo.status)
            self.roster = Roster(processes, t_tolerance_s=self._t_tolerance_s, silence_s=self._silence_s)
            reader = _Reader(fifo.fd, self.roster, publish)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_look_after, reader, self.roster, publish)
                    task_status.started()
                    await reader.run()
            finally:
                with anyio.CancelScope(shield=True):
                    await reader.read_rest()  # what was written before we left counts
                _report(self.roster, publish)
        finally:
            fifo.close()


class _Reader:
    """Cuts what comes out of the pipe into lines, in bounded memory, and publishes what the roster makes of them."""

    def __init__(self, fd: int, roster: Roster, publish: Publish) -> None:
        self._fd = fd
        self._roster = roster
        self._publish = publish
        self._rest = b""  # a line that has begun
        self._skipping = False  # inside a line that is too long already

    async def run(self) -> None:
        """Read a chunk whenever there is something, one a turn of the loop: a million beats at once starve nobody.

        The loop calls the reader itself; waiting for the descriptor in a task would cost two more turns a beat.
        """
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[None] = loop.create_future()

        def read() -> None:
            try:
                self.read_chunk()
            except Exception as error:  # raised in the task, where it ends the house as any bug does
                if not failed.done():
                    failed.set_exception(error)

        loop.add_reader(self._fd, read)
        try:
            await failed
        finally:
            loop.remove_reader(self._fd)

    async def read_rest(self) -> None:
        """Read as much as a full pipe can hold."""
        for _ in range(PIPE_BYTES // CHUNK_BYTES):
            if not self.read_chunk():
                return
            await anyio.lowlevel.checkpoint()

    def read_chunk(self) -> bool:
        """Read once. False: the pipe is empty now."""
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        self._take(data, anyio.current_time())
        return len(data) == CHUNK_BYTES

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


async def _look_after(reader: _Reader, roster: Roster, publish: Publish) -> None:
    """Notice who left without a word, and report refused lines at a bounded rate."""
    while True:
        for _ in range(REPORT_LOOKS):
            await anyio.sleep(LOOK_S)
            if roster.look():
                await reader.read_rest()  # the last words of the dead come before the news of their death
            for event in roster.gone(anyio.current_time()):
                publish(event)
        _report(roster, publish)


def _report(roster: Roster, publish: Publish) -> None:
    refused = roster.drain(anyio.current_time())
    if refused is not None:
        publish(refused)
