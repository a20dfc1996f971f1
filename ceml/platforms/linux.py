"""Any Linux machine with cpufreq: CPU clocks as knobs, power from RAPL counters or a power meter in hwmon."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ceml.control.ports import Platform, Sensor
from ceml.domain.knobs import Knob, KnobSpace
from ceml.errors import SettingsError, Unavailable
from ceml.platforms import cpufreq, heat, hwmon, procstat, rapl, rivals, sysfs
from ceml.platforms.levers import LeverActuator, allowed, say_missing
from ceml.store.paths import PlatformContext  # noqa: TC001 - pydantic reads the annotation when the plugin is made

if TYPE_CHECKING:
    from ceml.platforms.levers import Lever

SETTLE_S = 0.001
PACKAGES_ONLY = "power of the processor packages only"


@dataclass(kw_only=True)
class Found:
    """What of this machine can be used.

    Attributes:
        levers: Its knobs.
        counters: Energy counters.
        meters: Labels of power meters in hwmon.
        zones: Thermal zones.
        problems: What is missing and how to mend it, a sentence each.
    """

    levers: list[Lever] = field(default_factory=list["Lever"])
    counters: list[rapl.Counter] = field(default_factory=list["rapl.Counter"])
    meters: list[str] = field(default_factory=list[str])
    zones: dict[str, str] = field(default_factory=dict[str, str])
    problems: list[str] = field(default_factory=list[str])


def linux(
    context: PlatformContext,
    *,
    root: str = "/",
    meter: str | None = None,
    limit: bool = False,
    preference: bool = False,
    sensor_period_s: float = 0.1,
) -> Platform:
    """A Linux machine by cpufreq and RAPL; needs root.

    Args:
        context: What is known of the process.
        root: Where /sys and /proc are; another directory for tests.
        meter: Label of a power meter in hwmon that measures the whole machine; unset, RAPL counters are used.
        limit: The power limit of the processor packages (RAPL) is a knob, too.
        preference: So is what they are told to prefer, speed or energy (EPP of intel_pstate and amd-pstate).
        sensor_period_s: Seconds between two readings of power.

    Raises:
        Unavailable: No clock can be turned here; the text says why and what else there is.
        SettingsError: An option is no good.
    """
    if context.in_process:
        raise SettingsError("platform linux is a real machine: use ceml serve, not ceml replay")
    if not 0.01 <= sensor_period_s <= 60:
        raise SettingsError(f"sensor_period_s={sensor_period_s}: must be from 0.01 to 60 seconds")
    found = look(root)
    if limit:
        found.levers.append(rapl.LimitLever(root))
    if preference:
        found.levers.append(cpufreq.PreferenceLever(cpufreq.policies(root)[0]))
    levers, denied = allowed(found.levers)
    if not levers:
        raise Unavailable("\n".join([*found.problems, *denied]))
    say_missing(denied)
    if meter is not None and meter not in found.meters:
        raise SettingsError(f"meter={meter!r} is no power meter here; there are: {', '.join(found.meters) or 'none'}")
    sensors: list[Sensor] = [procstat.CpuLoad(root, period_s=sensor_period_s)]
    if meter is not None:
        channels = partial(hwmon.channels, root)
        sensors.append(hwmon.PowerSensor("power meter", {meter: "total"}, channels, period_s=sensor_period_s))
    elif found.counters:
        sensors.append(rapl.RaplSensor(found.counters, period_s=sensor_period_s))
    sensors += heat.sensors(root, found.zones, sensor_period_s)
    rivals.warn(root)
    total, labels = _total(found, meter)
    return Platform(
        name="linux",
        space=KnobSpace([lever.knob for lever in levers]),
        sensors=sensors,
        actuators=(LeverActuator("linux", levers, heat.cools(root)),),
        total_rails=total,
        rails=total,
        zones=tuple(found.zones),
        labels=labels,
        claims=(sysfs.under(root, "/sys"),),
        board={"driver": ", ".join(sorted({policy.driver for policy in cpufreq.policies(root)[0]}))},
    )


def _total(found: Found, meter: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Rails that add up without counting anything twice, and what must be said of them."""
    rails = {counter.rail for counter in found.counters}
    if meter is not None or "total" in rails:
        return ("total",), ()
    return tuple(rail for rail in ("cpu", "mem") if rail in rails), (PACKAGES_ONLY,) if rails else ()


def look(root: str) -> Found:
    """Find clocks, counters and meters; reads only."""
    found = Found()
    policies, silent = cpufreq.policies(root, cooled=heat.cools(root)("cpu"))
    found.problems += silent
    for members in _groups(policies):
        lead = members[0]
        levels_hz = lead.levels_hz or cpufreq.grid_hz(
            min(policy.limits_hz[0] for policy in members), max(policy.limits_hz[1] for policy in members)
        )
        alone = len(_groups(policies)) == 1
        name = "cpu_hz" if alone else f"cpu{min(cpu for policy in members for cpu in policy.cpus)}_hz"
        found.levers.append(cpufreq.CpuLever(Knob(name=name, levels=levels_hz, settle_s=SETTLE_S), members))
    if not policies:
        found.problems.append(
            f"no CPU clock can be set: {sysfs.under(root, '/sys/devices/system/cpu/cpufreq')} has no policy (a virtual "
            "machine or a container has none); there ceml run --platform bandwidth -- PROGRAM turns the processors "
            "and the share of their time that a program gets"
        )
    found.counters, problems = rapl.counters(root)
    found.problems += problems
    found.meters = [channel.label for channel in hwmon.channels(root)]
    if not found.counters and not found.meters:
        found.problems.append(
            f"power is not measured: no energy counter in /sys/class/powercap{_or_root()}, and no power meter in "
            "/sys/class/hwmon; load the driver of the counters: sudo modprobe intel_rapl_msr"
        )
    found.zones = heat.thermal_zones(root)
    return found


def _or_root() -> str:
    return "" if os.geteuid() == 0 else f" that this user may read: {sysfs.become_root()}"


def _groups(policies: list[cpufreq.Policy]) -> list[list[cpufreq.Policy]]:
    """Policies that turn together: those with the same list, or with nearly the same highest clock."""
    listed: dict[tuple[float, ...], list[cpufreq.Policy]] = {}
    for policy in policies:
        if policy.levels_hz:
            listed.setdefault(policy.levels_hz, []).append(policy)
    return [*listed.values(), *cpufreq.alike([policy for policy in policies if not policy.levels_hz])]
