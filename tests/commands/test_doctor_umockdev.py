"""`ceml doctor` at the real absolute paths: umockdev puts devices into /sys for one process and its children.

Its attributes are plain files, so nothing is turned here (tests/platforms does that, on fakes that behave).
/proc is this machine's, so a board is named instead of recognised. Not covered: debugfs, the older IIO driver.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from ceml.commands.doctor import examine
from ceml.platforms import profiles
from ceml.testing.directory import Directory
from ceml.testing.host import FakeHost
from ceml.testing.jetson import FakeJetson
from ceml.testing.kernel import FakeKernel
from tests.test_serve import CLEAN

RUN = shutil.which("umockdev-run")
pytestmark = pytest.mark.skipif(
    RUN is None, reason="UMOCKDEV-RUN IS NOT HERE: detection is not tried at absolute paths"
)

HWMON = [name for name in sorted(profiles.shipped()) if (fake := profiles.named(name).fake) and fake.driver == "hwmon"]


def described(kernel: FakeKernel) -> str:
    """The fake's classes and processors in umockdev's own words; what lies elsewhere in /sys is no device."""
    devices: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for path, text in kernel.texts():
        parts = path.split("/")
        if text is None:
            continue
        if parts[1:3] == ["sys", "class"]:
            devices[parts[3], f"/devices/platform/{parts[3]}/{parts[4]}"]["/".join(parts[5:])] = text
        elif parts[1:6] == ["sys", "devices", "system", "cpu", "cpufreq"]:
            devices["cpu", "/".join(["", *parts[2:7]])]["/".join(parts[7:])] = text
        elif parts[1:5] == ["sys", "devices", "system", "cpu"] and len(parts) > 6:
            devices["cpu", "/".join(["", *parts[2:6]])]["/".join(parts[6:])] = text
    blocks = []
    for (subsystem, place), attributes in devices.items():
        lines = [f"P: {place}", f"E: SUBSYSTEM={subsystem}"]
        lines += [f"A: {name}={_escaped(text)}\\n" for name, text in attributes.items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _escaped(text: str) -> str:
    return text.rstrip("\n").replace("\\", "\\\\").replace("\n", "\\n")


def doctor(folder: Path, devices: str, *words: str) -> dict:
    file = folder / "machine.umockdev"
    file.write_text(devices)
    command = [str(RUN), "-d", str(file), "--", sys.executable, "-m", "ceml", "doctor", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=CLEAN, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout)


def gist(report: dict) -> tuple:
    knobs = {knob["name"]: knob["levels"] for knob in report["knobs"] if knob["name"] != "mem_hz"}  # in debugfs
    return (
        report["platform"],
        knobs,
        set(report["rails"].values()),
        report["total_power"],
        sorted(report["temperatures"]),
    )


@pytest.mark.parametrize("board", [HWMON[0], HWMON[-1]])
def test_a_jetson_is_found_as_on_its_fake(tmp_path: Path, board: str) -> None:
    kernel = FakeJetson(board)
    found = doctor(tmp_path, described(kernel), "--board", board)
    with Directory(kernel, tmp_path / "tree") as root:
        assert gist(found) == gist(examine(str(root), board))
    assert {knob["name"] for knob in found["knobs"]} >= {"cpu_hz", "gpu_hz"}


def test_a_server_with_processors_counters_and_a_gpu_is_found(tmp_path: Path) -> None:
    host = FakeHost()
    host.add_rapl()
    card = "P: /devices/pci0000:00/0000:03:00.0\nE: SUBSYSTEM=pci\nA: vendor=0x1002\\n\n\n"
    card += "P: /devices/pci0000:00/0000:03:00.0/drm/card0\nE: SUBSYSTEM=drm\nL: device=../../../0000:03:00.0\n\n"
    found = doctor(tmp_path, card + described(host))
    with Directory(host, tmp_path / "tree") as root:
        assert gist(found)[:4] == gist(examine(str(root), None))[:4]
    assert any("AMD GPU" in sentence for sentence in found["missing"])
