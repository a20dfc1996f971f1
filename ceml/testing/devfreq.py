"""devfreq as kernels show it, and the memory clock of a Jetson by its several interfaces."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ceml.testing.clocks import Clock, Limits, Version, ceiling, floor
from ceml.testing.kernel import whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ceml.testing.kernel import FakeKernel


@dataclass(kw_only=True)
class Devfreq:
    """A device that scales its clock, in Hz. A Jetson's governor lets a busy GPU run at its maximum.

    Attributes:
        clock: Its clock.
        limits: As set.
        railgate: Whether its power may be cut; then a read of the clock gives EAGAIN while it sleeps.
        asleep: Whether it sleeps, where it may.
    """

    version: Version
    name: str
    clock: Clock
    governor: str = "nvhost_podgov"
    railgate: bool = True
    asleep: bool = False
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        """Wide limits."""
        table = self.clock.table
        self.limits = Limits(version=self.version, table=table, low=table[0], high=table[-1])
        self._update()

    def install(self, kernel: FakeKernel, *, gate: bool = True) -> None:
        """Add its files, with the power gate where it has one."""
        folder = f"/sys/class/devfreq/{self.name}"
        listed = " ".join(map(str, self.clock.table))
        governors = ("wmark_simple", "nvhost_podgov", "userspace", "performance", "simple_ondemand")
        kernel.constant(f"{folder}/available_frequencies", listed)
        kernel.constant(f"{folder}/available_governors", " ".join(governors))
        kernel.constant(f"{folder}/device/of_node/name", self.name.rpartition(".")[2])
        kernel.add(f"{folder}/cur_freq", self._clock)
        kernel.add(f"{folder}/target_freq", lambda: str(self._wanted()))
        kernel.add(f"{folder}/governor", lambda: self.governor, lambda text: self._set_governor(text, governors))
        kernel.add(f"{folder}/min_freq", lambda: str(self.limits.effective[0]), self._set_low)
        kernel.add(f"{folder}/max_freq", lambda: str(self.limits.effective[1]), self._set_high)
        if gate:
            kernel.add(f"{folder}/device/railgate_enable", lambda: str(int(self.railgate)), self._set_railgate)

    def _clock(self) -> str:
        if self.asleep and self.railgate:
            raise OSError(errno.EAGAIN, "no power")
        return str(self.clock.value)

    def _set_railgate(self, text: str) -> None:
        self.railgate = bool(whole(text))

    def _set_governor(self, text: str, governors: Sequence[str]) -> None:
        if text not in governors:
            raise OSError(errno.EINVAL, "no such governor")
        self.governor = text
        self._update()

    def _set_low(self, text: str) -> None:
        self.limits.set_low(whole(text))
        self._update()

    def _set_high(self, text: str) -> None:
        wanted = whole(text)
        self.limits.set_high(wanted or self.clock.table[-1])  # 0: no limit
        self._update()

    def _wanted(self) -> int:
        low, high = self.limits.effective
        return ceiling(self.clock.table, low) if self.governor == "powersave" else self._at_most(high, low)

    def _at_most(self, high: int, low: int) -> int:
        below = floor(self.clock.table, high)
        return below if below >= low else ceiling(self.clock.table, low)  # between two entries: the next one up

    def _update(self) -> None:
        self.clock.ask(self._wanted())


@dataclass(kw_only=True)
class Memory:
    """The memory clock of a Jetson, in Hz; while nobody holds it, the firmware keeps it at its highest.

    Attributes:
        clock: Its clock; `clock.cap` is the firmware's clamp.
        cap: What nvpmodel wrote, 0 for none.
        held: Whether a rate is locked or overridden.
        rate: The rate asked for.
    """

    clock: Clock
    cap: int = 0
    held: bool = False
    rate: int = 0

    def install_bpmp(self, kernel: FakeKernel, *, rows: bool) -> None:
        """Add the interface of TX2, Xavier and Orin; with the firmware's table where it has one."""
        folder, table = "/sys/kernel/debug/bpmp/debug/clk/emc", self.clock.table
        kernel.add(f"{folder}/rate", lambda: str(self.clock.value), self._set_rate)
        kernel.add(f"{folder}/mrq_rate_locked", lambda: str(int(self.held)), self._hold)
        kernel.constant(f"{folder}/min_rate", str(table[0]))
        kernel.constant(f"{folder}/max_rate", str(table[-1]))
        kernel.add("/sys/kernel/nvpmodel_emc_cap/emc_iso_cap", lambda: str(self.cap), self._set_cap)
        if rows:
            lines = "\n".join(f"vdd_core {hz} 0 0" for hz in table)
            kernel.constant(f"{folder}/dvfs_table", lines)

    def install_override(self, kernel: FakeKernel) -> None:
        """Add the interface of TX1 and Nano."""
        folder, table = "/sys/kernel/debug/clk/override.emc", self.clock.table
        kernel.add(f"{folder}/clk_rate", lambda: str(self.clock.value))
        kernel.add(f"{folder}/clk_state", lambda: str(int(self.held)), self._hold)
        kernel.add(f"{folder}/clk_update_rate", lambda: str(self.rate), self._set_rate)
        for end, hz in (("min", table[0]), ("max", table[-1])):
            kernel.constant(f"/sys/kernel/debug/tegra_bwmgr/emc_{end}_rate", str(hz))

    def install_limits(self, kernel: FakeKernel) -> None:
        """Add the interface of mainline kernels: rates off the list are refused."""
        folder, table = "/sys/kernel/debug/emc", self.clock.table
        self._low, self._high = table[0], table[-1]
        kernel.constant(f"{folder}/available_rates", " ".join(map(str, table)))
        kernel.add(f"{folder}/min_rate", lambda: str(self._low), lambda text: self._limit(text, low=True))
        kernel.add(f"{folder}/max_rate", lambda: str(self._high), lambda text: self._limit(text, low=False))

    def _limit(self, text: str, *, low: bool) -> None:
        wanted = whole(text)
        if wanted not in self.clock.table or (wanted > self._high if low else wanted < self._low):
            raise OSError(errno.EINVAL, "not a rate, or limits would cross")
        if low:
            self._low = wanted
        else:
            self._high = wanted
        self.clock.ask(self._high)

    def _hold(self, text: str) -> None:
        self.held = bool(whole(text))
        self._update()

    def _set_rate(self, text: str) -> None:
        self.rate = whole(text)
        self._update()

    def _set_cap(self, text: str) -> None:
        self.cap = whole(text)
        self._update()

    def _update(self) -> None:
        table = self.clock.table
        wanted = ceiling(table, self.rate) if self.held and self.rate else table[-1]
        self.clock.ask(min(wanted, floor(table, self.cap)) if self.cap else wanted)
