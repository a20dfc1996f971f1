"""How busy the devices are: /proc/stat, the GPU's load file, the memory's activity."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ceml.domain.values import Sample
from ceml.errors import CemlError, Temporary, Unavailable
from ceml.platforms import affinity, sysfs
from ceml.platforms.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STAT = "/proc/stat"


class CpuLoad:
    """Mean busy share of all processors since the reading before, as device `cpu`.

    Busy = total - idle - iowait of proc(5). A processor that goes or comes leaves or brings a line; then the counts of
    before say nothing, and the next reading starts anew.
    """

    name = "processor load"
    lag_s = 0.0

    def __init__(self, root: str, *, period_s: float) -> None:
        """Nothing is read before first use."""
        self.period_s = period_s
        self._path = sysfs.under(root, STAT)
        self._before: tuple[frozenset[str], int, int] | None = None
        self._at_s = 0.0

    async def read(self) -> Sample:
        """The share since the reading before; as `read_now`."""
        return self.read_now()

    def read_now(self) -> Sample:
        """The share since the reading before; the first has none. It is in memory, not on a device: it cannot block.

        Raises:
            Temporary: /proc/stat says nothing that can be used.
            Unavailable: It is not there.
        """
        online, busy, total = _counts(sysfs.text(self._path))
        now_s = anyio.current_time()
        before, since_s = self._before, self._at_s
        self._before, self._at_s = (online, busy, total), now_s
        if before is None or before[0] != online or total <= before[2] or busy < before[1]:
            return Sample(at_s=now_s)
        share = min((busy - before[1]) / (total - before[2]), 1.0)
        return Sample(at_s=now_s, utilisation={"cpu": share}, covers_s=now_s - since_s)


def _counts(text: str) -> tuple[frozenset[str], int, int]:
    """Which processors are online, their busy ticks and all their ticks."""
    online: set[str] = set()
    busy = total = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) < 6 or not words[0].startswith("cpu") or words[0] == "cpu":
            continue
        try:
            user, nice, system, idle, iowait, *rest = (int(word) for word in words[1:9])
        except ValueError:
            raise Temporary(f"{STAT} has a line that is no count: {line[:60]!r}; it is tried again") from None
        online.add(words[0])
        active = user + nice + system + sum(rest)
        busy += active
        total += active + idle + iowait
    if not online:
        raise Temporary(f"{STAT} names no processor; it is tried again")
    return frozenset(online), busy, total


class ProgramLoad:
    """Mean share of the machine's processors that one program and its children kept busy since the reading before.

    Fields utime, stime, cutime and cstime of proc(5), /proc/PID/stat: a child that is done counts with its parent.
    """

    name = "program load"
    lag_s = 0.0

    def __init__(self, pid: int, cores: int, *, period_s: float) -> None:
        """Nothing is read before first use."""
        self.period_s = period_s
        self._pid = pid
        self._cores = cores
        self._ticks_hz = os.sysconf("SC_CLK_TCK")
        self._before: tuple[float, int] | None = None

    async def read(self) -> Sample:
        """The share since the reading before; the first has none, nor has one after a child that nobody waited for.

        Raises:
            Unavailable: The program is gone.
        """
        if affinity.started(self._pid) is None:
            raise Unavailable(f"process {self._pid} is gone")
        ticks = sum(map(affinity.ticks, affinity.processes(self._pid)))
        now_s = anyio.current_time()
        before, self._before = self._before, (now_s, ticks)
        if before is None or now_s <= before[0] or ticks < before[1]:
            return Sample(at_s=now_s)
        took_s = now_s - before[0]
        share = min((ticks - before[1]) / self._ticks_hz / took_s / self._cores, 1.0)
        return Sample(at_s=now_s, utilisation={"cpu": share}, covers_s=took_s)


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """Busy share of a Jetson's GPU: 0 to 1000 in its load file."""

    path: str

    def share(self) -> float:
        """Busy share, 0 to 1."""
        return min(max(sysfs.number(self.path) / 1000.0, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class MemoryLoad:
    """Busy share of the memory: activity in kHz over its clock."""

    path: str
    rate_hz: Callable[[], float]

    def share(self) -> float:
        """Busy share, 0 to 1."""
        rate_hz = self.rate_hz()
        if rate_hz <= 0:
            raise Temporary("the memory's clock reads 0; it is tried again")
        return min(max(sysfs.number(self.path) * 1e3 / rate_hz, 0.0), 1.0)


class LoadSensor:
    """Busy shares of the devices beside the CPU, at one moment."""

    name = "device load"
    lag_s = 0.0

    def __init__(self, shares: Mapping[str, GpuLoad | MemoryLoad], *, period_s: float) -> None:
        """Nothing is read before first use.

        Args:
            shares: Device -> how its share is read.
            period_s: Seconds between two polls.
        """
        self.period_s = period_s
        self._shares = dict(shares)
        self._worker = Worker(self.name)

    async def read(self) -> Sample:
        """What answers now.

        Raises:
            Temporary: Nothing answers.
        """
        busy = await self._worker.run(self._read)
        return Sample(at_s=anyio.current_time(), utilisation=busy)

    def _read(self) -> dict[str, float]:
        busy: dict[str, float] = {}
        problem = Temporary(f"{self.name}: there is nothing to read")
        for device, load in self._shares.items():
            try:
                busy[device] = load.share()
            except CemlError as error:
                problem = Temporary(str(error))
        if not busy:
            raise problem
        return busy
