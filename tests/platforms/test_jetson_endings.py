"""However a run on a Jetson ends, every file reads as before: kill -9, signals, errors, refusals, full disks.

The fake is a file system, the server a process of its own that is forked ready-made (tests/nursery.py), so that a
thousand endings take minutes. Not covered here: the drivers one by one (test_jetson.py).
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ceml.testing.fuse import available
from ceml.testing.jetson import FakeJetson
from tests.nursery import Child, Fault, Nursery
from tests.platforms.test_jetson import settings_of
from tests.platforms.test_jetson_serve import QUICK, board
from tests.test_serve import ceml, wait_until

WHY_NOT = available()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"NO FUSE FACE HERE, NO ENDING IS TRIED: {WHY_NOT}")
BOARDS = ("jetson-tx2", "jetson-agx-xavier", "jetson-agx-orin")
LONGEST_S = 0.55  # of a life before its kill: start to the first choice, with room


class Lane:
    """One board, one server after the other, and a program that beats for whoever listens."""

    def __init__(self, nursery: Nursery, kernel: FakeJetson, root: Path, folder: Path) -> None:
        self.kernel = kernel
        self.before = settings_of(kernel)
        self.folder = folder
        self._logs = folder.with_name(f"{folder.name}.logs")  # not on a disk that may be full
        self._logs.mkdir()
        self._nursery = nursery
        self._serve = ("serve", "--runtime-dir", folder, "--platform", f"jetson:root={root}", *QUICK)

    def serve(self, *words: object, fault: Fault | None = None) -> Child:
        log, state = self._logs / "serve.txt", self.folder / "state"
        return self._nursery.ceml(*self._serve, *words, log=log, fault=fault, state=state)

    def restore(self) -> Child:
        return self._nursery.ceml("restore", "--runtime-dir", self.folder, log=self._logs / "restore.txt")

    @property
    def held(self) -> bool:
        return settings_of(self.kernel) != self.before

    def all_is_back(self) -> None:
        now = settings_of(self.kernel)
        assert {path: (text, now[path]) for path, text in self.before.items() if now[path] != text} == {}
        assert not (self.folder / "journal.json").exists()


@contextmanager
def lane(folder: Path, name: str) -> Iterator[Lane]:
    stop = threading.Event()
    folder.mkdir(exist_ok=True)
    with Nursery() as nursery, board(folder, name) as (kernel, root):
        player = threading.Thread(target=beat, args=(folder / "beats", kernel, stop))
        player.start()
        try:
            yield Lane(nursery, kernel, root, folder)
        finally:
            stop.set()
            player.join()


def beat(pipe: Path, kernel: FakeJetson, stop: threading.Event) -> None:
    """A line a step to whoever reads, stamped with when the step was done, however late this thread came to say so.

    The client's second of patience between two servers would cost every life one.
    """
    number, source = 0, 0
    while not stop.wait(0.005):
        with suppress(OSError):
            writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            source += 1
            done_s = time.monotonic()
            with suppress(OSError):  # until its reader is gone
                while not stop.is_set():
                    done_s += kernel.step_s()
                    stop.wait(max(done_s - time.monotonic(), 0.0))
                    done_s = max(done_s, time.monotonic() - 0.5)  # held up for long: that time was not worked in
                    number += 1
                    os.write(writer, f"app=on-a-fake src={source:08x} beat={number} t={done_s:.6f}\n".encode())
            os.close(writer)


# kill -9 --------------------------------------------------------------------------------------------------------------


def longest_life_s(there: Lane) -> float:
    """How long lives may last so that more than a third of them hold knobs: a slow machine takes longer to begin."""
    server, begun_s = there.serve(), time.monotonic()
    while not there.held and time.monotonic() - begun_s < 30.0:
        time.sleep(0.005)
    took_s = time.monotonic() - begun_s
    server.end(signal.SIGKILL)
    done = there.restore()
    assert done.wait() == 0, done.said
    there.all_is_back()
    return max(LONGEST_S, 1.7 * took_s)


def killed_at_random(folder: Path, name: str, seed: int, kills: int) -> int:
    """kill -9 at random moments, then `ceml restore`. Returns how often knobs were held when it came."""
    rng, held = random.Random(seed), 0
    with lane(folder, name) as there:
        longest_s = longest_life_s(there)
        for _ in range(kills):
            server = there.serve()
            time.sleep(rng.uniform(0.0, longest_s))
            assert server.end(signal.SIGKILL) == -signal.SIGKILL, server.said
            held += there.held
            done = there.restore()
            assert done.wait() == 0, done.said
            there.all_is_back()
    return held


def test_25_seeded_kills_on_three_boards_leave_every_file_as_it_was(tmp_path: Path) -> None:
    lots = zip(BOARDS, (9, 8, 8), strict=True)
    held = sum(killed_at_random(tmp_path / name, name, seed, kills) for seed, (name, kills) in enumerate(lots))
    assert held >= 5, "kills came too early to say anything"


@pytest.mark.fuzz
def test_1000_seeded_kills_on_three_boards_leave_every_file_as_it_was(tmp_path: Path) -> None:
    lots = [("jetson-tx2", 334), ("jetson-agx-xavier", 333), ("jetson-agx-orin", 333)]
    with ThreadPoolExecutor(len(lots)) as pool:
        lanes = [
            pool.submit(killed_at_random, tmp_path / name, name, 100 + at, kills)
            for at, (name, kills) in enumerate(lots)
        ]
        held = sum(each.result() for each in lanes)
    assert held >= 300


# Other ends -----------------------------------------------------------------------------------------------------------

FAULTS = [
    ("ceml.control.controller", "Controller", "_take"),
    ("ceml.control.controller", "Controller", "_try"),
    ("ceml.control.hold", "Hold", "look"),
    ("ceml.control.watch", "SensorPoller", "_succeeded"),
    ("ceml.control.watch", "PhaseWatcher", "_window"),
    ("ceml.domain.manager", "RuntimeManager", "on"),
    ("ceml.telemetry.ledger", "Ledger", "on"),
    ("ceml.platforms.levers", "LeverActuator", "_turn"),
    ("ceml.platforms.sysfs", "", "order"),
]


def ended_at_random(folder: Path, name: str, seed: int, ends: int) -> int:
    """A signal or an error somewhere in the house, at random; the server itself puts everything back."""
    rng, failed = random.Random(seed), 0
    with lane(folder, name) as there:
        for _ in range(ends):
            fault = (*rng.choice(FAULTS), rng.choice((1, 2, 3, 5, 8, 20, 40))) if rng.random() < 0.6 else None
            server = there.serve(fault=fault)
            wait_until(lambda server=server: "ready" in server.said or "Error" in server.said, "the server")
            time.sleep(rng.uniform(0.0, LONGEST_S))
            number = rng.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
            with suppress(ProcessLookupError):
                os.kill(server.pid, number)
            status = server.wait()
            # a signal may come while the error is being told, when everything is back and nothing catches it any more
            assert status in ((0,) if fault is None else (0, 1, -number, 130)), server.said
            failed += status != 0
            there.all_is_back()
    return failed


def test_signals_and_errors_in_any_task_leave_every_file_as_it_was(tmp_path: Path) -> None:
    assert ended_at_random(tmp_path / "lane", "jetson-tx2", 1, 12) >= 2


@pytest.mark.fuzz
def test_300_signals_and_errors_on_three_boards_leave_every_file_as_it_was(tmp_path: Path) -> None:
    with ThreadPoolExecutor(len(BOARDS)) as pool:
        lanes = [pool.submit(ended_at_random, tmp_path / name, name, 7 + at, 100) for at, name in enumerate(BOARDS)]
        assert sum(each.result() for each in lanes) >= 50


REFUSALS = (errno.EIO, errno.EPERM, errno.EBUSY, errno.EINVAL)


def refused_at_random(folder: Path, name: str, seed: int, ends: int) -> None:
    """One file refuses to be put back: it is named, all others are back, and once it is healed a restore ends it."""
    rng = random.Random(seed)
    with lane(folder, name) as there:
        kernel = there.kernel
        for _ in range(ends):
            server = there.serve()
            wait_until(lambda: there.held, "a knob to be turned")
            time.sleep(rng.uniform(0.0, 0.2))
            os.kill(server.pid, signal.SIGSTOP)  # nothing is under way while the kernel changes its mind
            now = settings_of(kernel)
            path = rng.choice([path for path, text in there.before.items() if now[path] != text])
            kernel.fault(path, rng.choice(REFUSALS), on="write")
            how = rng.choice((signal.SIGTERM, signal.SIGKILL))
            os.kill(server.pid, how)
            os.kill(server.pid, signal.SIGCONT)
            server.wait()
            done = there.restore()
            if done.wait() == 0:  # what it refuses was as before already, or is put back with another file
                assert not there.held
            else:
                assert path in done.said
                now = settings_of(kernel)
                left = {other for other, text in there.before.items() if now[other] != text}
                assert left <= {path, path.replace("_governor", "_setspeed")}  # which shows who governs
                assert (folder / "journal.json").exists()
            kernel.heal(path, on="write")
            done = there.restore()
            assert done.wait() == 0, done.said
            there.all_is_back()


def test_a_file_that_refuses_to_be_put_back_is_named_and_stops_no_other(tmp_path: Path) -> None:
    refused_at_random(tmp_path / "lane", "jetson-tx2", 3, 6)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", BOARDS)
def test_50_files_that_refuse_to_be_put_back_stop_no_other(tmp_path: Path, name: str) -> None:
    refused_at_random(tmp_path / "lane", name, 11, 50)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("NO FULL DISK IS TRIED: a tmpfs cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_before_the_first_write_stops_the_start_and_later_on_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "run") as folder, lane(folder, "jetson-tx2") as there:
        fill(folder)
        server = there.serve()
        assert server.wait() == 2, server.said
        assert "journal" in server.said or "no space" in server.said.lower()
        assert "Traceback" not in server.said
        there.all_is_back()
        (folder / "filler").unlink()
        for how in (signal.SIGTERM, signal.SIGKILL):
            server = there.serve("--record", folder / "run.jsonl")
            wait_until(lambda: there.held, "a knob to be turned")
            fill(folder)
            time.sleep(0.3)
            assert there.held
            server.end(how)
            assert there.restore().wait() == 0
            there.all_is_back()
            (folder / "filler").unlink()
            (folder / "run.jsonl").unlink()


def test_the_real_command_restores_too(tmp_path: Path) -> None:
    with lane(tmp_path / "lane", "jetson-tx2") as there:
        server = there.serve()
        wait_until(lambda: there.held, "a knob to be turned")
        server.end(signal.SIGKILL)
        done = ceml("restore", "--runtime-dir", there.folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert "put back" in done.stdout
        there.all_is_back()
        assert "nothing to put back" in ceml("restore", "--runtime-dir", there.folder).stdout
