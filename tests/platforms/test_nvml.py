"""Discrete GPUs on a fake library with the real one's names and codes. Not covered: any real GPU."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import anyio
import pytest

from ceml.domain.knobs import Configuration
from ceml.errors import Refused, SettingsError, Temporary, Unavailable
from ceml.platforms.nvidia import put_back
from ceml.platforms.nvml import nvml
from ceml.platforms.restoring import put_back as put_all_back
from ceml.platforms.sysfs import become_root
from ceml.saved import Item, Saved
from ceml.store.paths import PlatformContext
from ceml.testing.checks import check_actuator, check_sensor
from ceml.testing.nvml import UUID, FakeNvml


@pytest.fixture
def library(monkeypatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def platform(**options):
    return nvml(PlatformContext(runtime_dir=Path("/nowhere")), sensor_period_s=0.02, **options)


@pytest.mark.parametrize("idle", [False, True])
def test_a_gpu_keeps_its_promises_at_work_and_idle(library: FakeNvml, idle: bool) -> None:
    library.idle = idle

    async def main() -> None:
        made = platform(knobs=("gpu_hz", "mem_hz", "gpu_w"))
        assert [knob.name for knob in made.space.knobs] == ["gpu_hz", "mem_hz", "gpu_w"]
        assert len(made.space.knobs[0].levels) == 16
        assert (made.space.knobs[0].levels[0], made.space.knobs[0].levels[-1]) == (210e6, 2100e6)
        (actuator,), (sensor,) = made.actuators, made.sensors
        saved = await actuator.save()
        await actuator.apply(made.space.configuration(made.space.min_state))
        assert (library.locked, library.limit_mw) == ({"gpu": 210, "mem": 810}, 100_000)
        assert await actuator.restore(saved) == ()
        assert (library.locked, library.limit_mw) == ({"gpu": None, "mem": None}, 300_000)
        samples = await check_sensor(sensor)
        watts = [sample.rails_w["gpu"] for sample in samples if sample.rails_w]
        assert watts == pytest.approx([25.0 if idle else 180.0] * 4, rel=0.3)

    anyio.run(main)


@pytest.mark.parametrize("idle", [False, True])
def test_every_knob_keeps_every_promise(library: FakeNvml, idle: bool) -> None:
    library.idle = idle
    anyio.run(lambda: check_actuator(platform(knobs=("gpu_hz", "mem_hz", "gpu_w")).actuators[0]))
    assert (library.locked, library.limit_mw) == ({"gpu": None, "mem": None}, 300_000)


def test_a_limit_that_somebody_set_is_never_raised(library: FakeNvml) -> None:
    library.limit_mw = 200_000
    (knob,) = platform(knobs=("gpu_w",)).space.knobs
    assert (knob.levels[0], knob.levels[-1]) == (100.0, 200.0)

    async def main() -> None:
        (actuator,) = platform(knobs=("gpu_w",)).actuators
        library.limit_mw = 150_000
        assert max((await actuator.allowed(Saved()))["gpu_w"]) == 150.0

    anyio.run(main)


def test_a_clock_that_was_given_back_is_locked_anew_when_it_is_wanted_again(library: FakeNvml) -> None:
    async def main() -> None:
        (actuator,) = platform().actuators
        saved = await actuator.save()
        for _ in range(2):
            await actuator.apply(Configuration({"gpu_hz": 210e6}))
            assert library.locked["gpu"] == 210
            await actuator.restore(saved)
            assert library.locked["gpu"] is None
            assert await actuator.locate() == await actuator.glance() == Configuration({"gpu_hz": "driver"})

    anyio.run(main)


def test_a_clock_that_heat_pulls_down_is_told_as_it_is(library: FakeNvml) -> None:
    async def main() -> None:
        made = platform()
        library.pulled_mhz = 1470
        effective = await made.actuators[0].apply(Configuration({"gpu_hz": 2100e6}))
        assert effective["gpu_hz"] == pytest.approx(1470e6, rel=0.02)

    anyio.run(main)


def test_it_claims_its_place_on_the_bus_where_that_is_known(library: FakeNvml) -> None:
    assert platform().claims == ("/sys/bus/pci/devices/0000:01:00.0",)
    library.lacking = {"nvmlDeviceGetPciInfo"}
    assert platform().claims == ()


def test_errors_become_what_to_do_next(library: FakeNvml) -> None:
    async def main() -> None:
        (actuator,) = platform().actuators
        library.denied = True
        with pytest.raises(Refused, match=re.escape(become_root())) as refused:
            await actuator.apply(Configuration({"gpu_hz": 2100e6}))
        assert refused.value.knob == "gpu_hz"
        library.denied = False
        library.failing["nvmlDeviceSetGpuLockedClocks"] = library.NVML_ERROR_GPU_IS_LOST
        with pytest.raises(Temporary):
            await actuator.apply(Configuration({"gpu_hz": 2100e6}))

    anyio.run(main)


def test_a_library_that_starts_and_supports_nothing_is_no_platform(library: FakeNvml) -> None:
    library.lacking = {"nvmlDeviceGetSupportedMemoryClocks"}
    with pytest.raises(Unavailable, match="has no knob"):
        platform()
    library.count = 0
    with pytest.raises(Unavailable, match="finds 0 GPUs"):
        platform()
    library.count = -1
    with pytest.raises(Unavailable, match="nvidia-smi"):
        platform()
    with pytest.raises(SettingsError, match="must be some of"):
        platform(knobs=("fan",))


def test_without_the_library_the_remedy_is_said(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(Unavailable, match="pip install"):
        platform()
    (left,) = put_back([Item("nvml", f"{UUID}#gpu_clocks", None), Item("sysfs", "x", "1")])
    assert "not installed" in left.reason


def test_a_gpu_without_counter_or_power_is_read_as_far_as_it_goes(library: FakeNvml) -> None:
    library.lacking = {"nvmlDeviceGetTotalEnergyConsumption"}
    made = platform()
    assert made.sensors[0].lag_s == 1.0
    library.lacking.add("nvmlDeviceGetPowerUsage")
    assert platform().total_rails == ()


def test_a_journal_puts_back_each_on_its_own(library: FakeNvml) -> None:
    library.locked = {"gpu": 210, "mem": 810}
    library.failing["nvmlDeviceResetGpuLockedClocks"] = library.NVML_ERROR_UNKNOWN
    items = [
        Item("nvml", f"{UUID}#gpu_clocks", None),
        Item("nvml", f"{UUID}#mem_clocks", None),
        Item("nvml", f"{UUID}#power_limit", "250000"),
        Item("nvml", "GPU-other#mem_clocks", None),
        Item("nvml", f"{UUID}#fan", "1"),
    ]
    left = put_all_back(items)
    assert [item.target.partition("#")[2] for item in left] == ["gpu_clocks", "mem_clocks", "fan"]
    assert (library.locked, library.limit_mw) == ({"gpu": 210, "mem": None}, 250_000)


@pytest.mark.parametrize("lacks", [(), ("nvmlDeviceGetCurrentClocksEventReasons",)])
def test_what_slows_it_down_for_heat_is_told_where_the_driver_tells(library: FakeNvml, lacks: tuple[str, ...]) -> None:
    library.lacking = set(lacks)

    async def main() -> None:
        (sensor,) = platform().sensors
        assert (await sensor.read()).throttled == ()
        library.hot, library.pulled_mhz = True, 1470  # and our own power limit, which is no throttling
        assert (await sensor.read()).throttled == (() if lacks else ("gpu: too hot, by the driver",))

    anyio.run(main)
