"""Energy counters of processor packages and their memory (RAPL through powercap; Intel, and AMD since Linux 5.8).

Power is energy over time between two readings of a counter that wraps at `max_energy_range_uj`. `core` and `uncore`
are inside of `package`, which is inside of `psys`; `dram` is beside it. Kernel documentation: power/powercap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ceml.domain.values import Sample
from ceml.errors import CemlError, Temporary
from ceml.platforms import sysfs
from ceml.platforms.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

ZONES = "/sys/class/powercap/intel-rapl:*"  # not intel-rapl-mmio, which shows the same counters again
RAILS = {"package": "cpu", "dram": "mem", "psys": "total"}
MOST_W = 5000.0


@dataclass(frozen=True, slots=True)
class Counter:
    """One energy counter.

    Attributes:
        rail: `cpu`, `mem` or `total`.
        path: Its file, in uJ.
        range_uj: Where it wraps.
    """

    rail: str
    path: str
    range_uj: int


def counters(root: str) -> tuple[list[Counter], list[str]]:
    """Counters of the tree at `root` that can be read, and why others cannot."""
    found: list[Counter] = []
    problems: list[str] = []
    for path in sysfs.find(root, ZONES):
        try:
            rail = RAILS.get(sysfs.text(f"{path}/name").partition("-")[0])
            if rail is None:
                continue
            sysfs.number(f"{path}/energy_uj")
            found.append(Counter(rail, f"{path}/energy_uj", sysfs.number(f"{path}/max_energy_range_uj")))
        except CemlError as error:
            problems.append(str(error))
    return found, problems


class RaplSensor:
    """Mean power since the reading before, by rail; several packages are added up."""

    name = "energy counters"
    lag_s = 0.001  # they are updated about every millisecond

    def __init__(self, counters: Sequence[Counter], *, period_s: float) -> None:
        """Nothing is read before first use."""
        self.period_s = period_s
        self._counters = tuple(counters)
        self._before: tuple[float, tuple[int, ...]] | None = None
        self._worker = Worker(self.name)

    async def read(self) -> Sample:
        """Power since the reading before; the first one, and one after a failed one, says none.

        Raises:
            Temporary: A counter does not answer, or leapt.
            Unavailable: One has gone.
        """
        before, self._before = self._before, None
        energies_uj = await self._worker.run(lambda: tuple(sysfs.number(counter.path) for counter in self._counters))
        now_s = anyio.current_time()
        self._before = now_s, energies_uj
        if before is None or now_s <= before[0]:
            return Sample(at_s=now_s)
        took_s = now_s - before[0]
        rails_w: dict[str, float] = {}
        for counter, old, new in zip(self._counters, before[1], energies_uj, strict=True):
            watts = spent_uj(old, new, counter.range_uj) * 1e-6 / took_s
            if not 0 <= watts <= MOST_W:
                raise Temporary(f"{counter.path} leapt from {old} to {new}; this reading is left out")
            rails_w[counter.rail] = rails_w.get(counter.rail, 0.0) + watts
        return Sample(at_s=now_s, rails_w=rails_w, covers_s=took_s)


def spent_uj(before: int, after: int, range_uj: int) -> int:
    """Difference of two readings of a counter that goes from 0 to `range_uj` and wraps at most once between them."""
    return after - before if after >= before else after - before + range_uj
