"""Energy counters of processor packages and their memory (RAPL through powercap; Intel, and AMD since Linux 5.8).

Power is energy over time between two readings of a counter that wraps at `max_energy_range_uj`. `core` and `uncore`
are inside of `package`, which is inside of `psys`; `dram` is beside it. Kernel documentation: power/powercap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ceml.domain.knobs import Knob, KnobKind
from ceml.domain.values import Sample
from ceml.errors import CemlError, Temporary, Unavailable
from ceml.platforms import sysfs
from ceml.platforms.levers import nearest
from ceml.platforms.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ceml.domain.knobs import Level
    from ceml.saved import Item

ZONES = "/sys/class/powercap/intel-rapl:*"  # not intel-rapl-mmio, which shows the same counters again
RAILS = {"package": "cpu", "dram": "mem", "psys": "total"}
MOST_W = 5000.0
LIMIT, MOST = "constraint_0_power_limit_uw", "constraint_0_max_power_uw"
STEPS, LEAST = 8, 0.3  # levels of the limit, from this share of the most on
LIMIT_SETTLE_S = 0.1  # it holds for the mean over its time window; after a tenth of a second the clocks follow


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


class LimitLever:
    """The power limit of the processor packages (the long-term one), in W for each package.

    What the hardware makes of a limit is in units of its own, an eighth of a watt mostly; a limit that firmware has
    locked is refused or does nothing, which reading back shows.
    """

    def __init__(self, root: str) -> None:
        """Nothing is written.

        Raises:
            Unavailable: There is no package with such a limit.
        """
        self._put_uw: dict[str, int] = {}  # what each package read when it was put
        self._zones = [
            path
            for path in sysfs.find(root, ZONES)
            if sysfs.exists(f"{path}/{LIMIT}") and sysfs.text(f"{path}/name").startswith("package")
        ]
        if not self._zones:
            where = sysfs.under(root, "/sys/class/powercap")
            raise Unavailable(f"limit: no package in {where} has a {LIMIT}; leave out limit=true")
        most_w = min(self._most_w(zone, {}) for zone in self._zones)
        levels = {float(round(most_w * (LEAST + (1.0 - LEAST) * step / STEPS))) for step in range(STEPS + 1)}
        self.knob = Knob(
            name="cpu_w",
            levels=tuple(sorted(watts for watts in levels if watts > 0)),
            kind=KnobKind.POWER_LIMIT,
            settle_s=LIMIT_SETTLE_S,
        )

    @staticmethod
    def _most_w(zone: str, prior: Mapping[str, str]) -> float:
        """What the package is made for, where it says so; nobody's own limit is ever raised."""
        found = sysfs.known_number(f"{zone}/{LIMIT}", prior)
        made_for = sysfs.number(f"{zone}/{MOST}") if sysfs.exists(f"{zone}/{MOST}") else 0
        return (min(found, made_for) if made_for > 0 else found) * 1e-6

    def look(self) -> Level:
        """The limit in force: the lowest, where packages differ."""
        watts = min(sysfs.number(f"{zone}/{LIMIT}") for zone in self._zones) * 1e-6
        return nearest(self.knob.levels, watts)

    def order(self) -> Level:
        """The lowest limit, where every package reads as when it was put; else that of one that does not."""
        for zone, uw in self._put_uw.items():
            found_uw = sysfs.number(f"{zone}/{LIMIT}")
            if found_uw != uw:
                return nearest(self.knob.levels, found_uw * 1e-6)
        return self.look()

    def forget(self) -> None:
        """What was put is in force no more."""
        self._put_uw = {}

    def put(self, level: float) -> float:
        """Set it for each package and read it back.

        Raises:
            Refused: The hardware would not take it.
            Temporary: It does not answer now.
        """
        for zone in self._zones:
            sysfs.order(f"{zone}/{LIMIT}", round(level * 1e6), knob=self.knob.name)
            if sysfs.exists(f"{zone}/enabled") and sysfs.text(f"{zone}/enabled") == "0":
                sysfs.order(f"{zone}/enabled", 1, knob=self.knob.name)
        self._put_uw = {zone: sysfs.number(f"{zone}/{LIMIT}") for zone in self._zones}
        return float(self.look())

    def bounds(self, prior: Mapping[str, str]) -> tuple[float, float]:
        """Up to the lowest limit that is there.

        Raises:
            CemlError: It cannot be read now.
        """
        return 0.0, min(self._most_w(zone, prior) for zone in self._zones)

    unit = 1e-6

    def limits(self) -> tuple[Item, ...]:
        """The limit of each package."""
        return sysfs.kept(f"{zone}/{LIMIT}" for zone in self._zones)

    def items(self) -> tuple[Item, ...]:
        """The limit of each package, and whether it is kept to."""
        return sysfs.kept(f"{zone}/{name}" for zone in self._zones for name in (LIMIT, "enabled"))


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
