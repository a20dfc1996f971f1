"""A program of the user's that we start: it hears the signals that we hear, and its exit status becomes ours."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from ceml.control.ending import ENDING

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from types import FrameType

    from ceml.control.ending import Ending

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells say it
_HELD = """\
import os, signal, sys
gate = int(sys.argv[1])
if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
if not os.read(gate, 1):
    os._exit(0)  # who held it is gone, or could not start
os.close(gate)
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    os.write(2, f"ceml: cannot start {sys.argv[2]!r}: {error.strerror}\\n".encode())
    os._exit(127 if isinstance(error, FileNotFoundError) else 126)
"""


class Launched:
    """One program, started once we are ready.

    Attributes:
        started: Whether it was.
        status: Its exit status, 128 + n where signal n ended it; why it could not be started, as a shell would say.
        problem: The same in words; empty where it was started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Look for the program; nothing is started yet.

        Args:
            command: The program and its arguments.
            environment: What to add to our own environment.
        """
        self._command = list(command)
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._gate: int | None = None  # what a process that is held waits for
        self._deaf = [number for number in ENDING if signal.getsignal(number) is signal.SIG_IGN]
        self.status = 0
        self.problem = ""
        self._look()

    @property
    def started(self) -> bool:
        """Whether it was started."""
        return self._process is not None and self._gate is None

    def hold(self) -> int:
        """Make its process, which becomes the program once we are ready; returns its number, for who must know it."""
        reader, self._gate = os.pipe()
        try:
            self._start([sys.executable, "-I", "-S", "-c", _HELD, str(reader), *self._command], pass_fds=(reader,))
        finally:
            os.close(reader)
        if self._process is None:
            self._drop()
            return 0
        return self._process.pid

    def _drop(self) -> None:
        """A process that was held and never became the program goes."""
        if self._gate is not None:
            os.close(self._gate)
            self._gate = None
            if self._process is not None:
                self._process.wait()
                self._process = None

    async def run(self, ending: Ending) -> str:
        """Start it and wait for its end; returns the reason of ours. The house's own ending never comes first."""
        loop = asyncio.get_running_loop()
        changed = anyio.Event()

        def told(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(lambda: changed.set())

        before = signal.signal(signal.SIGCHLD, told)
        try:
            with self._passing_on():
                if self._gate is None:
                    self._start(self._command)
                else:
                    os.write(self._gate, b"1")
                    os.close(self._gate)
                    self._gate = None
                if self._process is not None:
                    ending.heir += ["--wait-for", str(self._process.pid)]
                while self._process is not None and self._process.poll() is None:
                    await changed.wait()
                    changed = anyio.Event()
        finally:
            signal.signal(signal.SIGCHLD, before)
        self._note()
        return "program done" if self.started else "program could not be started"

    def wait(self) -> None:
        """Wait for its end where we came to ours first: no trouble of ours is worth a training run."""
        self._drop()
        if self._process is not None:
            with self._passing_on():
                self._process.wait()
            self._note()

    # Starting -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        name = self._command[0]
        if shutil.which(name) is None:
            path = Path(name)
            if "/" in name and path.exists():
                kind = "a directory" if path.is_dir() else "not executable: chmod +x, or name its interpreter"
                self._cannot(NOT_EXECUTABLE, f"it is {kind}")
            else:
                self._cannot(NOT_FOUND, "there is no such program; name one on $PATH, or give the path of a file")

    def _start(self, command: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        try:
            # What we were told to ignore, it shall ignore too: `nohup ceml run -- ...`, or a job in the background.
            self._process = subprocess.Popen(
                command,
                pass_fds=pass_fds,
                env={**os.environ, **self._environment},
                preexec_fn=lambda: [signal.signal(number, signal.SIG_IGN) for number in self._deaf] and None,
            )
        except OSError as error:
            missing = error.errno == errno.ENOENT
            self._cannot(NOT_FOUND if missing else NOT_EXECUTABLE, (error.strerror or str(error)).lower())
        except ValueError as error:  # a NUL in an argument
            self._cannot(NOT_EXECUTABLE, str(error))

    def _cannot(self, status: int, why: str) -> None:
        self.status, self.problem = status, f"cannot start {self._command[0]!r}: {why}"

    def _note(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            code = self._process.returncode
            self.status = code if code >= 0 else 128 - code

    # Signals --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _passing_on(self) -> Generator[None]:
        """While this lasts, signals that end programs go to ours, and then to whom they would have gone."""
        before: dict[int, Any] = {}

        def told(number: int, frame: FrameType | None) -> None:
            if self._process is not None and not _terminal_told_it(number):
                with suppress(OSError):  # it ended just now
                    self._process.send_signal(number)
            if callable(before[number]):
                before[number](number, frame)

        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.getsignal(number)
                signal.signal(number, told)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _terminal_told_it(number: int) -> bool:
    """Whether this came of a key, and so to all processes in the terminal's foreground: twice would be too often."""
    if number not in (signal.SIGINT, signal.SIGQUIT):
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
