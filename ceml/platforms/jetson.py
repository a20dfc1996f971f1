"""NVIDIA Jetson boards: knobs of CPU, GPU and memory, power by rail, load and temperature.

What is looked for comes from the board's profile (`boards/*.toml`), what is found from the kernel. A part that is not
there or not allowed is left out, and why is kept for `ceml doctor`; without any knob there is no platform.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from ceml.control.ports import Platform, Sensor
from ceml.domain.knobs import Knob, KnobSpace
from ceml.errors import CemlError, SettingsError, Unavailable
from ceml.platforms import cpufreq, devfreq, emc, heat, hwmon, procstat, profiles, rivals, sysfs
from ceml.platforms.levers import LeverActuator, allowed, say_missing
from ceml.store.paths import PlatformContext  # noqa: TC001 - pydantic reads the annotation when the plugin is made

if TYPE_CHECKING:
    from ceml.platforms.levers import Lever
    from ceml.platforms.profiles import Profile

COMPATIBLE, MODEL = "/proc/device-tree/compatible", "/proc/device-tree/model"
RANGES = {  # least share of the highest level, CPU, GPU and memory
    "paper": {"cpu_hz": 0.39, "gpu_hz": 0.32, "mem_hz": 0.35},  # C2's lowest levels on a TX2
    "full": {},
}
SETTLE_S = {"cpu": 0.001, "gpu": 0.005, "mem": 0.008}  # measured on an Orin Nano (arXiv 2606.16106), no other board


@dataclass(kw_only=True)
class Found:
    """A board and what of it can be used.

    Attributes:
        profile: The board.
        guessed: Whether only its chip is known.
        model: What the device tree calls it.
        levers: Its knobs.
        rails: Label -> rail, of those that are there.
        total: Rails whose sum is the power of the whole board; empty where one of them is missing.
        shares: Device -> how its load is read.
        zones: Thermal zones.
        problems: What is missing and how to mend it, a sentence each.
    """

    profile: Profile
    guessed: bool
    model: str
    levers: list[Lever] = field(default_factory=list["Lever"])
    rails: dict[str, str] = field(default_factory=dict[str, str])
    total: tuple[str, ...] = ()
    shares: dict[str, procstat.GpuLoad | procstat.MemoryLoad] = field(
        default_factory=dict[str, "procstat.GpuLoad | procstat.MemoryLoad"]
    )
    zones: dict[str, str] = field(default_factory=dict[str, str])
    problems: list[str] = field(default_factory=list[str])


def jetson(
    context: PlatformContext,
    *,
    board: str | None = None,
    range: Literal["paper", "full"] = "paper",
    root: str = "/",
    sensor_period_s: float = 0.1,
) -> Platform:
    """An NVIDIA Jetson, from the TX1 to the Orin and Thor; needs root.

    Args:
        context: What is known of the process.
        board: Id of a board, or path of a profile of your own (.toml); unset, it is detected.
        range: `paper` = frequencies of about a third of the highest and up, `full` = all that the kernel lists.
        root: Where /sys and /proc are; another directory for tests.
        sensor_period_s: Seconds between two readings of power.

    Raises:
        Unavailable: This is no Jetson, or nothing on it can be turned; the text says what is missing.
        SettingsError: An option or a profile is no good.
    """
    if context.in_process:
        raise SettingsError("platform jetson is a real machine: use ceml serve, not ceml replay")
    if not 0.01 <= sensor_period_s <= 60:
        raise SettingsError(f"sensor_period_s={sensor_period_s}: must be from 0.01 to 60 seconds")
    found = look(root, board, RANGES[range])
    found.levers, denied = allowed(found.levers)
    found.problems += denied
    if not found.levers:
        raise Unavailable("\n".join([f"no knob of this {found.profile.names[0]} can be turned:", *found.problems]))
    say_missing(found.problems)
    rivals.warn(root)
    labels = ["board guessed from its chip"] if found.guessed else []
    if found.total and found.profile.id == "jetson-agx-orin":
        labels.append("total power without the memory's rail")
    return Platform(
        name=found.profile.id,
        space=KnobSpace([lever.knob for lever in found.levers]),
        sensors=sensors(found, root, sensor_period_s),
        actuators=(LeverActuator(found.profile.id, found.levers, heat.cools(root)),),
        total_rails=found.total,
        rails=tuple(dict.fromkeys(found.rails.values())),
        zones=tuple(found.zones),
        labels=tuple(labels),
        claims=(sysfs.under(root, "/sys"),),
        board={"board": found.profile.id, "device_tree": found.model, "range": range},
    )


# Looking: nothing is written ------------------------------------------------------------------------------------------


def detect(root: str, board: str | None) -> tuple[Profile, bool, str]:
    """The board's profile, whether it is a guess, and what the device tree calls it.

    Raises:
        Unavailable: This is no Jetson that anybody knows.
        SettingsError: The profile that was asked for is no good.
    """
    compatible, model = _tree(sysfs.under(root, COMPATIBLE)), " ".join(_tree(sysfs.under(root, MODEL)))
    if board is not None:
        return profiles.named(board), False, model
    matched = profiles.matching(compatible, model)
    if matched is not None:
        return matched[0], not matched[1], model
    said = (
        f"its device tree says {', '.join(compatible)}"
        if compatible
        else f"there is no {sysfs.under(root, COMPATIBLE)}"
    )
    raise Unavailable(
        f"this is no Jetson board that CEML knows ({said}); name one with --board ID ({', '.join(profiles.shipped())}) "
        "or give a profile of your own: --board path/to/board.toml"
    )


def _tree(path: str) -> tuple[str, ...]:
    """The texts in a property of the device tree, which end in NUL."""
    try:
        return tuple(part for part in sysfs.text(path).split("\0") if part)
    except CemlError:
        return ()


def look(root: str, board: str | None, shares: dict[str, float]) -> Found:
    """Find everything that the profile names; reads only.

    Args:
        root: Where /sys and /proc are.
        board: Id or path of a profile; None: detect.
        shares: Knob -> least share of its highest level.

    Raises:
        Unavailable: No Jetson.
        SettingsError: The profile is no good.
    """
    profile, guessed, model = detect(root, board)
    found = Found(profile=profile, guessed=guessed, model=model)
    chips = _tree(sysfs.under(root, COMPATIBLE))
    if chips and profile.soc not in chips:
        found.problems.append(
            f"the device tree says {', '.join(chips)}, and the profile {profile.id} is for {profile.soc}: rails and "
            "memory rates may be another board's; leave --board out to have the board detected"
        )
    for search in (_cpu, _gpu, _memory):
        try:
            search(found, root, shares)
        except CemlError as error:
            found.problems.append(str(error))
    _rails(found, root)
    found.zones = heat.thermal_zones(root)
    return found


def _knob(name: str, levels_hz: tuple[float, ...], shares: dict[str, float]) -> Knob:
    least = shares.get(name, 0.0) * levels_hz[-1]
    return Knob(
        name=name, levels=tuple(hz for hz in levels_hz if hz >= least), settle_s=SETTLE_S[name.rstrip("0123456789_hz")]
    )


def _cpu(found: Found, root: str, shares: dict[str, float]) -> None:
    policies, silent = cpufreq.policies(root, cooled=heat.cools(root)("cpu"))
    found.problems += silent
    groups: dict[tuple[float, ...], list[cpufreq.Policy]] = {}
    for policy in policies:
        if policy.levels_hz:
            groups.setdefault(policy.levels_hz, []).append(policy)
    if not groups:
        raise Unavailable(
            f"no CPU clock: {sysfs.under(root, '/sys/devices/system/cpu/cpufreq')} has no policy with "
            "scaling_available_frequencies; load the board's cpufreq driver"
        )
    for levels_hz, members in groups.items():
        name = "cpu_hz" if len(groups) == 1 else f"cpu{min(members[0].cpus, default=0)}_hz"
        found.levers.append(cpufreq.CpuLever(_knob(name, levels_hz, shares), members))


def _gpu(found: Found, root: str, shares: dict[str, float]) -> None:
    device = devfreq.device(root, found.profile.gpu.nodes, cooled=heat.cools(root)("gpu"))
    if device is None or not device.levels_hz:
        raise Unavailable(
            f"no GPU clock: nothing in {sysfs.under(root, '/sys/class/devfreq')} is called "
            f"{' or '.join(found.profile.gpu.nodes)}; use the GPU once (some boards show it only then) and start again"
        )
    found.levers.append(devfreq.DevfreqLever(_knob("gpu_hz", device.levels_hz, shares), device))
    for load in found.profile.gpu.load:
        path = sysfs.under(root, load) if load.startswith("/") else device.file(load)
        if sysfs.exists(path):
            found.shares["gpu"] = procstat.GpuLoad(path)
            break


def _memory(found: Found, root: str, shares: dict[str, float]) -> None:
    profile = found.profile.memory
    device = devfreq.device(root, profile.devfreq, cooled=heat.cools(root)("mem")) if profile.devfreq else None
    if device is not None and device.levels_hz:
        found.levers.append(devfreq.DevfreqLever(_knob("mem_hz", device.levels_hz, shares), device))
        return
    rates_hz = emc.rates_hz(root, profile.candidates_hz)
    lever = emc.lever(root, _knob("mem_hz", rates_hz, shares)) if rates_hz else None
    if lever is None:
        raise Unavailable(
            f"no memory clock: neither {emc.BPMP} nor {emc.OVERRIDE} nor {emc.MAINLINE} is there for this user; "
            f"{'' if os.geteuid() == 0 else 'run ceml as root (sudo ceml serve), and '}mount debugfs: "
            "sudo mount -t debugfs none /sys/kernel/debug"
        )
    found.levers.append(lever)
    for activity in profile.activity:
        path = sysfs.under(root, activity)
        if sysfs.exists(path):
            found.shares["mem"] = procstat.MemoryLoad(path, partial(emc.read_rate_hz, root))
            break


def _rails(found: Found, root: str) -> None:
    there = {channel.label for channel in hwmon.channels(root)}
    found.rails = {label: rail for label, rail in found.profile.rails.items() if label in there}
    missing = [
        label for label, rail in found.profile.rails.items() if rail in found.profile.total and label not in there
    ]
    absent = [f"{label} ({rail})" for label, rail in found.profile.rails.items() if label not in {*there, *missing}]
    if absent and there:
        found.problems.append(
            f"no rail {', '.join(absent)} among {', '.join(sorted(there))}: what it feeds is not measured by itself, "
            "nor can it have a budget; where it is called otherwise, give a profile of your own (--board FILE.toml)"
        )
    if missing:
        found.problems.append(
            f"power is not measured: no rail {', '.join(missing)} among {', '.join(sorted(there)) or 'none'}; "
            "load the driver of the INA3221, or give a profile of your own with this board's labels (--board FILE.toml)"
        )
    else:
        found.total = found.profile.total


def sensors(found: Found, root: str, period_s: float) -> tuple[Sensor, ...]:
    """Sensors for what was found."""
    made: list[Sensor] = [procstat.CpuLoad(root, period_s=period_s)]
    if found.rails:
        find = partial(hwmon.channels, root)
        made.append(hwmon.PowerSensor("power rails", found.rails, find, needed=found.total, period_s=period_s))
    if found.shares:
        made.append(procstat.LoadSensor(found.shares, period_s=period_s))
    return (*made, *heat.sensors(root, found.zones, period_s))
