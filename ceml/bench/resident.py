"""How much memory the daemon takes: a real `ceml serve` on the simulated board, with a real program that beats."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ceml.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

AFTER_S = 60.0  # seconds after the first commitment at which resident memory is looked at, by definition
SPEED = 20.0  # of the clock: the same beats, samples and windows are handled in less wall time, see `resident_bytes`
PATIENCE_S = 600.0  # wall seconds in which a daemon must have decided something
_PROGRAM = ("--workload", "vit", "--steps", "2000")  # as long as a run of the bench: how much is tried depends on it
_DECIDED = b'"event":"decided"'
_LOOK_S = 0.05
END_S = 10.0  # wall seconds a process is given to end


def resident_bytes(*, after_s: float = AFTER_S, speed: float = SPEED) -> float:
    """VmRSS of `ceml serve --platform simulated` some time after its first commitment, with default settings.

    Args:
        after_s: Seconds of the board's time to wait after the first commitment.
        speed: How much faster than life the board and the daemon's clock run: memory goes with the events handled, and
            these go with the board's time. Compared on one machine: 69.05 MB at 1, 69.02 at 10, 69.37 at 20.

    Raises:
        Unavailable: The daemon or its program ended too early, or nothing was decided.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CEML_")}
    with TemporaryDirectory(prefix="ceml-bench-") as name:
        folder = Path(name)
        environment["XDG_STATE_HOME"] = name  # what other runs learnt is not this one's
        record = folder / "record.jsonl"
        where = ("--runtime-dir", name)
        flags = ("--platform", "simulated", "--speed", f"{speed:g}", "--quiet")
        log = (*flags, "--record", str(record), "--record-level", "decisions")
        with (
            _running(folder / "serve.txt", environment, "serve", *where, *log) as daemon,
            _running(folder / "app.txt", environment, "app", *where, *_PROGRAM) as program,
        ):
            _first_commitment(record, daemon, program)
            time.sleep(after_s / speed)
            _check_alive(daemon, program)
            return resident(daemon.process.pid)


def resident(pid: int) -> float:
    """VmRSS of a process in bytes (`proc(5)`: its "kB" are 1024 bytes).

    Raises:
        Unavailable: The kernel does not tell.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Unavailable(f"resident memory of process {pid} cannot be read: {error.strerror or error}") from None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return float(value.split()[0]) * 1024.0
    raise Unavailable(f"/proc/{pid}/status does not say VmRSS: resident memory needs Linux and a process that lives")


@dataclass(frozen=True)
class _Child:
    """A running process of ours and where it writes what it says."""

    process: subprocess.Popen[bytes]
    said: Path


@contextmanager
def _running(said: Path, environment: Mapping[str, str], *words: str) -> Generator[_Child, None, None]:
    """`ceml` with these words, ended politely in the end, and by force where that takes too long."""
    with said.open("wb") as sink:
        process = subprocess.Popen([sys.executable, "-m", "ceml", *words], stdout=sink, stderr=sink, env=environment)
    try:
        yield _Child(process, said)
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _first_commitment(record: Path, *children: _Child) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not (record.exists() and _DECIDED in record.read_bytes()):
        _check_alive(*children)
        if time.monotonic() > deadline_s:
            raise Unavailable(f"resident memory: the daemon has decided nothing within {PATIENCE_S:g} s")
        time.sleep(_LOOK_S)


def _check_alive(*children: _Child) -> None:
    for child in children:
        if child.process.poll() is not None:
            lines = child.said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
            raise Unavailable(f"resident memory: a process ended too early; it said last: {lines[-1]}")
