"""Whole runs on fake Jetsons: server and program are processes; the fake is a file system.

Not covered here: what is decided (test_house.py), the drivers one by one (test_jetson.py), how a run may end
(test_jetson_endings.py).
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ceml.testing.fuse import available, mounted
from ceml.testing.jetson import FakeJetson
from tests.platforms.test_jetson import settings_of
from tests.test_serve import CLEAN, Server, ceml, wait_until

WHY_NOT = available()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"NO FUSE FACE HERE, NO RUN ON A FAKE JETSON: {WHY_NOT}")
QUICK = ("--model", "paper", "--sensor-period-s", 0.05, "--beats-per-state", 5, "--power-samples-per-state", 2)


@contextmanager
def board(folder: Path, name: str, **options) -> Iterator[tuple[FakeJetson, Path]]:
    """A fake as somebody left it: not at its defaults, so that only the prior values are right."""
    kernel = FakeJetson(name, **options)
    top = kernel.gpu.clock.table[-2]
    kernel.write(f"/sys/class/devfreq/{kernel.gpu.name}/max_freq", f"{top}".encode())
    kernel.write("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", b"performance")
    with mounted(kernel, folder / "board") as root:
        yield kernel, root


def serve(folder: Path, root: Path, *words: object) -> Server:
    return Server(folder, "--platform", f"jetson:root={root}", *QUICK, *words)


@contextmanager
def serving(folder: Path, root: Path) -> Iterator[Server]:
    server = serve(folder, root)
    try:
        yield server.up()
    finally:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


def program(folder: Path, root: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "ceml.testing.program", str(root / "fake/step_s"), str(folder / "beats")]
    return subprocess.Popen(words, env=CLEAN, text=True)


@pytest.mark.parametrize("name", ["jetson-tx2", "jetson-agx-xavier", "jetson-agx-orin"])
def test_a_jetson_is_tuned_and_left_as_it_was_found(tmp_path: Path, name: str) -> None:
    with board(tmp_path, name, latency_s=0.004) as (kernel, root):
        before = settings_of(kernel)
        server = serve(tmp_path, root).up()
        runs = program(tmp_path, root)
        try:
            wait_until(lambda: bool(server.events("decided")), "a decision", seconds=60)
            chosen = server.events("decided")[0]["configuration"]
            wait_until(lambda: any(e["effective"] == chosen for e in server.events("configuration_applied")), "its use")
            code, out = server.end(signal.SIGTERM)
        finally:
            runs.kill()
            runs.wait()
        assert code == 0, server.log.read_text()
        assert "J/step" in out
        assert settings_of(kernel) == before
        assert not (tmp_path / "journal.json").exists()


def test_a_board_that_lost_its_debugfs_is_served_without_its_memory_knob(tmp_path: Path) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        kernel.remove("/sys/kernel/debug")
        kernel.constant("/etc/nvpmodel.conf", "")
        server = serve(tmp_path, root).up()
        wait_until(lambda: bool(server.events("run_started")), "the record, which follows what is done")
        assert set(server.events("run_started")[0]["knobs"]) == {"cpu_hz", "gpu_hz"}
        assert server.said("sudo nvpmodel -m 0")  # a rival is named at start
        assert server.end()[0] == 0


def test_a_knob_that_cannot_be_put_back_keeps_the_journal_until_it_can(tmp_path: Path) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        before = settings_of(kernel)
        server, runs = serve(tmp_path, root).up(), program(tmp_path, root)
        wait_until(lambda: kernel.memory.held, "the first lock")
        runs.kill()
        runs.wait()
        server.end(signal.SIGKILL)
        online, kernel.policies[1].online[:] = list(kernel.policies[1].online), []
        done = ceml("restore", "--runtime-dir", tmp_path)
        assert (done.returncode, "policy1" in done.stderr) == (1, True)
        again = serve(tmp_path, root)
        assert again.process.wait(30) == 2
        assert again.said("ceml restore")
        again.end()
        kernel.policies[1].online += online
        done = ceml("restore", "--runtime-dir", tmp_path)
        assert (done.returncode, settings_of(kernel)) == (0, before), done.stderr
        assert not (tmp_path / "journal.json").exists()


def test_two_servers_never_turn_one_machine_whatever_their_runtime_directories_are(tmp_path: Path) -> None:
    first, second, elsewhere = (tmp_path / name for name in ("first", "second", "elsewhere"))
    for folder in (first, second, elsewhere):
        folder.mkdir()
    with board(tmp_path, "jetson-tx2") as (kernel, root), board(elsewhere, "jetson-tx2") as (_, other_root):
        platform = f"jetson:root={root}"
        server = serve(first, root).up()
        written = list(kernel.written)
        refused = ceml("serve", "--runtime-dir", second, "--platform", platform)
        probe = ceml("doctor", "--probe", "--root", root, "--runtime-dir", second, "--knowledge", second / "known")
        for done in (refused, probe):
            assert done.returncode == 2
            (told,) = [line for line in done.stderr.splitlines() if "another ceml" in line]
            assert told.startswith(f"ceml: another ceml (pid {server.process.pid}) turns the same knobs: ")
        assert not (second / "journal.json").exists()
        assert kernel.written == written
        assert serve(elsewhere, other_root).up().end(signal.SIGTERM)[0] == 0  # another machine
        server.end(signal.SIGKILL)
        assert ceml("restore", "--runtime-dir", first).returncode == 0
        assert serve(second, root).up().end(signal.SIGTERM)[0] == 0


def killed_while_it_turned(kernel: FakeJetson, folder: Path, root: Path) -> None:
    folder.mkdir(exist_ok=True)
    found = settings_of(kernel)
    server, runs = serve(folder, root).up(), program(folder, root)
    try:
        gpu = f"/sys/class/devfreq/{kernel.gpu.name}/max_freq"
        wait_until(lambda: settings_of(kernel)[gpu] != found[gpu], "another clock of the GPU", seconds=60)
        server.end(signal.SIGKILL)
    finally:
        runs.kill()
        runs.wait()


def test_after_a_kill_the_next_server_sees_the_whole_board_whatever_its_runtime_directory_is(tmp_path: Path) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        before = settings_of(kernel)
        with serving(tmp_path, root) as server:
            wait_until(lambda: bool(server.events("run_started")), "the record")
            whole = server.events("run_started")[0]["knobs"]
            server.end()
        for folder in (tmp_path / "first", tmp_path / "second"):
            killed_while_it_turned(kernel, tmp_path / "first", root)
            assert settings_of(kernel) != before
            if folder.name == "second":
                shutil.rmtree(tmp_path / "first")  # as a session's directory goes with the last logout
            folder.mkdir(exist_ok=True)
            with serving(folder, root) as server:
                assert settings_of(kernel) == before
                assert server.said("put_back_after_crash")
                wait_until(lambda: bool(server.events("run_started")), "the record")
                assert server.events("run_started")[0]["knobs"] == whole
                assert server.end()[0] == 0


def test_a_runtime_directory_that_is_swept_away_costs_no_prior_value(tmp_path: Path) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        before, folder = settings_of(kernel), tmp_path / "swept"
        folder.mkdir()
        server, runs = serve(folder, root).up(), program(folder, root)
        try:
            wait_until((folder / "journal.json").exists, "something to put back")
            shutil.rmtree(folder)
            wait_until((folder / "journal.json").exists, "the journal again", seconds=10)
            server.end(signal.SIGKILL)
        finally:
            runs.kill()
            runs.wait()
        done = ceml("restore", "--runtime-dir", folder)
        assert (done.returncode, settings_of(kernel)) == (0, before), done.stderr


def test_limits_set_between_two_programs_are_kept_to_and_left_as_they_were_set(tmp_path: Path) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root):
        server = serve(tmp_path, root).up()
        runs = program(tmp_path, root)
        wait_until(lambda: len(server.events("configuration_applied")) > 2, "the first program's trials", seconds=60)
        runs.kill()
        runs.wait()
        wait_until(lambda: bool(server.events("configuration_released")), "the release")
        assert not (tmp_path / "journal.json").exists()
        capped_hz = kernel.gpu.clock.table[4]
        kernel.write(f"/sys/class/devfreq/{kernel.gpu.name}/max_freq", f"{capped_hz}".encode())
        before, then = settings_of(kernel), len(server.events())
        runs = program(tmp_path, root)
        try:
            wait_until(lambda: any(e["event"] == "decided" for e in server.events()[then:]), "a decision", seconds=60)
            code, _ = server.end(signal.SIGTERM)
        finally:
            runs.kill()
            runs.wait()
        tried = [e["effective"]["gpu_hz"] for e in server.events()[then:] if e["event"] == "configuration_applied"]
        (said,) = server.events("levels_allowed")
        assert code == 0, server.log.read_text()
        assert tried
        assert max(tried) <= capped_hz
        assert said["levels"]["gpu_hz"][-1] == capped_hz
        assert settings_of(kernel) == before


def test_a_limit_lowered_during_a_run_is_kept_to_and_left_as_it_was_set(tmp_path: Path) -> None:
    with board(tmp_path, "jetson-tx2") as (kernel, root), serving(tmp_path, root) as server:
        gpu, before = f"/sys/class/devfreq/{kernel.gpu.name}", settings_of(kernel)
        runs = program(tmp_path, root)
        try:
            wait_until(lambda: bool(server.events("run_started")), "the record")
            capped_hz = server.events("run_started")[0]["knobs"]["gpu_hz"][1]
            wait_until(
                lambda: any(e["effective"]["gpu_hz"] > capped_hz for e in server.events("configuration_applied")),
                "a state above the cap",
            )

            def seen() -> bool:  # who writes while a change is under way may not be heard at once
                kernel.write(f"{gpu}/min_freq", b"0")  # kernel 4.9 takes no maximum below the minimum
                kernel.write(f"{gpu}/max_freq", f"{capped_hz:.0f}".encode())
                time.sleep(1.5)
                return bool(server.events("levels_allowed"))

            wait_until(seen, "that it was seen", seconds=20)
            then = [e["event"] for e in server.events()].index("levels_allowed")
            wait_until(lambda: any(e["event"] == "decided" for e in server.events()[then:]), "a decision", seconds=60)
            code, _ = server.end(signal.SIGTERM)
        finally:
            runs.kill()
            runs.wait()
        applied = [e["effective"]["gpu_hz"] for e in server.events()[then:] if e["event"] == "configuration_applied"]
        assert code == 0, server.log.read_text()
        assert applied
        assert max(applied) <= capped_hz
        assert not server.events("control_yielded")
        assert settings_of(kernel) == {**before, f"{gpu}/max_freq": f"{capped_hz:.0f}"}
