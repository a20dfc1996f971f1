"""Jetson boards on fakes that behave like kernels: every profile, both faces, both kernels.

Not covered here: whole runs in processes of their own (test_jetson_serve.py), what a real board does.
"""

from __future__ import annotations

import errno
import re
import time
from contextlib import nullcontext
from pathlib import Path

import anyio
import pytest

from ceml.domain.knobs import Configuration
from ceml.errors import Refused, SettingsError, Temporary, Unavailable
from ceml.platforms import heat, profiles
from ceml.platforms.jetson import jetson, look
from ceml.platforms.sysfs import become_root
from ceml.store.paths import PlatformContext
from ceml.testing.checks import check_actuator, check_sensor
from ceml.testing.directory import Directory
from ceml.testing.fuse import available, mounted
from ceml.testing.jetson import FakeJetson
from ceml.testing.kernel import Attribute

BOARDS = sorted(profiles.shipped())
WHY_NOT = available()
with_fuse = pytest.mark.skipif(WHY_NOT is not None, reason=f"NO FUSE FACE HERE: {WHY_NOT}")
COOLING = "/sys/class/thermal/cooling_device0"
KEPT = ("scaling_", "min_freq", "max_freq", "governor", "railgate", "locked", "clk_state")


def settings_of(kernel: FakeJetson) -> dict[str, str | None]:
    """What somebody could have set, and must find again."""
    return {path: text for path, text in kernel.texts() if any(part in path for part in KEPT) and "cur" not in path}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heat is read as often as power: nobody need wait for seconds."""
    monkeypatch.setattr(heat, "PERIOD_S", 0.02)


def platform(root: Path, **options):
    return jetson(PlatformContext(runtime_dir=root / "run"), root=str(root), sensor_period_s=0.02, **options)


@with_fuse
@pytest.mark.parametrize("board", BOARDS)
def test_every_board_is_detected_and_keeps_its_promises(tmp_path: Path, board: str) -> None:
    kernel = FakeJetson(board)
    before = settings_of(kernel)

    async def main(root: Path) -> None:
        made = platform(root)
        assert made.name == board
        assert made.labels == (("total power without the memory's rail",) if board == "jetson-agx-orin" else ())
        assert {knob.device for knob in made.space.knobs} == {"cpu", "gpu", "mem"}
        (actuator,) = made.actuators

        async def disturb() -> None:
            with kernel.lock:
                kernel.policies[0].governor = "performance"

        await check_actuator(actuator, disturb=disturb)
        await sensors_are_sane(made)

    with mounted(kernel, tmp_path) as root:
        anyio.run(main, root)
    kernel.write("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", b"schedutil")  # disturbed after saving
    assert settings_of(kernel) == before
    assert not [path for path, _ in kernel.written if "crit" in path or "cap" in path]


async def sensors_are_sane(made) -> None:
    said = [await check_sensor(sensor) for sensor in made.sensors]
    rails = {rail for samples in said for sample in samples for rail in sample.rails_w}
    assert set(made.total_rails) <= rails
    assert {device for samples in said for sample in samples for device in sample.utilisation} >= {"cpu", "gpu"}


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_is_read_and_put_back_on_plain_files_too(tmp_path: Path, board: str) -> None:
    kernel = FakeJetson(board)
    before = settings_of(kernel)

    async def main(root: Path) -> None:
        made = platform(root)
        (actuator,) = made.actuators
        saved = await actuator.save()
        await actuator.apply(made.space.configuration(made.space.min_state))
        await sensors_are_sane(made)
        assert await actuator.restore(saved) == ()
        with anyio.fail_after(20):
            while settings_of(kernel) != before:
                await anyio.sleep(0.01)

    with Directory(kernel, tmp_path) as root:
        anyio.run(main, root)


def test_the_range_of_the_paper_on_a_tx2_has_its_540_states(tmp_path: Path) -> None:
    with Directory(FakeJetson("jetson-tx2"), tmp_path) as root:
        assert platform(root).space.shape == (9, 10, 6)
        assert platform(root, range="full").space.shape == (12, 13, 11)


def run_on(kernel: FakeJetson, root: Path, main, **options) -> None:
    """Run `main(platform, actuator)` on the best face there is here."""
    with (mounted if WHY_NOT is None else Directory)(kernel, root):
        made = platform(root, **options)
        anyio.run(main, made, made.actuators[0])


def test_a_clock_that_is_capped_silently_is_told_as_it_is(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")

    async def main(made, actuator) -> None:
        top = made.space.configuration(made.space.max_state)
        kernel.policies[1].clock.cap = 960_000
        kernel.memory.clock.cap = 1_600_000_000
        effective = await actuator.apply(top)
        assert effective == Configuration({"cpu_hz": 960e6, "gpu_hz": 1300.5e6, "mem_hz": 1600e6})

    run_on(kernel, tmp_path, main)


def test_orins_memory_that_the_firmware_clamps_is_told_as_it_is(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-agx-orin")

    async def main(made, actuator) -> None:
        kernel.memory.clock.cap = 2_133_000_000
        assert (await actuator.apply(Configuration({"mem_hz": 3199e6})))["mem_hz"] == 2133e6

    run_on(kernel, tmp_path, main)


def test_what_nvpmodel_allows_is_never_exceeded_and_never_written(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    kernel.write("/sys/kernel/nvpmodel_emc_cap/emc_iso_cap", b"1331200000")
    kernel.write("/sys/class/devfreq/17000000.gp10b/max_freq", b"1122000000")
    for policy in (0, 1):
        kernel.write(f"/sys/devices/system/cpu/cpufreq/policy{policy}/scaling_max_freq", b"1420800")

    async def main(made, actuator) -> None:
        assert [knob.levels[-1] for knob in made.space.knobs] == [1420.8e6, 1122e6, 1331.2e6]

    run_on(kernel, tmp_path, main)


def test_what_cooling_takes_from_the_gpu_at_the_start_is_no_limit_of_anybody(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    kernel.write("/sys/class/devfreq/17000000.gp10b/max_freq", b"420750000")
    kernel.constant(f"{COOLING}/type", "thermal-devfreq-0")
    kernel.constant(f"{COOLING}/cur_state", "5")

    async def main(made, actuator) -> None:
        assert {knob.name: knob.levels[-1] for knob in made.space.knobs}["gpu_hz"] == 1300.5e6
        assert await actuator.cools()

    run_on(kernel, tmp_path, main)


@pytest.mark.parametrize("version", ["4.9", "6.1"])
def test_the_gpu_goes_up_and_down_without_limits_that_cross(tmp_path: Path, version) -> None:
    kernel = FakeJetson("jetson-tx2", kernel=version)

    async def main(made, actuator) -> None:
        (gpu,) = [knob for knob in made.space.knobs if knob.name == "gpu_hz"]
        for level in (*gpu.levels, *reversed(gpu.levels), gpu.levels[0], gpu.levels[-1], gpu.levels[3]):
            assert (await actuator.apply(Configuration({"gpu_hz": level})))["gpu_hz"] == level

    run_on(kernel, tmp_path, main)
    assert kernel.gpu.clock.value == 726_750_000  # the fourth level of the range was the last


def test_denver_processors_that_are_offline_are_left_out_and_named(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    kernel.policies[1].online.clear()

    async def main(made, actuator) -> None:
        saved = await actuator.save()
        assert not [item for item in saved.items if "policy1" in item.target]
        effective = await actuator.apply(Configuration({"cpu_hz": 960e6}))
        assert effective["cpu_hz"] == 960e6
        assert await actuator.restore(saved) == ()
        found = look(str(tmp_path), None, {})
        assert "offline" in " ".join(found.problems)

    run_on(kernel, tmp_path, main)


def test_processors_that_go_offline_later_are_passed_over_and_told_when_not_restored(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")

    async def main(made, actuator) -> None:
        saved = await actuator.save()
        await actuator.apply(Configuration({"cpu_hz": 960e6}))
        kernel.policies[1].online.clear()
        assert (await actuator.apply(Configuration({"cpu_hz": 1113.6e6})))["cpu_hz"] == 1113.6e6
        (left,) = await actuator.restore(saved)
        assert "policy1" in left.target
        assert "ceml restore" in left.reason
        kernel.policies[1].online.append(1)
        assert await actuator.restore(saved) == ()
        assert kernel.policies[1].governor == "schedutil"

    run_on(kernel, tmp_path, main)


@with_fuse
def test_a_knob_that_refuses_is_refused_by_name_and_stops_no_other_from_being_restored(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    governor = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"

    async def main(made, actuator) -> None:
        saved = await actuator.save()
        kernel.fault(governor, errno.EPERM, on="write")
        with pytest.raises(Refused, match=re.escape(become_root())) as refused:
            await actuator.apply(Configuration({"cpu_hz": 960e6}))
        assert refused.value.knob == "cpu_hz"
        kernel.heal(governor, on="write")
        await actuator.apply(Configuration({"cpu_hz": 960e6, "gpu_hz": 522.75e6, "mem_hz": 800e6}))
        kernel.fault(governor, errno.EIO, on="write")
        (left,) = await actuator.restore(saved)
        assert left.target.endswith("policy0/scaling_governor")
        assert (kernel.policies[1].governor, kernel.memory.held, kernel.gpu.limits.effective) == (
            "schedutil",
            False,
            (114_750_000, 1_300_500_000),
        )
        kernel.heal(governor, on="write")
        assert await actuator.restore(saved) == ()

    run_on(kernel, tmp_path, main)


@with_fuse
def test_rails_vanish_return_and_lie_and_each_time_it_is_said(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-orin-nx")

    async def main(made, actuator) -> None:
        (power,) = [sensor for sensor in made.sensors if sensor.name == "power rails"]
        assert set((await power.read()).rails_w) == {"total", "cpu+gpu+cv", "soc"}
        kernel.fault("/sys/class/hwmon/hwmon0/curr3_input", errno.ENODATA)
        assert set((await power.read()).rails_w) == {"total", "cpu+gpu+cv"}
        kernel.add("/sys/class/hwmon/hwmon0/curr1_input", lambda: "9999999")
        with pytest.raises(Temporary, match=r"VDD_IN.*which no rail carries"):  # without the total there is no reading
            await power.read()
        gone = kernel.remove("/sys/class/hwmon/hwmon0")
        with pytest.raises(Unavailable, match=r"ceml doctor|not there"):
            await power.read()
        for path, file in gone.items():  # bound again, under another number
            kernel.files[path.replace("hwmon0", "hwmon7")] = file
        kernel.add("/sys/class/hwmon/hwmon7/curr1_input", lambda: "400")
        assert set((await power.read()).rails_w) == {"total", "cpu+gpu+cv", "soc"}
        kernel.fault("/sys/class/hwmon/hwmon7/in1_input", errno.EIO, times=1)
        kernel.fault("/sys/class/hwmon/hwmon7/in2_input", errno.EIO, times=1)
        kernel.fault("/sys/class/hwmon/hwmon7/in3_input", errno.EAGAIN, times=1)
        with pytest.raises(Temporary):
            await power.read()
        assert set((await power.read()).rails_w) == {"total", "cpu+gpu+cv", "soc"}

    run_on(kernel, tmp_path, main)


def test_without_debugfs_the_memory_knob_is_missing_and_the_remedy_is_said(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    kernel.remove("/sys/kernel/debug")
    with Directory(kernel, tmp_path) as root:
        assert [knob.name for knob in platform(root).space.knobs] == ["cpu_hz", "gpu_hz"]
        assert "mount -t debugfs" in " ".join(look(str(root), None, {}).problems)


def test_a_board_nobody_knows_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="--board ID"):
        platform(tmp_path)
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"acme,p1\0acme,soc\0")
    with pytest.raises(Unavailable, match=r"says acme,p1, acme,soc"):
        platform(tmp_path)
    with pytest.raises(SettingsError, match=r"did you mean jetson-tx2\?"):
        platform(tmp_path, board="jetson-tx")
    (tree / "compatible").write_bytes(b"acme,carrier\0nvidia,tegra194\0")
    found = look(str(tmp_path), None, {})
    assert (found.profile.id, found.guessed) == ("jetson-agx-xavier", True)
    with pytest.raises(Unavailable, match="no knob"):
        platform(tmp_path)


def test_no_rail_is_counted_twice(tmp_path: Path) -> None:
    for board in BOARDS:
        profile = profiles.named(board)
        assert "total" not in profile.total or profile.total == ("total",)
        assert len(set(profile.total)) == len(profile.total)
        with nullcontext(tmp_path / board) as root, Directory(FakeJetson(board), root):
            assert look(str(root), None, {}).total == profile.total


@with_fuse
@pytest.mark.parametrize("version", ["4.9", "6.1"])
def test_where_there_is_no_governor_userspace_the_limits_hold_the_clock(tmp_path: Path, version) -> None:
    kernel = FakeJetson("jetson-tx2", kernel=version)
    kernel.files[f"{COOLING}/type"] = Attribute(lambda: "thermal-cpufreq-0")
    kernel.files[f"{COOLING}/cur_state"] = Attribute(lambda: "3")
    for policy in kernel.policies:
        policy.governors = ("schedutil", "performance", "powersave")
    before = settings_of(kernel)

    async def main(made, actuator) -> None:
        await check_actuator(actuator, levels_per_knob=9)
        assert settings_of(kernel) == before
        await actuator.apply(Configuration({"cpu_hz": 1728e6}))
        kernel.policies[0].limits.held = 960_000  # cooling holds it down: that is told, and not fought
        kernel.policies[0].clock.ask(960_000)
        assert (await actuator.apply(Configuration({"cpu_hz": 1881.6e6})))["cpu_hz"] == 960e6
        kernel.files[f"{COOLING}/cur_state"] = Attribute(lambda: "0")
        with pytest.raises(Temporary, match="somebody lowered the limit of cpu_hz"):
            await actuator.apply(Configuration({"cpu_hz": 1881.6e6}))

    run_on(kernel, tmp_path, main)


@with_fuse
def test_a_profile_of_ones_own_serves_a_board_of_ones_own(tmp_path: Path) -> None:
    shipped = (profiles.FOLDER / "jetson-tx2.toml").read_text()
    path = tmp_path / "mine.toml"
    text = shipped.replace('id = "jetson-tx2"', 'id = "mine"').replace('memory = "bpmp"', 'memory = "limits"')
    path.write_text(text.replace('VDD_IN = "total"', 'VDD_IN = "total"\nVDD_MUX = "carrier"'))
    kernel = FakeJetson(str(path), kernel="6.1")
    before = settings_of(kernel)

    async def main(made, actuator) -> None:
        assert made.name == "mine"
        await check_actuator(actuator)
        assert settings_of(kernel) == before
        await sensors_are_sane(made)

    run_on(kernel, tmp_path / "board", main, board=str(path))


@with_fuse
def test_a_write_that_takes_seconds_blocks_nobody_and_restoring_waits_for_it(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    rate = "/sys/kernel/debug/bpmp/debug/clk/emc/rate"
    file = kernel.files[rate]

    def slow(text: str) -> None:
        assert file.write is not None
        time.sleep(0.8)
        file.write(text)

    async def main(made, actuator) -> None:
        saved = await actuator.save()
        kernel.files[rate] = Attribute(file.read, slow)
        began = anyio.current_time()
        with anyio.move_on_after(0.1) as patience:
            await actuator.apply(Configuration({"mem_hz": 800e6}))
        assert patience.cancelled_caught
        assert anyio.current_time() - began < 0.6
        with pytest.raises(Temporary, match="has not answered"):
            await actuator.apply(Configuration({"mem_hz": 1600e6}))
        assert await actuator.restore(saved) == ()
        assert not kernel.memory.held
        assert kernel.written[-1][0] != rate

    run_on(kernel, tmp_path, main)


@with_fuse
def test_a_gpu_that_sleeps_behind_its_power_gate_is_woken_and_may_sleep_again(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    kernel.gpu.asleep = True

    async def main(made, actuator) -> None:
        await check_actuator(actuator)
        assert kernel.gpu.railgate

    run_on(kernel, tmp_path, main)


@with_fuse
def test_a_knob_that_cannot_be_read_is_turned_anyway_and_the_others_are_told(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    clock = "/sys/class/devfreq/17000000.gp10b/cur_freq"

    async def main(made, actuator) -> None:
        wanted = Configuration({"cpu_hz": 960e6, "gpu_hz": 522.75e6, "mem_hz": 800e6})
        assert await actuator.apply(wanted) == wanted
        kernel.fault(clock, errno.EIO)
        assert await actuator.locate() == Configuration({**wanted, "gpu_hz": "?"})
        with pytest.raises(Temporary, match="cur_freq"):
            await actuator.apply(wanted)
        kernel.heal(clock)
        assert await actuator.apply(wanted) == wanted

    run_on(kernel, tmp_path, main)
