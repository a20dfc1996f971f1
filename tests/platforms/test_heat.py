"""What holds clocks down, on fakes. Not covered: what is concluded from it (tests/control/test_watch.py)."""

from __future__ import annotations

from pathlib import Path

import anyio

from ceml.platforms.heat import HeatSensor, Throttles, cools
from ceml.testing.directory import Directory
from ceml.testing.kernel import FakeKernel


def test_cooling_devices_of_clocks_and_new_thermal_events_are_told_fans_are_not(tmp_path: Path):
    kernel, state, events = FakeKernel(), {"cpu": 0, "fan": 3}, {"0": 7, "1": 7}
    for number, kind in enumerate(("thermal-cpufreq-0", "pwm-fan", "silent-gpu")):
        kernel.constant(f"/sys/class/thermal/cooling_device{number}/type", kind)
    kernel.add("/sys/class/thermal/cooling_device0/cur_state", lambda: str(state["cpu"]))
    kernel.add("/sys/class/thermal/cooling_device1/cur_state", lambda: str(state["fan"]))
    for cpu, package in (("0", "0"), ("1", "0"), ("2", "1")):
        folder = f"/sys/devices/system/cpu/cpu{cpu}"
        kernel.constant(f"{folder}/topology/physical_package_id", package)
        kernel.add(f"{folder}/thermal_throttle/package_throttle_count", lambda package=package: str(events[package]))
    with Directory(kernel, tmp_path) as root:
        throttles = Throttles(str(root))
        assert throttles.names == ("thermal-cpufreq-0", "thermal events of the processor packages")
        assert throttles.now() == ()


def test_what_is_told_is_new_each_time(tmp_path: Path):
    def put(path: str, text: object) -> None:
        file = tmp_path / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    put("/sys/class/thermal/cooling_device0/type", "thermal-cpufreq-0")
    put("/sys/class/thermal/cooling_device0/cur_state", 0)
    put("/sys/class/thermal/cooling_device1/type", "pwm-fan")
    put("/sys/class/thermal/cooling_device1/cur_state", 3)
    count = "/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    put(count, 7)
    put("/sys/class/thermal/thermal_zone0/temp", 50000)
    throttles = Throttles(str(tmp_path))

    async def read() -> tuple[str, ...]:
        zones = {"cpu": f"{tmp_path}/sys/class/thermal/thermal_zone0/temp"}
        return (await HeatSensor(zones, throttles, period_s=0.1).read()).throttled

    assert anyio.run(read) == ()
    put("/sys/class/thermal/cooling_device0/cur_state", 1)
    put(count, 9)
    assert anyio.run(read) == ("thermal-cpufreq-0 cools", "a processor package throttles")
    put("/sys/class/thermal/cooling_device0/cur_state", 0)
    assert anyio.run(read) == ()
    (tmp_path / count.removeprefix("/")).unlink()  # a processor that went offline says nothing
    assert anyio.run(read) == ()


def test_what_cools_a_gpu_holds_no_processor_down_and_what_nobody_knows_may_hold_any(tmp_path: Path):
    kernel, kinds = FakeKernel(), ("thermal-devfreq-0", "Processor", "powerclamp-like cpu", "GPU-alert")
    states = dict.fromkeys(range(4), 0)
    for number, kind in enumerate(kinds):
        kernel.constant(f"/sys/class/thermal/cooling_device{number}/type", kind)
        kernel.add(f"/sys/class/thermal/cooling_device{number}/cur_state", lambda number=number: f"{states[number]}")
    with Directory(kernel, tmp_path) as root:
        for number, kind in enumerate(kinds):
            states = {other: int(other == number) for other in range(4)}
            for path in (root / "sys/class/thermal").glob("*/cur_state"):
                path.write_text(f"{states[int(path.parent.name[-1])]}")
            asks = cools(f"{root}")
            gpu = kind in ("thermal-devfreq-0", "GPU-alert")
            assert [asks(device) for device in ("", "cpu", "cpu4", "gpu", "mem")] == [True, not gpu, not gpu, gpu, gpu]
