"""An ordinary Linux machine as a fake: cpufreq of several drivers, energy counters that wrap, a power meter."""

from __future__ import annotations

import errno
import os
import time
from functools import partial
from typing import TYPE_CHECKING

from ceml.testing.clocks import Clock
from ceml.testing.cpufreq import Cpufreq
from ceml.testing.kernel import FakeKernel

if TYPE_CHECKING:
    from collections.abc import Sequence

ACPI = (1_200_000, 1_600_000, 2_000_000, 2_400_000, 2_800_000, 3_200_000)


class FakeHost(FakeKernel):
    """A machine.

    Attributes:
        policies: CPU clocks.
        energy_uj: Zone -> its counter, before it wraps; grows by what `watts` says.
        watts: Zone -> its power.
    """

    def __init__(self, driver: str = "acpi-cpufreq", *, tops_khz: Sequence[int] = (3_200_000, 3_200_000)) -> None:
        """Build it.

        Args:
            driver: `acpi-cpufreq` has a list and the governor userspace; `intel_pstate` and `amd-pstate-epp` neither.
            tops_khz: Highest clock of each processor; each has a policy of its own.
        """
        super().__init__()
        self.policies: list[Cpufreq] = []
        for cpu, top in enumerate(tops_khz):
            listed = driver == "acpi-cpufreq"
            table = [khz for khz in ACPI if khz <= top] if listed else range(800_000, top + 1, 100_000)
            governors = (
                ("userspace", "schedutil", "performance", "powersave") if listed else ("performance", "powersave")
            )
            policy = Cpufreq(
                version="6.1",
                cpus=[cpu],
                clock=Clock(table=list(table)),
                governors=governors,
                governor=governors[1],
            )
            policy.install(self)
            folder = f"/sys/devices/system/cpu/cpufreq/policy{cpu}"
            self.constant(f"{folder}/scaling_driver", driver)
            if not listed:
                del self.files[f"{folder}/scaling_available_frequencies"]
                del self.files[f"{folder}/cpuinfo_cur_freq"]
                self.add(f"{folder}/scaling_cur_freq", lambda: "801234")  # idle, whatever its limits are
            self.policies.append(policy)
        self.watts = {"package-0": 30.0, "core": 20.0, "dram": 4.0}
        self._from_s = time.monotonic()
        self.add("/proc/stat", self._stat)

    def add_rapl(
        self, zones: Sequence[str] = ("package-0", "core", "dram"), *, range_uj: int = 262_143_328_850
    ) -> None:
        """Add energy counters."""
        for number, zone in enumerate(zones):
            folder = f"/sys/class/powercap/intel-rapl:0{f':{number - 1}' if number else ''}"
            self.constant(f"{folder}/name", zone)
            self.constant(f"{folder}/max_energy_range_uj", str(range_uj))
            self.add(f"{folder}/energy_uj", partial(self._energy, zone, range_uj), secret=True)

    def add_limit(self, *, most_uw: int = 125_000_000, unit_uw: int = 125_000) -> None:
        """Add the long-term power limit of the first package, which the hardware keeps in units of its own."""
        folder = "/sys/class/powercap/intel-rapl:0"
        self.limit_uw, self.limited = most_uw, "1"

        def take(value: str) -> None:
            if not value.isdecimal():
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self.limit_uw = int(value) // unit_uw * unit_uw

        def enable(value: str) -> None:
            if value not in ("0", "1"):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self.limited = value

        self.add(f"{folder}/constraint_0_power_limit_uw", lambda: str(self.limit_uw), take)
        self.constant(f"{folder}/constraint_0_max_power_uw", str(most_uw))
        self.add(f"{folder}/enabled", lambda: self.limited, enable)

    def add_preferences(self, prefers: str = "balance_performance") -> None:
        """Add EPP to every policy: under the governor `performance` no other preference is taken."""
        offered = ("default", "performance", "balance_performance", "balance_power", "power")
        self.prefers = [prefers for _ in self.policies]
        for place, policy in enumerate(self.policies):
            folder = f"/sys/devices/system/cpu/cpufreq/policy{policy.cpus[0]}"
            self.constant(f"{folder}/energy_performance_available_preferences", " ".join(offered))

            def take(value: str, place: int = place, policy: Cpufreq = policy) -> None:
                if value not in offered:
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
                if policy.governor == "performance" and value != "performance":
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
                self.prefers[place] = value

            self.add(f"{folder}/energy_performance_preference", lambda place=place: self.prefers[place], take)

    def _energy(self, zone: str, range_uj: int) -> str:
        return str(round((time.monotonic() - self._from_s) * self.watts[zone] * 1e6) % range_uj)

    def _stat(self) -> str:
        ticks = round((time.monotonic() - self._from_s) * 100)
        lines = [f"cpu{policy.cpus[0]} {ticks // 2} 0 0 {ticks - ticks // 2} 0 0 0 0 0 0" for policy in self.policies]
        return "\n".join(["cpu  0 0 0 0 0 0 0 0 0 0", *lines])
