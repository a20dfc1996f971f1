"""CPU clocks by cpufreq: one knob for all policies with the same list of frequencies.

Where the kernel offers the governor `userspace`, it is used with `scaling_setspeed`, and the limits that somebody set
(nvpmodel, cooling) are never touched. Elsewhere minimum and maximum are set to the same value, in an order that
kernel 4.9 takes too. kHz in the files, Hz here. Kernel documentation: admin-guide/pm/cpufreq.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from ceml.domain.knobs import Knob, KnobKind
from ceml.errors import CemlError, Temporary, Unavailable
from ceml.platforms import sysfs
from ceml.platforms.levers import nearest, settled
from ceml.saved import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ceml.domain.knobs import Level

POLICIES = "/sys/devices/system/cpu/cpufreq/policy[0-9]*"
WAIT_S = 0.04  # drivers declare at most 0.3 ms for a transition; the rest is for a busy board

# These give no list, take limits as hints, and let an idle processor run slower: their clock proves nothing.
HINTED = ("intel_pstate", "intel_cpufreq", "amd-pstate", "amd_pstate", "amd-pstate-epp")
STEP_HZ = 1e8  # of a list made up for them: what their limits are rounded to
MOST_LEVELS = 16
EPP_SETTLE_S = 0.05
_OFFERED = "energy_performance_available_preferences"
ALIKE = 0.9  # processors whose highest clocks are this near to each other turn together


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Processors that share a clock.

    Attributes:
        path: Its directory.
        cpus: Its processors, online or not.
        levels_hz: What it can run at, ascending, within the limits; empty where the kernel gives no list.
        limits_hz: Minimum and maximum as found; of the hardware, where cooling or firmware held the maximum down.
        hardware_hz: Lowest and highest of the hardware.
        governors: What may be written to `scaling_governor`.
        governor: What was found there.
        driver: Name of the driver.
    """

    path: str
    cpus: tuple[int, ...]
    levels_hz: tuple[float, ...]
    limits_hz: tuple[float, float]
    hardware_hz: tuple[float, float]
    governors: tuple[str, ...]
    governor: str
    driver: str

    def file(self, name: str) -> str:
        """Path of one of its files."""
        return f"{self.path}/{name}"


def policies(root: str, *, cooled: bool = False) -> tuple[list[Policy], list[str]]:
    """The policies of the tree at `root` that answer, and why others do not (their processors are offline).

    Args:
        root: Where /sys is.
        cooled: Whether the kernel holds their maxima down now.
    """
    found: list[Policy] = []
    silent: list[str] = []
    for path in sysfs.find(root, POLICIES):
        try:
            found.append(_policy(path, cooled=cooled))
        except CemlError as error:
            silent.append(f"{error} (processors offline?)")
    return found, silent


def _policy(path: str, *, cooled: bool) -> Policy:
    low, high = (sysfs.number(f"{path}/scaling_{end}_freq") * 1e3 for end in ("min", "max"))
    hardware = tuple(_optional_hz(f"{path}/cpuinfo_{end}_freq") for end in ("min", "max"))
    firmware_hz = _optional_hz(f"{path}/bios_limit")
    if cooled or 0.0 < firmware_hz <= high:  # it ends by itself, and then all that the hardware can do is there again
        high = max(high, hardware[1])
    try:
        listed = sysfs.numbers(f"{path}/scaling_available_frequencies")
    except Unavailable:
        listed = ()
    governors = sysfs.text(f"{path}/scaling_available_governors")
    return Policy(
        path=path,
        cpus=sysfs.numbers(f"{path}/related_cpus"),
        levels_hz=tuple(sorted({khz * 1e3 for khz in listed if low <= khz * 1e3 <= high})),
        limits_hz=(low, high),
        hardware_hz=(hardware[0] or low, hardware[1] or high),
        governors=tuple(governors.split()),
        governor=sysfs.text(f"{path}/scaling_governor"),
        driver=_optional_text(f"{path}/scaling_driver"),
    )


def _optional_hz(path: str) -> float:
    try:
        return sysfs.number(path) * 1e3
    except CemlError:
        return 0.0


def _optional_text(path: str) -> str:
    try:
        return sysfs.text(path)
    except CemlError:
        return ""


def grid_hz(low_hz: float, high_hz: float) -> tuple[float, ...]:
    """Levels for a driver that gives no list: whole steps of 100 MHz, at most 16, both ends among them."""
    first, last = -(-low_hz // STEP_HZ), high_hz // STEP_HZ
    steps = max(int(last - first), 0)
    count = min(steps, MOST_LEVELS - 2)
    inner = {round(first + step * steps / max(count, 1)) * STEP_HZ for step in range(count + 1)}
    return tuple(sorted({low_hz, high_hz} | {hz for hz in inner if low_hz < hz < high_hz}))


def alike(policies: Sequence[Policy]) -> list[list[Policy]]:
    """Policies in groups of nearly the same highest clock: performance cores and efficient ones apart."""
    groups: list[list[Policy]] = []
    for policy in sorted(policies, key=lambda policy: -policy.hardware_hz[1]):
        if groups and policy.hardware_hz[1] >= ALIKE * groups[-1][0].hardware_hz[1]:
            groups[-1].append(policy)
        else:
            groups.append([policy])
    return groups


class CpuLever:
    """The clock of all processors of some policies, held at one frequency."""

    def __init__(self, knob: Knob, policies: Sequence[Policy]) -> None:
        """Take policies with the same levels; nothing is written."""
        self._knob = knob
        self._policies = tuple(policies)
        self._put_hz: float | None = None
        self._kept: set[str] = set()  # policies whose values were read to be put back: others may not be written
        self._near_hz: dict[str, float] = {}  # what was put, within the limits of each policy at that time
        self._by_speed = all("userspace" in policy.governors for policy in policies)

    @property
    def knob(self) -> Knob:
        """What it turns."""
        return self._knob

    def look(self) -> Level:
        """The clock where all policies are held at one frequency; the lowest, where they differ; else the governor."""
        return self._over_all(self._clock_hz)

    def order(self) -> Level:
        """What was put, while every policy is so; else what one of them is now that it was not put to.

        By what the driver was asked for: to read the clock itself may make the kernel ask it again.
        """
        return self._over_all(self._ordered_hz, wanted=self._put_hz)

    @property
    def _ours(self) -> tuple[Policy, ...]:
        """Those that may be turned: one that was offline when prior values were read has none to go back to."""
        return tuple(policy for policy in self._policies if policy.path in self._kept) or self._policies

    def _over_all(self, read_hz: Callable[[Policy], float], wanted: float | None = None) -> Level:
        found: list[float] = []
        for policy in self._ours:
            try:
                governor = self._governed(policy)
                if governor:
                    return governor
                found.append(read_hz(policy))
            except Temporary:  # its processors are offline now
                continue
        if not found:
            raise Temporary(f"no processor of {self._knob.name} answers: are they offline?")
        return min((hz for hz in found if hz != wanted), default=found[0])

    def _governed(self, policy: Policy) -> str:
        """The governor that moves the clock; empty where it is held."""
        governor = sysfs.text(policy.file("scaling_governor"))
        if self._by_speed:
            return "" if governor == "userspace" else governor
        low, high = (sysfs.number(policy.file(f"scaling_{end}_freq")) for end in ("min", "max"))
        return "" if low == high else governor

    def put(self, level: float) -> float:
        """Hold all policies at one frequency; returns the lowest that is then measured.

        Raises:
            Refused: A policy would not take it.
            Temporary: No policy has a processor online.
        """
        taken: list[Policy] = []
        problem = Temporary(f"no processor of {self._knob.name} answers: are they offline?")
        for policy in self._ours:
            try:
                self._near_hz[policy.path] = near = _within(level, self._limits_hz(policy))
                self._write(policy, round(near / 1e3))
            except Temporary as error:  # its processors are offline now
                problem = error
            else:
                taken.append(policy)
        if not taken:
            raise problem
        self._put_hz = level
        return settled(lambda: self._reached(taken, level), level, WAIT_S)

    def _reached(self, policies: Sequence[Policy], wanted: float) -> float:
        """The wanted frequency once every policy is as near to it as its own limits let it, and one of them is there.

        Else the lowest of those that are not, or the nearest that all of them are limited to.
        """
        near = {policy.path: self._near_hz.get(policy.path, wanted) for policy in policies}
        found = {policy.path: self._clock_hz(policy, near[policy.path]) for policy in policies}
        return min(
            (hz for path, hz in found.items() if hz != near[path]),
            default=min(near.values(), key=lambda hz: abs(hz - wanted)),
        )

    def _limits_hz(self, policy: Policy) -> tuple[float, float]:
        """Of a policy: those that others set. Where they are not what we write they are read anew."""
        if not self._by_speed:
            return policy.limits_hz
        low, high = (sysfs.number(policy.file(f"scaling_{end}_freq")) * 1e3 for end in ("min", "max"))
        return low, high

    def forget(self) -> None:
        """What was put is in force no more."""
        self._put_hz = None

    def _write(self, policy: Policy, khz: int) -> None:
        name = self._knob.name
        if self._by_speed:
            if sysfs.text(policy.file("scaling_governor")) != "userspace":
                sysfs.order(policy.file("scaling_governor"), "userspace", knob=name)
            sysfs.order(policy.file("scaling_setspeed"), khz, knob=name)
            return
        raising = khz >= sysfs.number(policy.file("scaling_max_freq"))
        for end in ("max", "min") if raising else ("min", "max"):
            sysfs.order(policy.file(f"scaling_{end}_freq"), khz, knob=name)

    def _ordered_hz(self, policy: Policy) -> float:
        """The last request that the driver took, or the limit that holds it (kernel.md, points 2 and 4).

        What was put, where it is as near to that as the policy's own limits let it.
        """
        held = "scaling_setspeed" if self._by_speed else "scaling_max_freq"
        hz, wanted = sysfs.number(policy.file(held)) * 1e3, self._put_hz
        near = None if wanted is None else self._near_hz.get(policy.path, wanted)
        found = nearest(self._knob.levels, hz, near)
        return wanted if wanted is not None and found == near else found

    def _clock_hz(self, policy: Policy, wanted: float | None = None) -> float:
        """The clock itself where root may see it; `scaling_cur_freq` says only what the driver was asked for."""
        if policy.driver in HINTED:
            held = "scaling_setspeed" if self._by_speed else "scaling_max_freq"
            return nearest(self._knob.levels, sysfs.number(policy.file(held)) * 1e3, wanted)
        try:
            measured = sysfs.number(policy.file("cpuinfo_cur_freq")) * 1e3
        except CemlError:
            measured = 0.0
        if measured <= 0.0:  # an idle or offline core of a TX2 reads 0
            measured = sysfs.number(policy.file("scaling_cur_freq")) * 1e3
        return nearest(self._knob.levels, measured, wanted)

    unit = 1e3  # kHz

    def bounds(self, prior: Mapping[str, str]) -> tuple[float, float]:
        """From the lowest minimum of all policies to the highest maximum; each is held within its own."""
        found = self._limited(prior)
        return min(policy.limits_hz[0] for policy in found), max(policy.limits_hz[1] for policy in found)

    def keep_within(self, prior: Mapping[str, str]) -> None:
        """From now on these are the limits of each policy, and what has no prior value is left alone."""
        self._policies = self._limited(prior)
        self._kept = {
            policy.path for policy in self._policies if any(target.startswith(f"{policy.path}/") for target in prior)
        }

    def _limited(self, prior: Mapping[str, str]) -> tuple[Policy, ...]:
        found: list[Policy] = []
        for policy in self._policies:
            try:
                low, high = (
                    sysfs.known_number(policy.file(f"scaling_{end}_freq"), prior) * 1e3 for end in ("min", "max")
                )
            except CemlError:  # its processors are offline now
                found.append(policy)
            else:
                found.append(replace(policy, limits_hz=(low, high)))
        return tuple(found)

    def limits(self) -> tuple[Item, ...]:
        """The maximum of each policy, whether it is what holds the clock or what the clock is held below."""
        return sysfs.kept(policy.file("scaling_max_freq") for policy in self._policies)

    def wrote(self) -> dict[str, str]:
        """Maximum of each policy, as it was put last."""
        ours = {policy.path: policy for policy in self._policies}
        return {ours[path].file("scaling_max_freq"): f"{hz / 1e3:.0f}" for path, hz in self._near_hz.items()}

    def held_down(self) -> bool:
        """Whether the maximum of a policy reads as low as its firmware lets it, which is less than when it was found.

        A battery (`bios_limit`, ACPI's _PPC) or the end of turbo (`cpuinfo_max_freq`) does that.
        """
        return any(self._is_held_down(policy) for policy in self._policies)

    def _is_held_down(self, policy: Policy) -> bool:
        left_hz = min(
            filter(None, (_optional_hz(policy.file(name)) for name in ("bios_limit", "cpuinfo_max_freq"))), default=inf
        )
        return left_hz < policy.hardware_hz[1] and _optional_hz(policy.file("scaling_max_freq")) >= left_hz

    def raised(self) -> tuple[Item, ...]:
        """Maxima that were all that the hardware could do, where that is more now (turbo is back): as they would read.

        Each is told once.
        """
        if self._by_speed:
            return ()  # the maximum is never written
        before, self._policies = self._policies, tuple(_with_hardware_of_now(policy) for policy in self._policies)
        return tuple(
            Item(sysfs.KIND, now.file("scaling_max_freq"), f"{now.limits_hz[1] / 1e3:.0f}")
            for old, now in zip(before, self._policies, strict=True)
            if now.limits_hz[1] > old.limits_hz[1]
        )

    def items(self) -> tuple[Item, ...]:
        """Governor and speed, or maximum and minimum, of every policy that answers.

        A maximum that firmware holds down is kept as that of the hardware: nobody can tell what was asked for.
        """
        found = self._items()
        held = {p.file("scaling_max_freq"): p for p in self._policies if not self._by_speed and self._is_held_down(p)}
        return tuple(
            item._replace(value=f"{held[item.target].hardware_hz[1] / 1e3:.0f}") if item.target in held else item
            for item in found
        )

    def _items(self) -> tuple[Item, ...]:
        names = ("scaling_governor",) if self._by_speed else ("scaling_max_freq", "scaling_min_freq")
        paths = [policy.file(name) for policy in self._policies for name in names]
        if self._by_speed:
            paths += [
                policy.file("scaling_setspeed")
                for policy in self._policies
                if _optional_text(policy.file("scaling_governor")) == "userspace"
            ]
        return sysfs.kept(paths)


class PreferenceLever:
    """What the processors are told to prefer, speed or energy (EPP); they choose their clocks within the limits by it.

    Kernel documentation: admin-guide/pm/intel_pstate, amd-pstate. Under the governor `performance` a kernel takes no
    preference but that one (EBUSY).
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        """Nothing is written.

        Raises:
            Unavailable: The driver has no preferences.
        """
        if any(policy.governor == "performance" for policy in policies):
            raise Unavailable(
                "preference: under the governor performance the kernel takes no other one; choose powersave first "
                "(cpupower frequency-set -g powersave), or leave out preference=true"
            )
        self._files = [policy.file("energy_performance_preference") for policy in policies]
        offered = [set(_optional_text(policy.file(_OFFERED)).split()) - {"default"} for policy in policies]
        shared = set[str].intersection(*offered) if offered else set[str]()
        if len(shared) < 2:
            raise Unavailable(
                "preference: no driver here offers one, only intel_pstate and amd-pstate while active; leave out "
                "preference=true"
            )
        self.knob = Knob(name="cpu_epp", levels=tuple(sorted(shared)), kind=KnobKind.CATEGORY, settle_s=EPP_SETTLE_S)

    def look(self) -> Level:
        """The preference of all; `?` where they differ, so that it is put."""
        found = {sysfs.text(file) for file in self._files}
        return found.pop() if len(found) == 1 else "?"

    def order(self) -> Level:
        """The first that is not as that of the first policy, else it."""
        found = [sysfs.text(file) for file in self._files]
        return next((word for word in found if word != found[0]), found[0])

    def put(self, level: str) -> str:
        """Tell all of them.

        Raises:
            Refused: The kernel would not take it.
            Temporary: Not this time.
        """
        for file in self._files:
            sysfs.order(file, level, knob=self.knob.name)
        return str(self.order())

    def items(self) -> tuple[Item, ...]:
        """The preference of each policy."""
        return sysfs.kept(self._files)


def _with_hardware_of_now(policy: Policy) -> Policy:
    (low_hz, high_hz), now_hz = policy.hardware_hz, _optional_hz(policy.file("cpuinfo_max_freq"))
    if now_hz <= high_hz:
        return policy
    top_hz = policy.limits_hz[1]
    limits_hz = (policy.limits_hz[0], now_hz if top_hz >= high_hz else top_hz)
    return replace(policy, hardware_hz=(low_hz, now_hz), limits_hz=limits_hz)


def _within(hz: float, limits_hz: tuple[float, float]) -> float:
    return min(max(hz, limits_hz[0]), limits_hz[1])
