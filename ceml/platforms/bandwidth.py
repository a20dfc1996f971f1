"""Machines without clocks to turn (virtual machines, containers): how much of the processors a program gets.

Knobs are the number of processors the program may use (affinity) and, where it has a cgroup of its own, its share of
processor time. Nothing here measures power: it is ESTIMATED from how busy the processors are, and said so everywhere.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import anyio

from ceml.control.ports import Platform
from ceml.domain.knobs import Knob, KnobKind, KnobSpace
from ceml.domain.values import Sample
from ceml.errors import CemlError, SettingsError, Temporary, Unavailable
from ceml.platforms import affinity, cgroup, sysfs
from ceml.platforms.levers import LeverActuator
from ceml.platforms.procstat import CpuLoad, ProgramLoad
from ceml.store.paths import PlatformContext  # noqa: TC001 - pydantic reads the annotation when the plugin is made

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ceml.domain.knobs import Level
    from ceml.platforms.levers import Lever
    from ceml.saved import Item

SHARES = (0.25, 0.5, 0.75, 1.0)
RAIL = "estimated"
LABELS = ("power estimated from processor load",)
PROGRAM_LABELS = ("power estimated from the processor time of the program",)
SETTLE_S = 0.1  # a quota counts from its next period of 0.1 s on
LEAST_QUOTA_US = 1000  # kernel: sched-bwc


def bandwidth(
    context: PlatformContext,
    *,
    pid: int,
    idle_w: float = 10.0,
    core_w: float = 5.0,
    estimate: Literal["machine", "program"] = "machine",
    sensor_period_s: float = 0.1,
) -> Platform:
    """Any machine: processors and processor time of one program; power is estimated.

    Args:
        context: What is known of the process.
        pid: The program to turn; its children come along. `ceml run` fills it in.
        idle_w: Assumed power of the idle machine.
        core_w: Assumed power that one busy processor adds.
        estimate: Whose processor time counts: all of the machine's, or the program's alone, as where others share it.
        sensor_period_s: Seconds between two estimates.

    Raises:
        Unavailable: There is no such program, or only one processor and no cgroup.
        SettingsError: An option is no good.
    """
    if context.in_process:
        raise SettingsError("platform bandwidth is a real machine: use ceml serve, not ceml replay")
    for name, watts in (("idle_w", idle_w), ("core_w", core_w)):
        if not 0 < watts < 10_000:
            raise SettingsError(f"{name}={watts:g}: must be a power above 0 W")
    if not 0.02 <= sensor_period_s <= 60:
        raise SettingsError(f"sensor_period_s={sensor_period_s}: must be from 0.02 to 60 seconds")
    levers = look(pid)
    cores = os.cpu_count() or 1
    knobs = [lever.knob for lever in levers]
    whole = estimate == "machine"
    load = CpuLoad("/", period_s=sensor_period_s) if whole else ProgramLoad(pid, cores, period_s=sensor_period_s)
    return Platform(
        name="bandwidth",
        space=KnobSpace(knobs, _sensible(knobs)),
        sensors=(EstimatedPower(load, cores, pid, idle_w=idle_w, core_w=core_w),),
        actuators=(LeverActuator("bandwidth", levers),),
        total_rails=(RAIL,),
        rails=(RAIL,),
        labels=LABELS if whole else PROGRAM_LABELS,
        claims=(f"/proc/{pid}",),
        board={
            "pid": str(pid),
            "idle_w": f"{idle_w:g}",
            "core_w": f"{core_w:g}",
            "power": f"estimated from the load of the {estimate}",
        },
    )


def look(pid: int) -> list[Lever]:
    """The knobs that there are for a program; nothing is changed.

    Raises:
        Unavailable: There is no such program, it is none that may be turned, or nothing about it can be turned.
    """
    try:
        cpus = sorted(os.sched_getaffinity(pid))
    except (OSError, OverflowError):
        raise Unavailable(f"pid={pid}: no such process; start the program first and give its number") from None
    if (reason := _reason_against(pid)) is not None:
        raise Unavailable(f"pid={pid} {reason}")
    levers: list[Lever] = []
    if len(cpus) > 1:
        levels = tuple(float(count) for count in range(1, len(cpus) + 1))
        knob = Knob(name="cpu_cores", levels=levels, kind=KnobKind.COUNT, settle_s=0.01)
        levers.append(affinity.AffinityLever(knob, pid, cpus))
    quota = find_quota(pid)
    if isinstance(quota, Quota):
        knob = Knob(name="cpu_share", levels=SHARES, kind=KnobKind.COUNT, settle_s=SETTLE_S)
        levers.append(QuotaLever(knob, quota, len(cpus)))
    if not levers:
        raise Unavailable(f"process {pid} may use one processor only, and {quota}")
    return levers


def _reason_against(pid: int) -> str | None:
    """Why a living process is none that ceml turns, with the remedy; None: it may be turned.

    A program is turned with all that it started, so who started ceml must not be: ceml would slow itself down.
    """
    yours = "give the number of the program that is to be tuned"
    if pid == os.getpid() or pid <= 0:
        return f"is ceml itself; {yours}"
    if pid == 1:
        return (
            f"is init, the first process of this machine or container, to which all others belong; {yours} "
            "(where a container runs nothing else: give it an init, e.g. docker run --init)"
        )
    if pid in affinity.ancestors(os.getpid()):
        return f"started ceml, which would be slowed down with it; {yours}"
    if affinity.of_kernel(pid):
        return f"is a thread of the kernel; {yours}"
    users = affinity.users(pid)
    if os.geteuid() not in users and not affinity.may_turn_others():
        whose = f"user {min(users)}" if users else "another user"
        return (
            f"belongs to {whose}, and this is user {os.geteuid()} without CAP_SYS_NICE: run ceml serve as that user or "
            "as root (sudo ceml serve), or give the number of a program of yours"
        )
    return None


def _sensible(knobs: Sequence[Knob]) -> NDArray[np.bool_] | None:
    """Leave out quotas that the number of processors makes idle: 0.75 of two is no limit on one."""
    if len(knobs) < 2:
        return None
    cores, shares = knobs[0].numbers, knobs[1].numbers
    return ((shares == 1.0) | (shares * cores[-1] < cores[:, None])).ravel()


# Processor time -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quota:
    """Where the processor time of a cgroup is limited.

    Attributes:
        path: `cpu.max` (version 2) or `cpu.cfs_quota_us` (version 1).
        period_us: How often the quota is granted.
        unified: Version 2.
    """

    path: str
    period_us: int
    unified: bool


def find_quota(pid: int) -> Quota | str:
    """The quota of a program's own cgroup; or why there is none."""
    try:
        theirs, ours = (cgroup.of(who) for who in (pid, os.getpid()))
        if theirs is None:
            return "no cgroup with the cpu controller is mounted here"
        if theirs == ours:
            return (
                f"it shares its cgroup {theirs[0]} with ceml, which would slow itself down; give it one of its own, "
                "e.g. systemd-run --scope PROGRAM"
            )
        folder, unified = theirs
        path = f"{folder}/{'cpu.max' if unified else 'cpu.cfs_quota_us'}"
        period_us = int(sysfs.text(path).split()[1]) if unified else sysfs.number(f"{folder}/cpu.cfs_period_us")
    except (CemlError, ValueError, IndexError) as error:
        return str(error)
    return Quota(path, period_us, unified) if sysfs.writable(path) else f"this user may not write {path}"


class QuotaLever:
    """The share of its processors' time that a cgroup gets, or of what it was found with; 1 is all of that."""

    def __init__(self, knob: Knob, quota: Quota, cores: int) -> None:
        """Nothing is written."""
        self.knob = knob
        self._quota = quota
        self._full_us, self._unlimited = float(quota.period_us * cores), True
        with suppress(CemlError, ValueError):  # what somebody allows it is the whole: docker --cpus=1
            word = sysfs.text(quota.path).split()[0]
            if word not in ("max", "-1") and 0 < int(word) < self._full_us:
                self._full_us, self._unlimited = float(word), False

    def look(self) -> Level:
        """The share; 1 without a limit."""
        share = self._share(sysfs.text(self._quota.path))
        return next((float(level) for level in self.knob.levels if abs(float(level) - share) < 0.005), share)

    def _share(self, text: str) -> float:
        word = text.split()[0] if text else ""
        try:
            return 1.0 if word in ("max", "-1") else int(word) / self._full_us
        except ValueError:
            raise Temporary(f"{self._quota.path} reads {word!r}; it is tried again") from None

    def order(self) -> Level:
        """The same: the quota is the order."""
        return self.look()

    def put(self, level: float) -> float:
        """Write the quota and read it back.

        Raises:
            Refused: The kernel would not take it; a parent may allow less.
            Temporary: It is gone for now.
        """
        unlimited = "max" if self._quota.unified else "-1"
        quota = (
            unlimited if level >= 1.0 and self._unlimited else str(max(round(level * self._full_us), LEAST_QUOTA_US))
        )
        sysfs.order(
            self._quota.path, f"{quota} {self._quota.period_us}" if self._quota.unified else quota, knob=self.knob.name
        )
        return float(self.look())

    def bounds(self, prior: Mapping[str, str]) -> tuple[float, float]:
        """Up to the share that somebody allows.

        Raises:
            Temporary: The quota reads as no number.
        """
        word = prior.get(self._quota.path) or sysfs.text(self._quota.path)
        return 0.0, min(self._share(word), 1.0)

    @property
    def unit(self) -> float:
        """The whole in microseconds."""
        return 1.0 / self._full_us

    def limits(self) -> tuple[Item, ...]:
        """The quota."""
        return self.items()

    def items(self) -> tuple[Item, ...]:
        """The quota."""
        return sysfs.kept([self._quota.path])


# Power ----------------------------------------------------------------------------------------------------------------


class EstimatedPower:
    """Power as a straight line over the load of the processors: idle + busy processors x watts each. No measurement."""

    name = "estimated power"
    lag_s = 0.0

    def __init__(self, load: CpuLoad | ProgramLoad, cores: int, pid: int, *, idle_w: float, core_w: float) -> None:
        """Nothing is read before first use."""
        self._pid = pid
        self.period_s = load.period_s
        self._load = load
        self._cores = cores
        self._idle_w = idle_w
        self._core_w = core_w

    async def read(self) -> Sample:
        """The estimate for the time since the reading before; the first has none.

        Raises:
            Temporary: The load is not known this time.
            Unavailable: The program is gone, or there is no /proc.
        """
        if not sysfs.exists(f"/proc/{self._pid}"):
            raise Unavailable(
                f"process {self._pid} is gone, and with it all that could be turned: end this and start anew with the "
                "next one, best by ceml run"
            )
        sample = await self._load.read()
        busy = sample.utilisation.get("cpu")
        if busy is None:
            return Sample(at_s=anyio.current_time())
        watts = self._idle_w + self._core_w * self._cores * busy
        return Sample(at_s=sample.at_s, rails_w={RAIL: watts}, utilisation=sample.utilisation, covers_s=sample.covers_s)
