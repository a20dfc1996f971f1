"""`ceml service`: what it writes, what systemd's own tools say of it, and a run as the unit would have it.

Not covered: a booted systemd. Without its tools those tests are skipped by name.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.cli import main
from ceml.commands.unit import misplaced, quoted
from ceml.errors import SettingsError
from tests.test_serve import CLEAN, Server, app, wait_until

UNIT = "etc/systemd/system/ceml.service"
ALLOWED_EXPOSURE = 3.0
PLATFORMS = ("jetson", "linux", "simulated", "nvml:gpu=1", "bandwidth:pid=77", "linux+nvml")

analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="SYSTEMD-ANALYZE IS NOT HERE: units unread"
)


def ceml(*words: object) -> subprocess.CompletedProcess[str]:
    """In this process: what a new one costs is measured elsewhere."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as said:
        status = main([str(word) for word in words])
    return subprocess.CompletedProcess([], status, out.getvalue(), said.getvalue())


def installed(root: Path, platform: str) -> str:
    if (why := misplaced()) is not None:
        pytest.skip(f"nothing is installed from here: {why}")
    done = ceml("service", "install", "--root", root, "--platform", platform)
    assert done.returncode == 0, done.stderr
    return (root / UNIT).read_text()


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_what_was_installed_is_uninstalled_and_settings_stay(tmp_path: Path) -> None:
    installed(tmp_path, "simulated")
    assert files(tmp_path) == {UNIT, "etc/sysusers.d/ceml.conf", "etc/tmpfiles.d/ceml.conf", "etc/ceml/ceml.toml"}
    assert ceml("config", "show", tmp_path / "etc/ceml/ceml.toml").returncode == 0
    done = ceml("service", "uninstall", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == {"etc/ceml/ceml.toml"}
    assert ceml("service", "uninstall", "--root", tmp_path).returncode == 0  # twice does no harm


def test_installing_twice_changes_nothing_and_keeps_what_a_person_set(tmp_path: Path) -> None:
    first = installed(tmp_path, "jetson")
    settings = tmp_path / "etc/ceml/ceml.toml"
    settings.write_text('platform = "jetson"\nbudget = "8W"\n')
    assert installed(tmp_path, "jetson") == first
    assert "8W" in settings.read_text()
    done = ceml("service", "install", "--root", tmp_path, "--platform", "linux")
    assert (done.returncode, "says jetson" in done.stderr) == (2, True)


def test_a_dry_run_says_everything_and_writes_nothing(tmp_path: Path) -> None:
    done = ceml("service", "install", "--dry-run", "--root", tmp_path, "--platform", "jetson")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == set()
    for words in ("ExecStopPost=", "write ", "systemctl daemon-reload", "g ceml", "d /run/ceml"):
        assert words in done.stdout


def test_a_dry_run_shows_the_unit_and_warns_where_an_installation_would_be_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ceml.commands.unit._program", lambda: [Path("/tmp/ceml-tried/bin/ceml")])
    monkeypatch.setattr("ceml.commands.service._found", lambda: None)
    monkeypatch.setattr("ceml.commands.service.warnings", list)  # they ask who owns files that are only named here
    done = ceml("service", "install", "--dry-run", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("ExecStart=/tmp/ceml-tried/bin/ceml serve", 'platform = "jetson"', "systemctl daemon-reload"):
        assert words in done.stdout
    refusals = ("is in a temporary directory: install ceml elsewhere", "no board with knobs was found here")
    for words in refusals:
        assert words in done.stderr
    assert done.stderr.count("as it is this would be refused: ") == len(refusals)
    done = ceml("service", "install", "--root", tmp_path)
    assert done.returncode == 2
    assert all(words in done.stderr for words in refusals)
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("platform", "said"),
    [("jetsn", "known are"), ("linux+nvidia", "'nvidia'"), ("replay", "ceml replay"), ('a"b', "known are"), ("", "")],
)
def test_a_platform_that_is_none_is_refused(tmp_path: Path, platform: str, said: str) -> None:
    done = ceml("service", "install", "--root", tmp_path, "--platform", platform)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert files(tmp_path) == set()


def test_somebody_elses_unit_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    unit = tmp_path / UNIT
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\n")
    for action in (("install", "--platform", "jetson"), ("uninstall",)):
        done = ceml("service", *action, "--root", tmp_path)
        assert (done.returncode, "was not written by ceml" in done.stderr) == (2, True)
    unit.unlink()
    unit.symlink_to("/dev/null")
    done = ceml("service", "install", "--platform", "jetson", "--root", tmp_path)
    assert (done.returncode, "unmask" in done.stderr) == (2, True)


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=20))
def test_a_quoted_word_is_one_word_again_when_a_unit_is_read(word: str) -> None:
    if not word.isprintable():
        with pytest.raises(SettingsError):
            quoted(word)
        return
    read = quoted(word)
    inside = read[1:-1] if read.startswith('"') else read
    plain = re.sub(r'\\(["\\])', r"\1", inside).replace("%%", "%").replace("$$", "$")
    assert plain == word
    assert read.startswith('"') or not set(read) & set(" \t'\";#")


@analyze
@pytest.mark.parametrize("platform", PLATFORMS)
def test_systemd_reads_the_unit_without_complaint_and_finds_it_hardened(tmp_path: Path, platform: str) -> None:
    unit = tmp_path / "ceml.service"
    unit.write_text(installed(tmp_path, platform))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if "ceml.service" in line]
    assert (done.returncode, complaints) == (0, [])
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for ceml.service: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= ALLOWED_EXPOSURE


@analyze
def test_every_protection_that_is_missing_is_explained_in_the_unit(tmp_path: Path) -> None:
    text = installed(tmp_path, "jetson")
    unit = tmp_path / "ceml.service"
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        timeout=60,
    )
    missing = {line.split()[1].split("=")[0] for line in done.stdout.splitlines() if line.startswith("✗")}
    assert missing
    assert {name for name in missing if name not in text} == set()


def test_a_run_tells_its_manager_that_it_is_ready_alive_and_ending(tmp_path: Path) -> None:
    told: list[str] = []

    def listen() -> None:
        while not told or told[-1] != "ENOUGH":
            told.append(ear.recv(4096).decode())

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        listener = threading.Thread(target=listen)  # as a service manager: its inbox is short and read all the time
        listener.start()
        CLEAN.update(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000")
        try:
            server = Server(tmp_path, "--speed", 200)
        finally:
            del CLEAN["NOTIFY_SOCKET"], CLEAN["WATCHDOG_USEC"]
        try:
            wait_until(lambda: "READY=1" in told, "its being ready", seconds=60)
            assert (tmp_path / "beats").exists()
            assert (tmp_path / "control.sock").exists()
            program = app(tmp_path, "--workload", "gpu-bound", "--steps", 200)
            wait_until(lambda: {"WATCHDOG=1", "STATUS=measuring gpu-bound"} <= set(told), "its being alive", seconds=60)
            program.wait(60)
            program.communicate()
            wait_until(lambda: bool(server.events("configuration_released")), "the release")
        finally:
            code, _ = server.end(signal.SIGTERM)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
                way.sendto(b"ENOUGH", str(tmp_path / "notify"))
            listener.join()
    assert code == 0
    assert told.count("READY=1") == 1
    assert any(line.startswith("STOPPING=1") for line in told)
