"""How hot it is, and what holds clocks down against our will: thermal zones, cooling devices, counts of thermal events.

Heat takes seconds to build up, so this is read once a second however often power is: a dozen files on a Jetson.

Kernel documentation: driver-api/thermal (cooling devices, `cur_state` 0 is off), admin-guide/abi-testing
(`thermal_throttle`, Intel). Read only.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from ceml.domain.values import Sample
from ceml.errors import CemlError, Temporary
from ceml.platforms import sysfs
from ceml.platforms.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PERIOD_S = 1.0
CONSTANT_ZONES = frozenset({"PMIC-Die"})  # reads 50 or 100 degrees whatever happens (hardware.md A6)
COLDEST_C, HOTTEST_C = -60.0, 200.0

COOLING = "/sys/class/thermal/cooling_device[0-9]*"
EVENTS = "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/package_throttle_count"
_CLOCKS = re.compile(r"cpu|gpu|processor|devfreq|emc|powerclamp", re.IGNORECASE)  # not fans, nor a display's brightness

_OTHERS = {  # cooling devices that cannot hold down: a processor, or anything else
    True: re.compile(r"gpu|devfreq|emc", re.IGNORECASE),
    False: re.compile(r"cpu|processor|powerclamp", re.IGNORECASE),
}


class Throttles:
    """Looks at all of them; a device that does not answer says nothing."""

    def __init__(self, root: str) -> None:
        """Find them."""
        self._cooling: dict[str, str] = {}  # directory -> type
        for path in sysfs.find(root, COOLING):
            with suppress(CemlError):
                kind = sysfs.text(f"{path}/type")
                if _CLOCKS.search(kind) and sysfs.exists(f"{path}/cur_state"):
                    self._cooling[path] = kind
        self._counts: dict[str, int | None] = dict.fromkeys(_one_per_package(root))

    @property
    def names(self) -> tuple[str, ...]:
        """What is looked at, for people."""
        events = ("thermal events of the processor packages",) if self._counts else ()
        return (*dict.fromkeys(self._cooling.values()), *events)

    def cooling(self, device: str = "") -> list[str]:
        """Devices that the kernel cools by now; with a name (`cpu0`, `gpu`) those alone that may hold that down."""
        found: list[str] = []
        for path, kind in self._cooling.items():
            if device and _OTHERS[device.startswith("cpu")].search(kind):
                continue
            with suppress(CemlError):
                if sysfs.number(f"{path}/cur_state") > 0:
                    found.append(kind)
        return found

    def now(self) -> tuple[str, ...]:
        """What holds clocks down now, or did since it was asked before; a few words each."""
        said = [f"{kind} cools" for kind in self.cooling()]
        for path, before in self._counts.items():
            with suppress(CemlError):
                self._counts[path] = count = sysfs.number(path)
                if before is not None and count > before:
                    said.append("a processor package throttles")
        return tuple(dict.fromkeys(said))


def _one_per_package(root: str) -> list[str]:
    """The counter of one processor of each package: all of a package count the same."""
    found: dict[str, str] = {}
    for path in sysfs.find(root, EVENTS):
        package = "0"
        with suppress(CemlError):
            package = sysfs.text(f"{path.partition('/thermal_throttle')[0]}/topology/physical_package_id")
        found.setdefault(package, path)
    return list(found.values())


class HeatSensor:
    """Temperatures of the zones, and what holds clocks down, at one moment."""

    name = "temperatures"
    lag_s = 0.0

    def __init__(self, zones: Mapping[str, str], throttles: Throttles, *, period_s: float) -> None:
        """Nothing is read before first use.

        Args:
            zones: Thermal zone -> path of its temperature in millidegrees.
            throttles: Tells what holds clocks down.
            period_s: Seconds between two polls; `PERIOD_S` at least.
        """
        self.period_s = max(period_s, PERIOD_S)
        self._zones = dict(zones)
        self._throttles = throttles
        self._worker = Worker(self.name)

    async def read(self) -> Sample:
        """What answers now; a zone of a gated block does not.

        Raises:
            Temporary: No zone answers.
        """
        celsius, held = await self._worker.run(self._read)
        return Sample(at_s=anyio.current_time(), temperatures_c=celsius, throttled=held)

    def _read(self) -> tuple[dict[str, float], tuple[str, ...]]:
        celsius: dict[str, float] = {}
        problem = Temporary(f"{self.name}: no zone reads as a temperature")
        for zone, path in self._zones.items():
            try:
                degrees = sysfs.number(path) / 1000.0
            except CemlError as error:
                problem = Temporary(str(error))
                continue
            if COLDEST_C < degrees < HOTTEST_C:
                celsius[zone] = degrees
        if self._zones and not celsius:
            raise problem
        return celsius, self._throttles.now()


def sensors(root: str, zones: Mapping[str, str], period_s: float) -> list[HeatSensor]:
    """The sensor of the tree at `root`, where it has anything to tell."""
    throttles = Throttles(root)
    return [HeatSensor(zones, throttles, period_s=period_s)] if zones or throttles.names else []


def cools(root: str) -> Callable[[str], bool]:
    """Asks the tree at `root` whether the kernel holds the clocks of a device (of any, where it is empty) down now."""
    throttles = Throttles(root)
    return lambda device: bool(throttles.cooling(device))


def thermal_zones(root: str) -> dict[str, str]:
    """Thermal zones of the tree at `root` by type, with the path of the temperature; constants are left out."""
    zones: dict[str, str] = {}
    for path in sysfs.find(root, "/sys/class/thermal/thermal_zone[0-9]*"):
        try:
            name = sysfs.text(f"{path}/type")
        except CemlError:
            continue
        if name not in CONSTANT_ZONES:
            zones.setdefault(name, f"{path}/temp")
    return zones
