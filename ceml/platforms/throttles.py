"""What holds clocks down against our will, as the kernel tells it: cooling devices at work, counts of thermal events.

Kernel documentation: driver-api/thermal (cooling devices, `cur_state` 0 is off), admin-guide/abi-testing
(`thermal_throttle`, Intel). Read only.
"""

from __future__ import annotations

import re
from contextlib import suppress

from ceml.errors import CemlError
from ceml.platforms import sysfs

COOLING = "/sys/class/thermal/cooling_device[0-9]*"
EVENTS = "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/package_throttle_count"
_CLOCKS = re.compile(r"cpu|gpu|processor|devfreq|emc|powerclamp", re.IGNORECASE)  # not fans, nor a display's brightness


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

    def now(self) -> tuple[str, ...]:
        """What holds clocks down now, or did since it was asked before; a few words each."""
        said: list[str] = []
        for path, kind in self._cooling.items():
            with suppress(CemlError):
                state = sysfs.number(f"{path}/cur_state")
                if state > 0:
                    said.append(f"{kind} cools")
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
