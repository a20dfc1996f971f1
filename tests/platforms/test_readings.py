"""What sensors make of any text: loads, rails, labels. Not covered: whole boards (test_jetson.py)."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.errors import CemlError, Temporary
from ceml.platforms import hwmon
from ceml.platforms.heat import thermal_zones
from ceml.platforms.procstat import CpuLoad, GpuLoad, MemoryLoad

counts = st.integers(0, 10**9)


def stat(root: Path, *lines: str) -> None:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/stat").write_text("\n".join(["cpu  1 1 1 1 1 1 1 1 1 1", *lines, "intr 5"]) + "\n")


@given(busy=counts, idle=counts, waiting=counts)
def test_load_is_busy_ticks_over_all_ticks_whatever_was_before(tmp_path_factory, busy, idle, waiting) -> None:
    root = tmp_path_factory.mktemp("stat")

    async def main() -> None:
        load = CpuLoad(str(root), period_s=0.1)
        stat(root, "cpu0 100 0 0 100 50 0 0 0 0 0")
        assert (await load.read()).utilisation == {}
        stat(root, f"cpu0 {100 + busy} 0 0 {100 + idle} {50 + waiting} 0 0 0 0 0")
        sample = await load.read()
        if busy + idle + waiting == 0:
            assert sample.utilisation == {}
        else:
            assert sample.utilisation["cpu"] == pytest.approx(busy / (busy + idle + waiting))
            assert sample.covers_s > 0

    anyio.run(main)


def test_processors_that_come_and_go_start_the_count_anew(tmp_path: Path) -> None:
    async def main() -> None:
        load = CpuLoad(str(tmp_path), period_s=0.1)
        stat(tmp_path, "cpu0 10 0 0 10 0 0 0 0 0 0", "cpu1 500 0 0 0 0 0 0 0 0 0")
        await load.read()
        stat(tmp_path, "cpu0 20 0 0 20 0 0 0 0 0 0")
        assert (await load.read()).utilisation == {}
        stat(tmp_path, "cpu0 21 0 0 23 0 0 0 0 0 0")
        assert (await load.read()).utilisation == {"cpu": 0.25}
        stat(tmp_path, "cpu0 1 0 0 1 0 0 0 0 0 0")  # counted back, as after a suspend
        assert (await load.read()).utilisation == {}

    anyio.run(main)


@given(text=st.text(max_size=200))
def test_whatever_proc_stat_says_it_is_a_share_or_a_sentence(tmp_path_factory, text: str) -> None:
    root = tmp_path_factory.mktemp("stat")

    async def main() -> None:
        load = CpuLoad(str(root), period_s=0.1)
        for _ in range(2):
            stat(root, text)
            try:
                sample = await load.read()
            except CemlError:
                continue
            assert all(0 <= share <= 1 for share in sample.utilisation.values())

    anyio.run(main)


@given(content=st.one_of(st.text(max_size=30), st.tuples(st.integers(), st.integers()).map(lambda p: f"{p[0]} {p[1]}")))
def test_whatever_a_rail_says_it_is_watts_or_a_sentence(tmp_path_factory, content: str) -> None:
    root = tmp_path_factory.mktemp("iio")
    folder = root / "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device0"
    folder.mkdir(parents=True)
    (folder / "rail_name_0").write_text("VDD_IN\n")
    (folder / "ui_input_0").write_text(content, newline="")
    sensor = hwmon.PowerSensor("rails", {"VDD_IN": "total"}, lambda: hwmon.channels(str(root)), period_s=0.1)

    async def main() -> None:
        try:
            watts = (await sensor.read()).rails_w["total"]
        except Temporary:
            return
        assert hwmon.LEAST_W <= watts <= hwmon.MOST_W

    anyio.run(main)


def test_rails_are_found_by_label_in_every_generation_and_nothing_else_is(tmp_path: Path) -> None:
    files = {
        "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1/rail_name_0": "VDD_IN",
        "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1/ui_input_0": "19000 100",
        "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1/rail_name_1": "NC",
        "sys/class/hwmon/hwmon4/in1_label": "VDD_SOC",
        "sys/class/hwmon/hwmon4/in1_input": "5000",
        "sys/class/hwmon/hwmon4/curr1_input": "200",
        "sys/class/hwmon/hwmon4/in2_label": "NC",
        "sys/class/hwmon/hwmon4/curr2_input": "1",
        "sys/class/hwmon/hwmon4/in7_label": "sum of shunt voltages",
        "sys/class/hwmon/hwmon5/name": "ina238",
        "sys/class/hwmon/hwmon5/power1_label": "VIN",
        "sys/class/hwmon/hwmon5/power1_input": "-392000",
        "sys/class/hwmon/hwmon6/name": "coretemp",
        "sys/class/hwmon/hwmon6/temp1_input": "50000",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    found = {channel.label: channel.watts() for channel in hwmon.channels(str(tmp_path))}
    assert found == {"VDD_IN": pytest.approx(1.9), "VDD_SOC": pytest.approx(1.0), "VIN": pytest.approx(-0.392)}


def test_loads_are_shares_of_their_own_scale(tmp_path: Path) -> None:
    path = tmp_path / "load"
    for text, gpu, memory in (("0", 0.0, 0.0), ("500", 0.5, 0.5), ("1000", 1.0, 1.0), ("4000", 1.0, 1.0)):
        path.write_text(text)
        assert GpuLoad(str(path)).share() == gpu
        assert MemoryLoad(str(path), lambda: 1e6).share() == memory
    with pytest.raises(Temporary):
        MemoryLoad(str(path), lambda: 0.0).share()


def test_zones_that_never_change_are_left_out(tmp_path: Path) -> None:
    for number, zone in enumerate(("CPU-therm", "PMIC-Die")):
        folder = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(f"{zone}\n")
    assert list(thermal_zones(str(tmp_path))) == ["CPU-therm"]
