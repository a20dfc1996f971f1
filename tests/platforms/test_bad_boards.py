"""Boards with something wrong, served for real: each goes on or stops with one message that says what and what to do.

Not covered here: how a run ends (test_jetson_endings.py), single drivers (test_jetson.py), NVML (test_nvml.py).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ceml.platforms import profiles
from ceml.platforms.sysfs import become_root
from ceml.testing.fuse import available
from ceml.testing.jetson import FakeJetson
from ceml.testing.kernel import Attribute
from tests.nursery import Child, Nursery
from tests.platforms.test_jetson import settings_of
from tests.platforms.test_jetson_endings import beat
from tests.platforms.test_jetson_serve import QUICK, board
from tests.test_serve import wait_until

WHY_NOT = available()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"NO FUSE FACE HERE, NO BAD BOARD IS SERVED: {WHY_NOT}")
TOTAL = "/sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1/ui_input_0"  # VDD_IN of a TX2


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


class Run:
    """A server on a board, with a program that beats."""

    def __init__(self, folder: Path, server: Child) -> None:
        self.server = server
        self._record = folder / "run.jsonl"

    def events(self, kind: str) -> list[dict]:
        lines = self._record.read_text().splitlines() if self._record.exists() else []
        return [event for line in lines if line.endswith("}") and (event := json.loads(line))["event"] == kind]

    def meets(self, kind: str, count: int = 1, seconds: float = 90.0) -> dict:
        try:
            wait_until(lambda: len(self.events(kind)) >= count, kind, seconds=seconds)
        except AssertionError:
            os.kill(self.server.pid, signal.SIGUSR1)
            time.sleep(0.5)
            raise AssertionError(f"no {kind} came: {self.server.said}") from None
        return self.events(kind)[count - 1]

    def lines(self, words: str) -> list[str]:
        return [line for line in self.server.said.splitlines() if words in line]


@contextmanager
def running(folder: Path, nursery: Nursery, kernel: FakeJetson, root: Path, *words: object) -> Iterator[Run]:
    """Serve until the block ends; then everything is as before."""
    before, stop = settings_of(kernel), threading.Event()
    said = ("serve", "--runtime-dir", folder, "--record", folder / "run.jsonl", "--platform", f"jetson:root={root}")
    server = nursery.ceml(*said, *QUICK, *words, log=folder / "log", state=folder / "state")
    player = threading.Thread(target=beat, args=(folder / "beats", kernel, stop))
    player.start()
    try:
        wait_until(lambda: "ready" in server.said, "the server")
        yield Run(folder, server)
    finally:
        stop.set()
        player.join()
        status = server.end(signal.SIGTERM)
    assert status == 0, server.said
    assert "Traceback" not in server.said
    assert settings_of(kernel) == before


def refused(folder: Path, nursery: Nursery, platform: str) -> str:
    server = nursery.ceml("serve", "--runtime-dir", folder, "--platform", platform, log=folder / "log")
    assert server.wait() == 2, server.said
    assert "Traceback" not in server.said
    return server.said


def test_no_permission_on_one_knob_leaves_it_alone_and_says_so_once(tmp_path: Path, nursery: Nursery) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        kernel.fault("/sys/class/devfreq/17000000.gp10b/max_freq", errno.EACCES, on="open")
        with running(tmp_path, nursery, kernel, root) as run:
            run.meets("decided")
            assert set(run.events("run_started")[0]["knobs"]) == {"cpu_hz", "mem_hz"}
            (line,) = run.lines("gpu_hz is left as it is")
            assert become_root() in line


def test_no_permission_on_any_knob_stops_with_what_to_do(tmp_path: Path, nursery: Nursery) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        for path, file in kernel.files.items():
            if file.write is not None:
                kernel.fault(path, errno.EPERM, on="open")
        said = refused(tmp_path, nursery, f"jetson:root={root}")
        assert said.count(become_root()) == 3
        assert "no knob of this Jetson TX2 can be turned" in said


def test_without_debugfs_it_runs_and_says_how_to_mount_it(tmp_path: Path, nursery: Nursery) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        kernel.remove("/sys/kernel/debug")
        with running(tmp_path, nursery, kernel, root) as run:
            run.meets("decided")
            assert len(run.lines("mount -t debugfs")) == 1


def test_a_rail_that_vanishes_is_told_and_told_again_when_it_returns(tmp_path: Path, nursery: Nursery) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root), running(tmp_path, nursery, kernel, root) as run:
        run.meets("decided")
        gone = kernel.remove("/sys/bus/i2c/drivers/ina3221x/0-0041")
        lost = run.meets("sensor_lost")
        assert (lost["sensor"], "ui_input_0" in lost["reason"]) == ("power rails", True)
        assert "ceml doctor" in lost["reason"]
        kernel.files.update(gone)
        run.meets("sensor_recovered")
        assert len(run.lines("sensor_lost")) == 1


@pytest.mark.parametrize("reading", ["19000 -500000", "19000 1000000", "", "garbage", "19000"])
def test_a_rail_that_says_what_no_rail_carries_is_told_and_believed_again_later(
    tmp_path: Path, nursery: Nursery, reading: str
) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root), running(tmp_path, nursery, kernel, root) as run:
        run.meets("decided")
        sound = kernel.files[TOTAL]
        kernel.files[TOTAL] = Attribute(lambda: reading)
        lost = run.meets("sensor_lost")
        assert "ui_input_0" in lost["reason"]
        kernel.files[TOTAL] = sound
        run.meets("sensor_recovered")
        assert len(run.lines("sensor_lost")) == 1


def test_a_rail_that_is_absurd_from_the_start_ends_nothing(tmp_path: Path, nursery: Nursery) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        kernel.files[TOTAL] = Attribute(lambda: "19000 600000")  # 11.4 kW
        with running(tmp_path, nursery, kernel, root) as run:
            assert "which no rail carries" in run.meets("sensor_lost")["reason"]
            time.sleep(1.0)
            assert not run.events("run_ended")


def test_a_sensor_that_blocks_for_seconds_blocks_nobody(tmp_path: Path, nursery: Nursery) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        pipe, waits = threading.Event(), kernel.files[TOTAL]

        def slow() -> str:
            kernel.lock.release()  # the bus is slow, not the kernel
            try:
                pipe.wait(3.0)
            finally:
                kernel.lock.acquire()
            return waits.read()

        with running(tmp_path, nursery, kernel, root) as run:
            run.meets("decided")
            kernel.files[TOTAL] = Attribute(slow)
            assert "answer" in run.meets("sensor_lost")["reason"]
            pipe.set()
            run.meets("sensor_recovered")


def test_a_stuck_sensor_ends_nothing(tmp_path: Path, nursery: Nursery) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        kernel.files[TOTAL] = Attribute(lambda: "19000 300")
        with running(tmp_path, nursery, kernel, root) as run:
            run.meets("decided")
            assert run.meets("sensor_stuck")["power_w"] == pytest.approx(5.7)  # a mean of readings
            assert len(run.lines("sensor_stuck")) == 1


def test_a_profile_with_a_typo_names_the_field_and_the_one_that_was_meant(tmp_path: Path, nursery: Nursery) -> None:
    text = (profiles.FOLDER / "jetson-tx2.toml").read_text().replace("[rails]", "[railss]")
    (tmp_path / "mine.toml").write_text(text)
    said = refused(tmp_path, nursery, f"jetson:board={tmp_path / 'mine.toml'}")
    assert "railss" in said
    assert "did you mean rails?" in said
    assert "mine.toml" in said


def test_a_board_nobody_knows_and_no_sys_at_all_say_what_else_there_is(tmp_path: Path, nursery: Nursery) -> None:
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"acme,p1\0acme,soc\0")
    assert "--board" in refused(tmp_path, nursery, f"jetson:root={tmp_path}")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "--board" in refused(tmp_path, nursery, f"jetson:root={empty}")
    assert "bandwidth" in refused(tmp_path, nursery, f"linux:root={empty}")


def test_a_clock_table_that_changed_between_boots_is_served_as_it_is_now(tmp_path: Path, nursery: Nursery) -> None:
    """TX2 alone has two published GPU tables: what was learnt on one is of no use on the other, and does no harm."""
    with board(tmp_path / "one", "jetson-tx2") as (kernel, root), running(tmp_path, nursery, kernel, root) as run:
        run.meets("decided")
    (tmp_path / "run.jsonl").unlink()
    other = FakeJetson("jetson-tx2")
    text = (profiles.FOLDER / "jetson-tx2.toml").read_text()
    table = ", ".join(map(str, (114_750_000, *(hz + 1_000_000 for hz in other.fake.gpu_hz[1:]))))
    start, end = text.index("gpu_hz = ["), text.index("memory_hz = [")
    changed = tmp_path / "changed.toml"
    changed.write_text(f"{text[:start]}gpu_hz = [{table}]\n{text[end:]}")
    with board(tmp_path / "two", str(changed)) as (kernel, root), running(tmp_path, nursery, kernel, root) as run:
        chosen = run.meets("decided")["configuration"]
        assert chosen["gpu_hz"] in [hz + 1e6 for hz in other.fake.gpu_hz]
        assert not run.events("configuration_refused")
