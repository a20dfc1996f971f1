"""`ceml calibrate` with real processes: the simulated board, a fake Jetson, and this machine's processors.

Not covered: a real board's rails; loads on a GPU (they need one).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from ceml.apps.loads import stress
from ceml.cli import main
from ceml.parts import choose
from ceml.plant.board import calibration, jetson_tx2
from ceml.platforms.affinity import family
from ceml.sources import load
from ceml.store import device_power
from ceml.store.knowledge import KnowledgeStore
from ceml.store.paths import PlatformContext
from ceml.testing.directory import Directory
from ceml.testing.fuse import available, mounted
from ceml.testing.host import FakeHost
from ceml.testing.jetson import FakeJetson
from tests.platforms.test_jetson import settings_of
from tests.test_serve import CEML, CLEAN, ceml, wait_until

WHY_NOT = available()


@pytest.fixture
def homes(tmp_path: Path) -> list[str]:
    return ["--runtime-dir", str(tmp_path / "run"), "--knowledge", str(tmp_path / "known")]


def calibrate(*words: object) -> subprocess.CompletedProcess[str]:
    command = [*CEML, "calibrate", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=CLEAN, timeout=120)


def asked(*words: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, where it ends before anything is measured."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as said:
        status = main(["calibrate", *map(str, words)])
    return subprocess.CompletedProcess([], status, out.getvalue(), said.getvalue())


def kept(folder: Path) -> dict:
    (file,) = (folder / "known").glob("*/power.json")
    return json.loads(file.read_text())["devices"]


def test_the_simulated_board_is_calibrated_by_its_own_programs_and_paper_uses_it(tmp_path: Path, homes) -> None:
    done = calibrate("--speed", 40, "--levels", 4, *homes)
    assert done.returncode == 0, done.stderr
    found, truth = kept(tmp_path), calibration().board
    assert {device: len(levels) for device, levels in found.items()} == {"cpu": 4, "gpu": 4, "mem": 4}
    for device, levels in found.items():
        for level in levels:
            at = truth[device].levels_hz.index(level["level_hz"])
            stressed_w = truth[device].slope_w[at] + truth[device].idle_w[at]
            assert level["slope_w"] + level["idle_w"] == pytest.approx(stressed_w, rel=0.5)  # other loads than there
    assert not (tmp_path / "run/journal.json").exists()
    assert "calibrated: cpu, gpu, mem" in ceml("knowledge", "list", "--knowledge", tmp_path / "known").stdout
    flags = {"model": "paper", "knowledge": str(tmp_path / "known")}
    parts = choose(load(None, flags, {}), PlatformContext(runtime_dir=tmp_path / "run"))
    board = parts.mind.knowledge.board
    assert [level["slope_w"] for level in found["gpu"]] == list(board["gpu"].slope_w)
    assert choose(
        load(None, flags | {"fresh": True}, {}), PlatformContext(runtime_dir=tmp_path)
    ).mind.knowledge.board == (truth)


@pytest.mark.skipif(WHY_NOT is not None, reason=f"NO FUSE FACE HERE, NO CALIBRATION OF A FAKE JETSON: {WHY_NOT}")
def test_a_fake_jetson_is_calibrated_exactly_and_left_as_it_was_found(tmp_path: Path, homes) -> None:
    kernel = FakeJetson("jetson-tx2")
    kernel.load = {}
    before = settings_of(kernel)
    with mounted(kernel, tmp_path / "board") as root:
        command = f"{sys.executable} -m ceml.testing.loading {root}/fake/load_"
        done = calibrate(
            *("--platform", f"jetson:root={root}", "--sensor-period-s", 0.04, "--window-s", 0.3, "--levels", 2),
            *(word for device in ("cpu", "gpu", "mem") for word in ("--stress", f"{device}={command}{device} 1")),
            *homes,
        )
        assert settings_of(kernel) == before
    assert done.returncode == 0, done.stderr
    full_w = {"cpu": 2.6, "gpu": 4.4, "mem": 1.6}
    found = kept(tmp_path)
    assert set(found) == set(full_w)
    for device, levels in found.items():
        top = levels[-1]
        assert top["slope_w"] == pytest.approx(0.88 * full_w[device], rel=0.1)
        assert top["idle_w"] == pytest.approx(0.12 * full_w[device], rel=0.25)  # the sensor has steps of 77 mW


def test_a_dry_run_says_what_would_be_measured_and_changes_nothing(tmp_path: Path, homes) -> None:
    done = asked("--dry-run", *homes)
    assert done.returncode == 0, done.stderr
    assert "150 states" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_rails_of_its_devices_is_told_so(tmp_path: Path, homes) -> None:
    host = FakeHost()
    with Directory(host, tmp_path / "host") as root:
        done = asked("--platform", f"linux:root={root}", *homes)
        assert (done.returncode, "no power rail is its own" in done.stderr) == (2, True)
        assert "needs no calibration" in done.stderr
    done = asked("--platform", f"bandwidth:pid={os.getpid()}", *homes)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_load_that_changes_nothing_is_told_and_nothing_is_kept(tmp_path: Path, homes) -> None:
    host = FakeHost()
    host.add_rapl()
    with Directory(host, tmp_path / "host") as root:  # a fake's processors are half busy, whatever runs
        words = ("--platform", f"linux:root={root}", "--levels", 1, "--window-s", 0.2, "--sensor-period-s", 0.04)
        done = calibrate(*words, *homes)
    assert done.returncode == 2
    assert "no load changed how busy" in done.stderr
    assert not (tmp_path / "known").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--window-s", "-1"), "window-s"),
        (("--levels", "0"), "levels = 0"),
        (("--stress", "npu=true"), "write DEVICE=COMMAND"),
        (("--stress", "gpu="), "write DEVICE=COMMAND"),
        (("--stress", "gpu='"), "quotation"),
        (("--stress", "gpu=true"), "programs of its own"),
        (("--platform", "nothing"), "no platform is called"),
    ],
)
def test_bad_words_are_answered_in_one_line(homes, words: tuple[str, ...], said: str) -> None:
    done = asked(*words, *homes)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_puts_the_knobs_back_ends_the_loads_and_keeps_nothing(tmp_path: Path, homes, number: int) -> None:
    process = subprocess.Popen([*CEML, "calibrate", *homes], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN)
    board = tmp_path / "run/board.json"
    space = jetson_tx2("vit").space
    found = dict(space.configuration(space.max_state))
    wait_until(lambda: board.exists(), "the board")
    wait_until(lambda: json.loads(board.read_text())["configuration"] != found, "a knob that is turned")
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, b"nothing is kept" in said) == (130, True), said
    assert json.loads(board.read_text())["configuration"] == found
    assert not (tmp_path / "run/journal.json").exists()
    assert list((tmp_path / "run/load").iterdir()) == []
    assert not (tmp_path / "known").exists()


@pytest.mark.parametrize("kind", ["cpu", "mem"])
def test_our_loads_start_work_and_end_with_all_their_children(virtually, kind: str) -> None:
    import anyio

    async def main() -> None:
        made = stress(kind, 0.2)
        await made.start()
        process = made._process
        assert process is not None
        pids = family(process.pid)
        assert len(pids) >= len(os.sched_getaffinity(0))
        await made.stop()
        for pid in pids:
            wait_until(lambda pid=pid: not Path(f"/proc/{pid}/stat").exists() or _is_dead(pid), "its end")

    anyio.run(main)


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_kill_9_leaves_a_journal_and_restore_puts_everything_back(tmp_path: Path, homes) -> None:
    process = subprocess.Popen(
        [*CEML, "calibrate", *homes], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=CLEAN
    )
    board = tmp_path / "run/board.json"
    space = jetson_tx2("vit").space
    found = dict(space.configuration(space.max_state))
    wait_until(lambda: board.exists() and json.loads(board.read_text())["configuration"] != found, "a turned knob")
    again = calibrate(*homes)
    assert again.returncode == 2
    assert str(process.pid) in again.stderr  # who holds the lock
    process.kill()
    process.wait()
    assert json.loads(board.read_text())["configuration"] != found
    assert ceml("restore", "--runtime-dir", tmp_path / "run").returncode == 0
    assert json.loads(board.read_text())["configuration"] == found
    assert not (tmp_path / "known").exists()


def test_what_is_forgotten_is_the_calibration_too(tmp_path: Path) -> None:
    store = KnowledgeStore(tmp_path, "a-board")
    device_power.write(store, calibration().board)
    assert ceml("knowledge", "forget", "--all", "--knowledge", tmp_path).returncode == 0
    assert device_power.read(store) == {}
