"""The fakes do what was seen on a real kernel 6.1, and refuse what 4.9 refuses. Not covered: what nobody looked at."""

from __future__ import annotations

import errno

import pytest

from ceml.testing.clocks import Clock
from ceml.testing.cpufreq import Cpufreq
from ceml.testing.devfreq import Devfreq, Memory
from ceml.testing.kernel import FakeKernel

CPU = (345_600, 499_200, 652_800, 806_400, 960_000, 1_113_600, 1_267_200, 2_035_200)
GPU = (522_750_000, 624_750_000, 726_750_000, 854_250_000)
P, G = "/sys/devices/system/cpu/cpufreq/policy0", "/sys/class/devfreq/1.gp10b"


def cpufreq(version: str = "6.1", **clock) -> tuple[FakeKernel, Cpufreq]:
    kernel, policy = FakeKernel(), Cpufreq(version=version, cpus=[0, 3], clock=Clock(table=CPU, **clock))
    policy.install(kernel)
    return kernel, policy


def devfreq(version: str = "6.1") -> tuple[FakeKernel, Devfreq]:
    kernel, device = FakeKernel(), Devfreq(version=version, name="1.gp10b", clock=Clock(table=GPU))
    device.install(kernel)
    return kernel, device


def text(kernel: FakeKernel, path: str) -> str:
    return kernel.read(path).decode().strip()


def error(kernel: FakeKernel, path: str, value: str) -> int | None:
    try:
        kernel.write(path, f"{value}\n".encode())
    except OSError as refused:
        return refused.errno
    return None


@pytest.mark.parametrize(
    ("asked", "got"),
    [("1113600", 1113600), ("500000", 652800), ("1", 345600), ("99999999", 2035200), ("1113600 kHz", 1113600)],
)
def test_a_speed_between_levels_is_rounded_up(asked: str, got: int) -> None:
    kernel, policy = cpufreq()
    assert error(kernel, f"{P}/scaling_setspeed", asked) == errno.EINVAL
    assert text(kernel, f"{P}/scaling_setspeed") == "<unsupported>"
    assert error(kernel, f"{P}/scaling_governor", "USERSPACE") is None
    assert error(kernel, f"{P}/scaling_setspeed", asked) is None
    assert (policy.clock.value, text(kernel, f"{P}/scaling_setspeed")) == (got, str(got))


@pytest.mark.parametrize("value", ["-1", "abc", "", "+960000"])
def test_what_is_no_number_is_refused(value: str) -> None:
    kernel, _ = cpufreq()
    for name in ("scaling_min_freq", "scaling_max_freq"):
        assert error(kernel, f"{P}/{name}", value) == errno.EINVAL
    assert error(kernel, f"{P}/scaling_governor", "nosuch") == errno.EINVAL
    assert error(kernel, f"{P}/scaling_cur_freq", "1") == errno.EACCES


def test_in_6_1_the_maximum_wins_and_the_clipped_wish_returns() -> None:
    kernel, _ = cpufreq()
    for name, value in (("max", 960_000), ("min", 1_267_200)):
        assert error(kernel, f"{P}/scaling_{name}_freq", str(value)) is None
    assert text(kernel, f"{P}/scaling_min_freq") == "960000"
    assert error(kernel, f"{P}/scaling_max_freq", "2035200") is None
    assert text(kernel, f"{P}/scaling_min_freq") == "1267200"


def test_limits_off_the_table_are_rounded_and_a_lowered_maximum_gives_the_speed_back() -> None:
    kernel, policy = cpufreq()
    error(kernel, f"{P}/scaling_governor", "userspace")
    error(kernel, f"{P}/scaling_setspeed", "1267200")
    assert error(kernel, f"{P}/scaling_max_freq", "1000000") is None
    assert (text(kernel, f"{P}/scaling_max_freq"), policy.clock.value) == ("960000", 960_000)
    error(kernel, f"{P}/scaling_max_freq", "2035200")
    assert policy.clock.value == 1_267_200
    error(kernel, f"{P}/scaling_min_freq", "1000000")
    assert text(kernel, f"{P}/scaling_min_freq") == "1113600"


def test_in_4_9_a_minimum_above_the_maximum_is_refused_in_both() -> None:
    for kernel, low, high, value in (
        (cpufreq("4.9")[0], f"{P}/scaling_min_freq", f"{P}/scaling_max_freq", (960_000, 1_113_600)),
        (devfreq("4.9")[0], f"{G}/min_freq", f"{G}/max_freq", (624_750_000, 726_750_000)),
    ):
        assert error(kernel, high, str(value[0])) is None
        assert error(kernel, low, str(value[1])) == errno.EINVAL
        assert error(kernel, low, str(value[0])) is None
        assert error(kernel, high, str(value[1])) is None
        assert error(kernel, low, str(value[1])) is None
        assert error(kernel, high, str(value[0])) == errno.EINVAL


def test_without_a_processor_online_every_file_is_busy() -> None:
    kernel, policy = cpufreq()
    policy.online.clear()
    assert error(kernel, f"{P}/scaling_governor", "userspace") == errno.EBUSY
    assert all(found is None for path, found in kernel.texts() if path.startswith(P))


def test_a_silent_cap_a_stuck_clock_and_a_late_one_show_in_the_clock_alone() -> None:
    kernel, policy = cpufreq(delay_s=1000.0)
    error(kernel, f"{P}/scaling_governor", "userspace")
    error(kernel, f"{P}/scaling_setspeed", "960000")
    assert (text(kernel, f"{P}/scaling_cur_freq"), text(kernel, f"{P}/cpuinfo_cur_freq")) == ("960000", "2035200")
    policy.clock.delay_s, policy.clock.cap = 0.0, 700_000
    assert text(kernel, f"{P}/cpuinfo_cur_freq") == "652800"
    policy.clock.cap, policy.clock.stuck = None, True
    error(kernel, f"{P}/scaling_setspeed", "345600")
    assert text(kernel, f"{P}/cpuinfo_cur_freq") == "2035200"


def test_a_devfreq_limit_between_two_levels_lands_above_the_maximum() -> None:
    kernel, device = devfreq()
    error(kernel, f"{G}/min_freq", "740000000")
    error(kernel, f"{G}/max_freq", "760000000")
    assert device.clock.value == 854_250_000
    assert error(kernel, f"{G}/governor", "USERSPACE") == errno.EINVAL  # case counts here
    error(kernel, f"{G}/max_freq", "0")
    assert text(kernel, f"{G}/max_freq") == "854250000"


def test_a_gated_gpu_answers_eagain_until_its_gate_is_closed() -> None:
    kernel, device = devfreq()
    device.asleep = True
    with pytest.raises(OSError, match="no power") as asleep:
        kernel.read(f"{G}/cur_freq")
    assert asleep.value.errno == errno.EAGAIN
    error(kernel, f"{G}/device/railgate_enable", "0")
    assert text(kernel, f"{G}/cur_freq") == "854250000"


def test_the_memory_clock_rounds_up_clamps_and_is_let_go() -> None:
    kernel, memory = FakeKernel(), Memory(clock=Clock(table=(204, 665, 1331, 1866)))
    memory.install_bpmp(kernel, rows=True)
    folder = "/sys/kernel/debug/bpmp/debug/clk/emc"
    error(kernel, f"{folder}/mrq_rate_locked", "1")
    error(kernel, f"{folder}/rate", "700")
    assert memory.clock.value == 1331
    memory.clock.cap = 1000
    assert text(kernel, f"{folder}/rate") == "665"
    memory.clock.cap = None
    error(kernel, f"{folder}/mrq_rate_locked", "0")
    assert memory.clock.value == 1866
    error(kernel, "/sys/kernel/nvpmodel_emc_cap/emc_iso_cap", "1331")
    assert memory.clock.value == 1331
