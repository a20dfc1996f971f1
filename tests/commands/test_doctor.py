"""`ceml doctor` on fakes and on this machine: what is there, what is missing, who else turns; and nothing written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from ceml.cli import main
from ceml.commands import cards, doctor
from ceml.commands.doctor import _lines, examine
from ceml.errors import SettingsError
from ceml.platforms import profiles
from ceml.platforms.sysfs import become_root
from ceml.saved import Saved
from ceml.store import journal
from ceml.store.journal import Journal
from ceml.testing.amdsmi import FakeAmdsmi
from ceml.testing.directory import Directory
from ceml.testing.host import FakeHost
from ceml.testing.jetson import FakeJetson
from ceml.testing.kernel import FakeKernel
from ceml.testing.nvml import FakeNvml
from tests.test_serve import ceml


@pytest.mark.parametrize("board", sorted(profiles.shipped()))
def test_every_board_is_told_whole_and_nothing_is_written(
    tmp_path: Path, board: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = FakeJetson(board)
    with Directory(kernel, tmp_path) as root:
        status = main(["doctor", "--json", "--root", str(root)])
        report = json.loads(capsys.readouterr().out)
        assert main(["doctor", "--root", str(root)]) == 0
        text = capsys.readouterr().out
    assert (status, report["machine"]["board"], report["platform"]) == (0, board, "jetson")
    assert [knob["name"] for knob in report["knobs"]] == ["cpu_hz", "gpu_hz", "mem_hz"]
    assert report["missing"] == []
    assert report["uncertain"]
    assert "ceml serve --platform jetson" in text
    assert kernel.written == []


def test_knowledge_of_the_machine_that_is_not_understood_is_told_and_left_alone(tmp_path: Path) -> None:
    spoilt = tmp_path / "known" / "jetson-tx2" / "machine.json"
    spoilt.parent.mkdir(parents=True)
    spoilt.write_text('{"version": 99}')
    with Directory(FakeJetson("jetson-tx2"), tmp_path / "board") as root:
        text = ceml("doctor", "--root", root, "--knowledge", tmp_path / "known").stdout
    assert f"uncertain knowledge {spoilt} is not understood: version" in text
    assert spoilt.read_text() == '{"version": 99}'


def test_what_is_missing_comes_with_its_remedy(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    kernel.remove("/sys/kernel/debug")
    kernel.remove("/sys/bus")
    with Directory(kernel, tmp_path) as root:
        missing = " ".join(examine(str(root), None)["missing"])
    for words in ("mount -t debugfs", "load the driver of the INA3221"):
        assert words in missing


def test_rivals_are_named_with_how_they_were_seen(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    kernel.constant("/etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=MAXN >")
    for pid, (comm, cmdline) in {
        11: ("power-profiles-", "/usr/libexec/power-profiles-daemon\0"),
        12: ("thermald", "/usr/sbin/thermald\0--systemd\0"),
        13: ("python3", "python3\0/usr/local/bin/auto-cpufreq\0--daemon\0"),
        14: ("bash", "-bash\0"),
    }.items():
        kernel.constant(f"/proc/{pid}/comm", comm)
        kernel.constant(f"/proc/{pid}/cmdline", cmdline)
    for number, (name, level) in enumerate((("pwm-fan", "7"), ("cpufreq-cpu0", "0"), ("gpu-balanced", "2"))):
        kernel.constant(f"/sys/class/thermal/cooling_device{number}/type", name)
        kernel.constant(f"/sys/class/thermal/cooling_device{number}/cur_state", level)
    kernel.gpu.limits.low = kernel.gpu.limits.high
    with Directory(kernel, tmp_path) as root:
        named = {rival["name"]: rival for rival in examine(str(root), None)["rivals"]}
    assert set(named) == {
        "power-profiles-daemon",
        "thermald",
        "auto-cpufreq",
        "nvpmodel",
        "cooling",
        "jetson_clocks, or somebody who does the same",
    }
    assert named["cooling"]["seen"] == "at work now: gpu-balanced at 2"
    assert all(rival["remedy"] for rival in named.values())


def test_a_linux_machine_is_told_as_one(tmp_path: Path) -> None:
    host = FakeHost("intel_pstate")
    host.add_rapl()
    with Directory(host, tmp_path) as root:
        report = examine(str(root), None)
    assert (report["platform"], report["total_power"]) == ("linux", ["cpu", "mem"])


def test_what_a_server_left_turned_is_said_before_all_else(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(journal, "COPIES", tmp_path / "copies")
    with Directory(FakeJetson("jetson-tx2"), tmp_path / "board") as root:
        words = ["doctor", "--root", str(root), "--runtime-dir", str(tmp_path / "mine")]
        main([*words, "--json"])
        assert json.loads(capsys.readouterr().out)["missing"] == []
        (tmp_path / "theirs").mkdir()
        Journal(tmp_path / "theirs" / "journal.json", [f"{root}/sys"]).write(Saved())
        main([*words, "--json"])
        (told,) = json.loads(capsys.readouterr().out)["missing"]
        assert "a server runs, or was killed" in told
        assert main([*words, "--probe", "--knowledge", str(tmp_path / "known")]) == 2
        assert "run ceml restore first" in capsys.readouterr().err


def test_a_rail_that_is_not_there_and_a_profile_of_another_chip_are_said(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    for path, text in list(kernel.texts()):
        if text is not None and text.strip() == "VDD_SYS_GPU":
            kernel.constant(path, "SOMETHING_ELSE")
    with Directory(kernel, tmp_path) as root:
        (missing,) = examine(str(root), None)["missing"]
        assert "no rail VDD_SYS_GPU (gpu) among" in missing
        other = " ".join(examine(str(root), "jetson-agx-orin")["missing"])
    assert "nvidia,tegra186" in other
    assert "the profile jetson-agx-orin is for nvidia,tegra234" in other


def test_what_to_do_next_is_what_serve_takes(tmp_path: Path) -> None:
    """A machine with a meter but no counters is told to name it; one without either, that speed alone is left."""
    for name, hwmon, words in (("meter", True, ":meter=board"), ("none", False, "--objective performance")):
        host = FakeHost()
        for path, _ in list(host.texts()):
            if "/powercap/" in path or "/hwmon/" in path:
                host.remove(path)
        if hwmon:
            host.constant("/sys/class/hwmon/hwmon7/name", "ina238")
            host.constant("/sys/class/hwmon/hwmon7/power1_label", "board")
            host.constant("/sys/class/hwmon/hwmon7/power1_input", "7000000")
        with Directory(host, tmp_path / name) as root:
            told = list(_lines(examine(str(root), None)))
        (line,) = [line for line in told if line.startswith("next")]
        assert line.endswith(f"ceml serve --platform linux{words}" if hwmon else f"--platform linux {words}")


def test_a_file_whose_driver_hangs_is_named_and_the_rest_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "SILENT_S", 0.2)
    root = tmp_path / "still"
    with Directory(FakeJetson("jetson-tx2"), tmp_path / "live") as live:
        shutil.copytree(live, root, symlinks=True)
    hangs = next(root.glob("sys/class/devfreq/*/max_freq"))
    hangs.unlink()
    os.mkfifo(hangs)  # nobody writes: to open it waits for ever
    before = signal.getsignal(signal.SIGALRM)
    with doctor._impatient():
        report = examine(str(root), None)
    assert signal.getsignal(signal.SIGALRM) is before
    assert [knob["name"] for knob in report["knobs"]] == ["cpu_hz", "mem_hz"]
    assert f"{hangs} cannot be read: no answer within 0.2 s, its driver hangs" in " ".join(report["missing"])


def test_a_machine_that_offers_nothing_is_told_so_and_fails(tmp_path: Path) -> None:
    done = ceml("doctor", "--root", tmp_path)
    assert done.returncode == 1
    assert "no CPU clock can be set" in done.stdout


def test_a_root_that_is_not_there_is_the_persons_to_mend(tmp_path: Path) -> None:
    for options in ((), ("--probe",), ("--json",)):
        done = ceml("doctor", "--root", tmp_path / "none", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"--root {tmp_path}/none: there is no such directory" in done.stderr


@pytest.mark.parametrize(("user", "becomes"), [(0, False), (1000, True)])
def test_only_who_is_not_root_is_told_to_become_root(tmp_path: Path, monkeypatch, user: int, becomes: bool) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    kernel = FakeJetson("jetson-tx2")
    kernel.remove("/sys/kernel/debug")
    (tmp_path / "bare").mkdir()
    with Directory(kernel, tmp_path / "board") as root:
        told = [*_lines(examine(str(root), None)), *_lines(examine(str(tmp_path / "bare"), None))]
    for word in ("no memory clock", "no energy counter", "next"):
        (line,) = [line for line in told if word in line]
        assert ("sudo ceml serve" in line) is becomes
        assert "root may:" not in line
    assert ("not even root may" in become_root()) is not becomes


def test_a_board_named_wrongly_is_the_persons_to_mend(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean"):
        examine(str(tmp_path), "jetson-tx22")
    assert ceml("doctor", "--board", "nope").returncode == 2
    with Directory(FakeKernel(), tmp_path) as root:
        assert examine(str(root), "jetson-nano")["knobs"] == []


def test_on_this_machine_it_runs_through() -> None:
    done = ceml("doctor")
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
    assert "machine" in done.stdout


def test_gpus_are_told_with_what_they_turn_and_how_to_use_them_all(monkeypatch) -> None:
    nvidia, amd = FakeNvml(), FakeAmdsmi(2)
    nvidia.lacking = {"nvmlDeviceGetPowerManagementLimitConstraints"}
    monkeypatch.setitem(sys.modules, "pynvml", nvidia)
    monkeypatch.setitem(sys.modules, "amdsmi", amd)
    report = examine("/", None)
    assert [(gpu["platform"], sorted(gpu["knobs"])) for gpu in report["gpus"]] == [
        ("nvml", ["gpu_hz", "mem_hz"]),
        ("amd", ["gpu_hz", "gpu_w"]),
        ("amd:gpu=1", ["gpu1_hz", "gpu1_w"]),
    ]
    assert "NOT_SUPPORTED" in report["gpus"][0]["missing"][0] or "error 3" in report["gpus"][0]["missing"][0]
    said = list(_lines(report))
    assert said[-1].endswith("nvml+amd+amd:gpu=1")
    assert nvidia.calls == []


def test_a_gpu_without_a_library_is_named_with_the_remedy(monkeypatch) -> None:
    monkeypatch.setattr(cards, "_vendors", lambda root: {"NVIDIA", "AMD"})
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    found, missing = cards.cards("/")
    assert found == []
    assert [sentence.rpartition("[")[2] for sentence in missing] == ["nvidia]'", "amd]'"]


def test_makers_are_known_by_their_number_on_the_bus(tmp_path: Path) -> None:
    for number, vendor in enumerate(("0x10de", "0x1002", "0x8086")):
        device = tmp_path / f"sys/class/drm/card{number}/device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
    assert cards._vendors(str(tmp_path)) == {"NVIDIA", "AMD", ""}
