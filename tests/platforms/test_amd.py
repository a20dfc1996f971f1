"""AMD GPUs on a fake library with the real one's names, structures and codes. Not covered: any real GPU."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from ceml.domain.knobs import Configuration
from ceml.errors import Refused, SettingsError, Temporary, Unavailable
from ceml.platforms.amd import amd
from ceml.platforms.radeon import put_back
from ceml.platforms.restoring import put_back as put_all_back
from ceml.platforms.sysfs import become_root
from ceml.saved import Item
from ceml.store.paths import PlatformContext
from ceml.testing.amdsmi import BDF, FakeAmdsmi
from ceml.testing.checks import check_actuator, check_sensor
from tests.conftest import ROOT
from tests.test_serve import CLEAN, Server, ceml, wait_until

BOTH = ("gpu_w", "gpu_hz")


@pytest.fixture
def library(monkeypatch) -> FakeAmdsmi:
    fake = FakeAmdsmi()
    monkeypatch.setitem(sys.modules, "amdsmi", fake)
    return fake


def platform(**options):
    return amd(PlatformContext(runtime_dir=Path("/nowhere")), sensor_period_s=0.02, **options)


def driver(fake: FakeAmdsmi) -> tuple:
    return fake.cap_w, fake.range_mhz, fake.level


@pytest.mark.parametrize("idle", [False, True])
def test_a_gpu_keeps_its_promises_at_work_and_idle(library: FakeAmdsmi, idle: bool) -> None:
    library.idle = idle

    async def main() -> None:
        made = platform(knobs=BOTH)
        assert [(knob.name, len(knob.levels)) for knob in made.space.knobs] == [("gpu_w", 9), ("gpu_hz", 9)]
        (actuator,), (sensor,) = made.actuators, made.sensors
        saved = await actuator.save()
        await actuator.apply(made.space.configuration(made.space.min_state))
        assert driver(library) == (150.0, (500, 500), "MANUAL")
        assert await actuator.restore(saved) == ()
        assert driver(library) == (300.0, (500, 2100), "AUTO")
        samples = await check_sensor(sensor)
        read = [(sample.rails_w["gpu"], sample.covers_s) for sample in samples if sample.rails_w]
        assert len(read) == 4
        mean_w = sum(watts * over_s for watts, over_s in read) / sum(over_s for _, over_s in read)
        assert mean_w == pytest.approx(40.0 if idle else 280.0, rel=0.3)  # as a whole: a busy machine splits it anyhow
        assert samples[-1].utilisation == {"gpu": 0.0 if idle else 0.92, "mem": 0.0 if idle else 0.47}
        assert samples[-1].temperatures_c == {"gpu hotspot": 68.0, "gpu memory": 68.0}

    anyio.run(main)


@pytest.mark.parametrize("per_watt", [1, 1_000_000])
@pytest.mark.parametrize("absent", [set(), {"amdsmi_set_gpu_clk_limit"}])
def test_every_version_of_the_library_keeps_every_promise(library: FakeAmdsmi, per_watt: int, absent: set[str]) -> None:
    library.per_watt, library.absent = per_watt, absent
    for knob in BOTH:
        anyio.run(lambda knob=knob: check_actuator(platform(knobs=(knob,)).actuators[0], levels_per_knob=9))
    assert driver(library) == (300.0, (500, 2100), "AUTO")


def test_the_second_gpu_has_names_of_its_own(library: FakeAmdsmi) -> None:
    library.count = 2
    library.__init__(2)

    async def main() -> None:
        made = platform(gpu=1, knobs=BOTH)
        assert [knob.name for knob in made.space.knobs] == ["gpu1_w", "gpu1_hz"]
        assert made.total_rails == ("gpu1",)
        assert set((await made.sensors[0].read()).utilisation) == {"gpu1", "mem1"}
        assert (await made.actuators[0].save()).items[0].target.startswith("0000:04:00.0#")

    anyio.run(main)


def test_a_clock_above_its_limit_is_told_as_it_is(library: FakeAmdsmi) -> None:
    async def main() -> None:
        library.ignores_limit = True
        effective = await platform(knobs=("gpu_hz",)).actuators[0].apply(Configuration({"gpu_hz": 500e6}))
        assert effective["gpu_hz"] == 2100e6

    anyio.run(main)


def test_what_holds_a_gpu_back_is_said_once(library: FakeAmdsmi) -> None:
    library.held_back = True

    async def main() -> None:
        for _ in range(3):
            await sensor.read()

    sensor = platform().sensors[0]
    with capture_logs() as said:
        anyio.run(main)
    assert [(line["event"], line["by"]) for line in said] == [("gpu_held_back", "its power limit")]


def test_errors_become_what_to_do_next(library: FakeAmdsmi) -> None:
    async def main() -> None:
        (actuator,) = platform().actuators
        library.denied = True
        with pytest.raises(Refused, match=re.escape(become_root())) as refused:
            await actuator.apply(Configuration({"gpu_w": 150.0}))
        assert refused.value.knob == "gpu_w"
        library.denied = False
        library.failing["amdsmi_set_power_cap"] = 30
        with pytest.raises(Temporary, match="BUSY"):
            await actuator.apply(Configuration({"gpu_w": 150.0}))

    anyio.run(main)


def test_a_library_that_starts_and_supports_nothing_is_no_platform(library: FakeAmdsmi, monkeypatch) -> None:
    library.lacking = {"amdsmi_get_power_cap_info"}
    with pytest.raises(Unavailable, match="has no knob"):
        platform()
    with pytest.raises(SettingsError, match="must be some of"):
        platform(knobs=("fan",))
    for count, said in ((0, "finds 0 GPUs"), (-1, "DRIVER_NOT_LOADED")):
        monkeypatch.setitem(sys.modules, "amdsmi", FakeAmdsmi(count))
        with pytest.raises(Unavailable, match=said):
            platform()


def test_a_guest_that_may_set_no_cap_is_told_so(library: FakeAmdsmi) -> None:
    library.CAPS_W = (0, 0)
    with pytest.raises(Unavailable, match="guests"):
        platform()


def test_without_the_library_the_remedy_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with pytest.raises(Unavailable, match="pip install"):
        platform()
    (left,) = put_back([Item("amd", f"{BDF}#power_cap", "300000000"), Item("sysfs", "x", "1")])
    assert "not installed" in left.reason
    monkeypatch.delitem(sys.modules, "amdsmi")
    (tmp_path / "amdsmi.py").write_text("print('no library')\n{}['libamd_smi.so']\n")  # what the real one does
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Unavailable, match="amd-smi-lib"):
        platform()


def test_a_gpu_without_counter_or_power_is_read_as_far_as_it_goes(library: FakeAmdsmi) -> None:
    library.lacking = {"amdsmi_get_energy_count"}
    made = platform()
    assert made.sensors[0].lag_s == 1.0
    assert anyio.run(made.sensors[0].read).rails_w == {"gpu": 280.0}
    library.lacking |= {"amdsmi_get_power_info", "amdsmi_get_violation_status"}
    assert platform().total_rails == ()
    library.lacking |= {"amdsmi_get_gpu_activity", "amdsmi_get_temp_metric"}
    with pytest.raises(Unavailable):
        anyio.run(platform().sensors[0].read)


def test_a_journal_puts_back_each_on_its_own(library: FakeAmdsmi) -> None:
    library.cap_w, library.range_mhz, library.level = 150.0, (500, 700), "MANUAL"
    library.failing["amdsmi_set_gpu_clk_limit"] = 1
    items = [
        Item("amd", f"{BDF}#gpu_clock", "500..2100"),
        Item("amd", f"{BDF}#perf_level", "AUTO"),
        Item("amd", f"{BDF}#power_cap", "250000000"),
        Item("amd", "0000:09:00.0#power_cap", "250000000"),
        Item("amd", f"{BDF}#power_cap", "much"),
        Item("amd", f"{BDF}#perf_level", "FAST"),
        Item("amd", f"{BDF}#fan", "1"),
    ]
    left = put_all_back(items)
    assert [item.target.partition("#")[2] for item in left] == [
        "gpu_clock",
        "power_cap",
        "power_cap",
        "perf_level",
        "fan",
    ]
    assert driver(library) == (250.0, (500, 700), "AUTO")


LIBRARY = """
import sys
from pathlib import Path
from ceml.testing.amdsmi import FakeAmdsmi
sys.modules[__name__] = FakeAmdsmi(state=Path(__file__).with_name("driver.json"))
"""


def test_after_kill_9_restore_puts_a_gpu_back(tmp_path: Path) -> None:
    (tmp_path / "amdsmi.py").write_text(LIBRARY)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    before, CLEAN["PYTHONPATH"] = CLEAN.get("PYTHONPATH"), path
    try:
        server = Server(tmp_path, "--platform", "amd:knobs=[gpu_w,gpu_hz]", "--beats-per-state", 2).up()
        with (tmp_path / "beats").open("w") as pipe:
            pipe.write("app=a event=join\n")
            pipe.flush()
            number = 0
            while len(server.events("configuration_applied")) < 3:
                number += 1
                pipe.write(f"app=a beat={number}\n")
                pipe.flush()
                anyio.run(anyio.sleep, 0.02)
        wait_until(lambda: (tmp_path / "driver.json").exists(), "a knob that was turned")
        server.end(signal.SIGKILL)
        assert json.loads((tmp_path / "driver.json").read_text()) != [300.0, [500, 2100], "AUTO"]
        done = ceml("restore", "--runtime-dir", tmp_path)
    finally:
        if before is None:
            del CLEAN["PYTHONPATH"]
        else:
            CLEAN["PYTHONPATH"] = before
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "driver.json").read_text()) == [300.0, [500, 2100], "AUTO"]
