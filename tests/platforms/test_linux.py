"""Linux machines on fakes: lists and made-up lists, counters that wrap. Not covered: what a real driver does."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Configuration
from ceml.errors import Refused, SettingsError, Temporary, Unavailable
from ceml.platforms import cpufreq, heat
from ceml.platforms.linux import linux, look
from ceml.platforms.rapl import spent_uj
from ceml.saved import Saved
from ceml.store.paths import PlatformContext
from ceml.testing.checks import check_actuator, check_sensor
from ceml.testing.directory import Directory
from ceml.testing.fuse import available, mounted
from ceml.testing.host import FakeHost
from ceml.testing.kernel import Attribute

with_fuse = pytest.mark.skipif(available() is not None, reason=f"NO FUSE FACE HERE: {available()}")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heat is read as often as power: nobody need wait for seconds."""
    monkeypatch.setattr(heat, "PERIOD_S", 0.02)


def platform(root: Path, **options):
    return linux(PlatformContext(runtime_dir=root / "run"), root=str(root), sensor_period_s=0.02, **options)


@with_fuse
@pytest.mark.parametrize("driver", ["acpi-cpufreq", "intel_pstate", "amd-pstate-epp"])
def test_every_driver_keeps_its_promises(tmp_path: Path, driver: str) -> None:
    host = FakeHost(driver)
    host.add_rapl()
    before = {path: text for path, text in host.texts() if "scaling_" in path}

    async def main(root: Path) -> None:
        made = platform(root)
        await check_actuator(made.actuators[0], levels_per_knob=6)
        assert {path: text for path, text in host.texts() if "scaling_" in path} == before
        for sensor in made.sensors:
            await check_sensor(sensor)

    with mounted(host, tmp_path) as root:
        anyio.run(main, root)


@with_fuse
def test_limit_and_preference_are_knobs_where_asked_for_and_put_back(tmp_path: Path) -> None:
    host = FakeHost("intel_pstate")
    host.policies[0].governor = host.policies[1].governor = "powersave"
    host.add_rapl()
    host.add_limit()
    host.limited = "0"  # as some firmware leaves it
    host.add_preferences()

    async def main(root: Path) -> None:
        assert [knob.name for knob in platform(root).space.knobs] == ["cpu_hz"]
        made = platform(root, limit=True, preference=True)
        clock, limit, preference = made.space.knobs
        assert (limit.name, limit.levels[0], limit.levels[-1]) == ("cpu_w", 38.0, 125.0)
        assert preference.levels == ("balance_performance", "balance_power", "performance", "power")
        (actuator,) = made.actuators
        saved = await actuator.save()
        wanted = Configuration({"cpu_hz": clock.levels[0], "cpu_w": limit.levels[2], "cpu_epp": "power"})
        assert await actuator.apply(wanted) == wanted
        assert (host.limit_uw, host.limited, host.prefers) == (round(limit.levels[2] * 1e6), "1", ["power"] * 2)
        assert await actuator.glance() == wanted
        assert await actuator.restore(saved) == ()
        assert (host.limit_uw, host.limited, host.prefers) == (125_000_000, "0", ["balance_performance"] * 2)
        await check_actuator(actuator, levels_per_knob=4)

    with mounted(host, tmp_path) as root:
        anyio.run(main, root)


@with_fuse
def test_a_limit_of_somebody_is_never_raised_and_what_is_locked_is_refused(tmp_path: Path) -> None:
    host = FakeHost()
    host.add_rapl()
    host.add_limit()
    host.limit_uw = 60_000_000

    async def main(root: Path) -> None:
        made = platform(root, limit=True)
        assert made.space.knobs[1].levels[-1] == 60.0
        host.files["/sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw"] = Attribute(
            lambda: "60000000", lambda _: None
        )
        effective = await made.actuators[0].apply(Configuration({"cpu_w": made.space.knobs[1].levels[0]}))
        assert effective["cpu_w"] == 60.0  # firmware has locked it: what is read is believed
        assert (await made.actuators[0].allowed(Saved()))["cpu_w"] == made.space.knobs[1].levels
        host.files["/sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw"] = Attribute(lambda: "40000000")
        lowered = await made.actuators[0].allowed(Saved())  # somebody did while we were away
        assert max(lowered["cpu_w"]) <= 40.0

    with mounted(host, tmp_path) as root:
        anyio.run(main, root)


@with_fuse
def test_limits_that_somebody_sets_meanwhile_are_told_apart_from_cooling(tmp_path: Path) -> None:
    host, state = FakeHost("intel_pstate"), {"cools": 0}
    host.add_rapl()
    host.add_limit()
    host.files["/sys/class/thermal/cooling_device0/type"] = Attribute(lambda: "Processor")
    host.files["/sys/class/thermal/cooling_device0/cur_state"] = Attribute(lambda: f"{state['cools']}")

    async def main(root: Path) -> None:
        made = platform(root, limit=True)
        (actuator,), (clock, limit) = made.actuators, made.space.knobs
        saved = await actuator.save()
        await actuator.apply(Configuration({"cpu_hz": clock.levels[8], "cpu_w": limit.levels[4]}))
        assert await actuator.new_limits({"cpu_hz", "cpu_w"}) == ()
        lower_khz = round(clock.levels[5] / 1e3)
        for top in (root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_max_freq"):
            top.write_text(f"{lower_khz}")
        watts = root / "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw"
        watts.write_text(f"{round(limit.levels[2] * 1e6)}")
        state["cools"] = 1
        assert set((await actuator.glance()).items()) >= {("cpu_hz", "?"), ("cpu_w", limit.levels[2])}
        assert await actuator.cools()
        assert (await actuator.uncooled(await actuator.save(), saved)).values == {
            **saved.values, f"{watts}": f"{round(limit.levels[2] * 1e6)}", f"{watts.parent}/enabled": "1",
            **{path: text for path, text in (await actuator.save()).values.items() if "min_freq" in path},
        }  # fmt: skip
        higher = Configuration({"cpu_hz": clock.levels[6]})
        assert (await actuator.apply(higher))["cpu_hz"] == clock.levels[5], "not above what cooling leaves"
        (heat,) = await actuator.new_limits({"cpu_hz", "cpu_w"})
        assert (heat.knob, heat.lowers) == ("cpu_w", True)
        state["cools"] = 0
        new = [heat, *await actuator.new_limits({"cpu_hz", "cpu_w"})]
        assert {each.knob for each in new} == {"cpu_hz", "cpu_w"}
        assert all(each.lowers for each in new)
        assert await actuator.new_limits({"cpu_hz", "cpu_w"}) == (), "each is told once"
        kept = saved.with_values(each.item for each in new)
        assert (await actuator.allowed(saved))["cpu_hz"] == clock.levels
        left = await actuator.allowed(kept)
        assert (left["cpu_hz"], left["cpu_w"]) == (clock.levels[:6], limit.levels[:3])
        watts.write_text(f"{round(limit.levels[-1] * 1e6)}")
        assert [each.lowers for each in await actuator.new_limits({"cpu_w"})] == [False]
        assert await actuator.restore(kept) == ()
        assert watts.read_text().strip() == f"{round(limit.levels[2] * 1e6)}"

    with mounted(host, tmp_path) as root:
        anyio.run(main, root)


@with_fuse
@pytest.mark.parametrize("from_the_start", [True, False])
def test_what_firmware_holds_down_is_nobodys_limit_and_is_put_back_as_it_was(
    tmp_path: Path, from_the_start: bool
) -> None:
    host, bios = FakeHost("intel_pstate"), {"khz": 1_200_000 if from_the_start else 3_200_000}
    for number in range(len(host.policies)):
        host.files[f"/sys/devices/system/cpu/cpufreq/policy{number}/bios_limit"] = Attribute(lambda: f"{bios['khz']}")

    def held(khz: int) -> None:
        bios["khz"] = khz
        for policy in host.policies:
            policy.limits.held = None if khz == 3_200_000 else khz

    held(bios["khz"])

    async def main(root: Path) -> None:
        (actuator,), (clock,) = platform(root).actuators, platform(root).space.knobs
        tops = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_max_freq"))
        assert clock.levels[-1] == 3.2e9
        saved = await actuator.save()
        assert {saved.values[f"{top}"] for top in tops} == {"3200000"}
        if not from_the_start:
            await actuator.apply(Configuration({"cpu_hz": clock.levels[8]}))
            held(1_200_000)
            assert (await actuator.glance())["cpu_hz"] == "?"
            assert await actuator.new_limits({"cpu_hz"}) == ()
        await actuator.apply(Configuration({"cpu_hz": clock.levels[1]}))
        held(3_200_000)
        assert await actuator.new_limits({"cpu_hz"}) == ()
        assert await actuator.restore(saved) == ()
        assert {top.read_text().strip() for top in tops} == {"3200000"}

    with mounted(host, tmp_path) as root:
        anyio.run(main, root)


@with_fuse
@pytest.mark.parametrize("theirs_khz", [None, 2_000_000])
def test_turbo_that_comes_back_while_it_is_ours_is_there_afterwards(tmp_path: Path, theirs_khz: int | None) -> None:
    host, top_khz = FakeHost("intel_pstate"), 2_400_000

    def allow(khz: int) -> None:
        nonlocal top_khz
        top_khz = khz
        for policy in host.policies:
            policy.limits.held = khz

    for number in range(len(host.policies)):
        folder = f"/sys/devices/system/cpu/cpufreq/policy{number}"
        host.files[f"{folder}/cpuinfo_max_freq"] = Attribute(lambda: f"{top_khz}")
    allow(top_khz)

    async def main(root: Path) -> None:
        tops = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_max_freq"))
        for top in tops if theirs_khz else ():
            top.write_text(f"{theirs_khz}")
        (actuator,), (clock,) = platform(root).actuators, platform(root).space.knobs
        assert clock.levels[-1] == (theirs_khz or 2_400_000) * 1e3
        saved = await actuator.save()
        await actuator.allowed(saved)
        await actuator.apply(Configuration({"cpu_hz": clock.levels[3]}))
        allow(3_200_000)
        new = await actuator.new_limits({"cpu_hz"})
        assert [(each.item.value, each.lowers) for each in new] == ([] if theirs_khz else [("3200000", False)] * 2)
        assert await actuator.new_limits({"cpu_hz"}) == (), "each is told once"
        assert await actuator.restore(saved.with_values(each.item for each in new)) == ()
        assert {top.read_text().strip() for top in tops} == {f"{theirs_khz or 3_200_000}"}

    with mounted(host, tmp_path) as root:
        anyio.run(main, root)


@with_fuse
def test_who_starts_while_the_kernel_cools_knows_every_level(tmp_path: Path) -> None:
    host = FakeHost("intel_pstate")
    for policy in host.policies:
        policy.limits.held = 1_200_000
    host.constant("/sys/class/thermal/cooling_device0/type", "Processor")
    host.constant("/sys/class/thermal/cooling_device0/cur_state", "2")
    with mounted(host, tmp_path) as root:
        made = platform(root)
        assert made.space.knobs[0].levels[-1] == 3.2e9
        assert anyio.run(made.actuators[0].cools)


@with_fuse
def test_cooling_of_what_has_no_knob_here_is_no_reason_to_wait(tmp_path: Path) -> None:
    host = FakeHost("intel_pstate")
    host.constant("/sys/class/thermal/cooling_device0/type", "gpu-cool")
    host.constant("/sys/class/thermal/cooling_device0/cur_state", "2")
    with mounted(host, tmp_path) as root:
        assert not anyio.run(platform(root).actuators[0].cools)


@with_fuse
def test_processors_that_were_offline_when_values_were_read_are_left_alone_until_they_are_read(tmp_path: Path) -> None:
    host = FakeHost("intel_pstate")

    async def main(root: Path) -> None:
        (actuator,), (clock,) = platform(root).actuators, platform(root).space.knobs
        top = root / "sys/devices/system/cpu/cpufreq/policy1/scaling_max_freq"
        before, online = top.read_text(), host.policies[1].online
        host.policies[1].online = []
        saved = await actuator.save()
        await actuator.allowed(saved)
        host.policies[1].online = online
        wanted = Configuration({"cpu_hz": clock.levels[1]})
        assert await actuator.apply(wanted) == wanted
        assert await actuator.glance() == wanted
        assert top.read_text() == before
        assert await actuator.restore(saved) == ()
        await actuator.allowed(await actuator.save())
        await actuator.apply(wanted)
        assert top.read_text() != before

    with mounted(host, tmp_path) as root:
        anyio.run(main, root)


@pytest.mark.parametrize("option", ["limit", "preference"])
def test_what_this_machine_does_not_have_cannot_be_asked_for(tmp_path: Path, option: str) -> None:
    host = FakeHost()
    host.add_rapl()
    with Directory(host, tmp_path) as root, pytest.raises(Unavailable, match=f"{option}: no "):
        platform(root, **{option: True})


@with_fuse
def test_under_the_governor_performance_no_preference_can_be_turned(tmp_path: Path) -> None:
    host = FakeHost("amd-pstate-epp")
    host.add_preferences("performance")
    for policy in host.policies:
        policy.governor = "performance"

    async def main(root: Path) -> None:
        (actuator,) = platform(root, preference=True).actuators
        for policy in host.policies:  # somebody sets it later: then the kernel's own word is told
            policy.governor = "performance"
        with pytest.raises((Temporary, Refused), match="energy_performance_preference does not take power"):
            await actuator.apply(Configuration({"cpu_epp": "power"}))

    with mounted(host, tmp_path) as root:
        with pytest.raises(Unavailable, match="choose powersave first"):
            platform(root, preference=True)
        for policy in host.policies:
            policy.governor = "powersave"
        anyio.run(main, root)


@with_fuse
def test_fast_and_slow_processors_turn_apart_and_favoured_ones_together(tmp_path: Path) -> None:
    host = FakeHost("intel_pstate", tops_khz=(5_200_000, 5_000_000, 3_800_000))

    async def main(root: Path) -> None:
        made = platform(root)
        assert [knob.name for knob in made.space.knobs] == ["cpu0_hz", "cpu2_hz"]
        assert [knob.levels[-1] for knob in made.space.knobs] == [5.2e9, 3.8e9]
        (actuator,) = made.actuators
        for level in made.space.knobs[0].levels:
            effective = await actuator.apply(Configuration({"cpu0_hz": level}))
            assert effective["cpu0_hz"] == level  # the one that only reaches 5.0 GHz holds nobody up

    with mounted(host, tmp_path) as root:
        anyio.run(main, root)


@pytest.mark.parametrize(
    ("zones", "total", "labels"),
    [
        (("package-0", "core", "dram"), ("cpu", "mem"), ("power of the processor packages only",)),
        (("package-0", "core"), ("cpu",), ("power of the processor packages only",)),
        (("package-0", "dram", "psys"), ("total",), ()),
        ((), (), ()),
    ],
)
def test_counters_inside_of_others_are_not_added(tmp_path: Path, zones, total, labels) -> None:
    host = FakeHost()
    host.add_rapl(zones)
    host.watts["psys"] = 50.0
    with Directory(host, tmp_path) as root:
        made = platform(root)
    assert (made.total_rails, made.labels) == (total, labels)


@with_fuse
def test_power_is_right_while_the_counters_wrap(tmp_path: Path) -> None:
    host = FakeHost()
    host.add_rapl(range_uj=3_000_000)  # at 30 W every tenth of a second

    async def main(root: Path) -> None:
        (sensor,) = [sensor for sensor in platform(root).sensors if sensor.name == "energy counters"]
        samples = (await check_sensor(sensor))[1:]
        span_s = sum(sample.covers_s for sample in samples)
        for rail, watts in (("cpu", 30.0), ("mem", 4.0)):
            joules = sum(sample.rails_w[rail] * sample.covers_s for sample in samples)
            assert joules / span_s == pytest.approx(watts, rel=0.25)  # our clock is not read at the counter's moment

    with mounted(host, tmp_path) as root:
        anyio.run(main, root)


@given(before=st.integers(0, 10**12), spent=st.integers(0, 10**12 - 1))
def test_a_counter_that_wraps_once_tells_what_was_spent(before: int, spent: int) -> None:
    range_uj = 10**12
    assert spent_uj(before % range_uj, (before + spent) % range_uj, range_uj) == spent


@given(low=st.integers(1, 40), high=st.integers(1, 60), odd=st.integers(0, 99_999_999))
def test_a_made_up_list_ascends_between_its_ends_and_is_short(low: int, high: int, odd: int) -> None:
    low_hz, high_hz = low * 1e8, (low + high) * 1e8 + odd
    grid = cpufreq.grid_hz(low_hz, high_hz)
    assert (grid[0], grid[-1]) == (low_hz, high_hz)
    assert len(grid) <= cpufreq.MOST_LEVELS + 1
    assert list(grid) == sorted(set(grid))


def test_a_machine_without_clocks_is_told_what_else_there_is(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="--platform bandwidth"):
        platform(tmp_path)
    assert "power is not measured" in " ".join(look(str(tmp_path)).problems)
    with Directory(FakeHost(), tmp_path) as root, pytest.raises(SettingsError, match="there are: none"):
        platform(root, meter="wall")
