"""cpufreq as kernels show it: policies with limits, governors and a speed."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ceml.testing.clocks import Clock, Limits, Version, ceiling, floor
from ceml.testing.kernel import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ceml.testing.kernel import FakeKernel


@dataclass(kw_only=True)
class Cpufreq:
    """A policy: processors that share a clock, in kHz. Under a governor that follows load it runs at its maximum.

    Attributes:
        clock: Its clock.
        limits: As set.
        governor: As set; the speed counts under `userspace`.
        speed: The speed asked for.
        online: Those of its processors that are; without any, every file gives EBUSY.
    """

    version: Version
    cpus: Sequence[int]
    clock: Clock
    governors: Sequence[str] = ("interactive", "conservative", "userspace", "powersave", "performance", "schedutil")
    governor: str = "schedutil"
    limits: Limits = field(init=False)
    speed: int = 0
    online: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Wide limits, all online."""
        table = self.clock.table
        self.limits = Limits(version=self.version, table=table, low=table[0], high=table[-1])
        self.online = list(self.cpus)
        self._update()

    def install(self, kernel: FakeKernel, root: str = "/sys/devices/system/cpu/cpufreq") -> None:
        """Add its files."""
        folder, table = f"{root}/policy{self.cpus[0]}", self.clock.table
        listed = " ".join(map(str, table)) + " "
        plain: dict[str, Callable[[], str]] = {
            "scaling_available_frequencies": lambda: listed,
            "scaling_available_governors": lambda: " ".join(self.governors) + " ",
            "related_cpus": lambda: " ".join(map(str, self.cpus)),
            "affected_cpus": lambda: " ".join(map(str, self.online)),
            "cpuinfo_min_freq": lambda: str(table[0]),
            "cpuinfo_max_freq": lambda: str(table[-1]),
            "scaling_driver": lambda: "fake",
            "scaling_cur_freq": lambda: str(self._wanted()),
        }
        for name, read in plain.items():
            kernel.add(f"{folder}/{name}", self._busy_read(read))
        kernel.add(f"{folder}/cpuinfo_cur_freq", self._busy_read(lambda: str(self.clock.value)), secret=True)
        for name, read, write in (
            ("scaling_min_freq", lambda: str(self.limits.effective[0]), self._set_low),
            ("scaling_max_freq", lambda: str(self.limits.effective[1]), self._set_high),
            ("scaling_governor", lambda: self.governor, self._set_governor),
            ("scaling_setspeed", self._speed_text, self._set_speed),
        ):
            kernel.add(f"{folder}/{name}", self._busy_read(read), self._busy_write(write))

    def _busy_read(self, read: Callable[[], str]) -> Callable[[], str]:
        def guarded() -> str:
            self._check_online()
            return read()

        return guarded

    def _busy_write(self, write: Callable[[str], None]) -> Callable[[str], None]:
        def guarded(text: str) -> None:
            self._check_online()
            write(text)
            self._update()

        return guarded

    def _check_online(self) -> None:
        if not self.online:
            raise OSError(errno.EBUSY, "all processors offline")

    def _speed_text(self) -> str:
        return str(self._wanted()) if self.governor == "userspace" else "<unsupported>"

    def _set_low(self, text: str) -> None:
        table = self.clock.table
        self.limits.set_low(ceiling(table, whole(text)))

    def _set_high(self, text: str) -> None:
        table = self.clock.table
        self.limits.set_high(floor(table, whole(text)))

    def _set_governor(self, text: str) -> None:
        word = (text.split() or [""])[0].lower()
        if word not in self.governors:
            raise OSError(errno.EINVAL, "no such governor")
        if word == "userspace" and self.governor != "userspace":
            self.speed = self._wanted()
        self.governor = word

    def _set_speed(self, text: str) -> None:
        if self.governor != "userspace":
            raise OSError(errno.EINVAL, "not under this governor")
        self.speed = whole(text)

    def _wanted(self) -> int:
        low, high = self.limits.effective
        asked = {"userspace": self.speed, "powersave": low}.get(self.governor, high)
        return ceiling(self.clock.table, min(max(asked, low), high))

    def _update(self) -> None:
        self.clock.ask(self._wanted())
