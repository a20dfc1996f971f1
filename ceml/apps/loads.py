"""Loads as processes: started, waited for until they are at work, and ended with all of their children."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import IO, TYPE_CHECKING

import anyio

from ceml.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOOK_S = 0.02  # of the clock, between two looks whether it is at work
STEPS = 20_000  # hours of board time; left behind by a kill -9 they end by themselves
MOST_BYTES = 4096  # of its output in which it may say so
PATIENCE_S = 60.0  # of the clock; torch takes ten seconds to start on a slow disk


class ProcessLoad:
    """A program that keeps devices busy while it runs.

    Attributes:
        name: For people.
        devices: Which devices it keeps busy; empty: any.
    """

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        devices: Sequence[str] = (),
        *,
        announces: Path | None = None,
        warm_s: float = PATIENCE_S,
        speed: float = 1.0,
    ) -> None:
        """Nothing is started.

        Args:
            name: As the attribute.
            words: Its command line.
            devices: As the attribute.
            announces: Directory in which it puts `<pid>.json` once it is at work.
            warm_s: Seconds of the clock after which it is taken to be at work, where it does not say `ready` before.
            speed: Seconds of the loop per second of the clock.
        """
        self.name = name
        self.devices = tuple(devices)
        self._words = list(words)
        self._announces = announces
        self._warm_s = warm_s
        self._speed = speed
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it is at work.

        Raises:
            Unavailable: It cannot be started, ended at once, or does not get to work.
        """
        self._process = process = self._spawned()
        trusted = self._announces is None and self._warm_s < PATIENCE_S
        with anyio.move_on_after((self._warm_s if trusted else PATIENCE_S) * self._speed):
            while not self._at_work(process):
                if process.poll() is not None:
                    raise Unavailable(f"load {self.name} ended at once: {shlex.join(self._words)} (try it by hand)")
                await anyio.sleep(LOOK_S * self._speed)
            return
        if not trusted:
            raise Unavailable(f"load {self.name} was not at work after {PATIENCE_S:g} s: {shlex.join(self._words)}")

    def _spawned(self) -> subprocess.Popen[bytes]:
        self._said = said = tempfile.TemporaryFile()  # no pipe: nobody reads on once it is at work
        try:
            return subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # its children end with it; Ctrl-C is ours to answer
            )
        except OSError as error:
            said.close()
            raise Unavailable(f"load {self.name}: {self._words[0]}: {error.strerror}") from None

    def _at_work(self, process: subprocess.Popen[bytes]) -> bool:
        if self._announces is not None:
            return (self._announces / f"{process.pid}.json").exists()
        return self._said is not None and b"ready" in os.pread(self._said.fileno(), MOST_BYTES, 0)

    async def stop(self) -> None:
        """End it: asked first, then killed, its children with it."""
        process, self._process = self._process, None
        if process is None:
            return
        for number, patience_s in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with anyio.move_on_after(patience_s * self._speed):
                while process.poll() is None:  # noqa: ASYNC110 - a process is no event of this loop
                    await anyio.sleep(LOOK_S * self._speed)
                break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # children that outlived it
        if self._said is not None:
            self._said.close()


def stress(device: str, share: float, *, speed: float = 1.0) -> ProcessLoad:
    """Our own load on a device."""
    words = [sys.executable, "-m", "ceml.apps.stress", device, f"{share:g}"]
    return ProcessLoad(f"{device} {share:.0%}", words, (device,), speed=speed)


def programs(workloads: Sequence[str], runtime_dir: Path, load_dir: Path, *, speed: float) -> list[ProcessLoad]:
    """Programs on the simulated board: each keeps all devices busy, in a mixture of its own."""
    return [
        ProcessLoad(
            workload,
            [
                *(sys.executable, "-m", "ceml", "app", "--workload", workload, "--steps", str(STEPS)),
                *("--runtime-dir", str(runtime_dir)),
            ],
            announces=load_dir,
            speed=speed,
        )
        for workload in workloads
    ]
