"""Clocks by devfreq, the GPU's above all: held by minimum = maximum, verified by `cur_freq`. Hz.

Kernel 4.9 refuses a minimum above the maximum, newer ones let the maximum win; in the order used here neither ever
has to. Limits between two levels land elsewhere than asked (kernel.md), so only listed frequencies are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ceml.errors import CemlError, Temporary
from ceml.platforms import sysfs
from ceml.platforms.fences import SHOWN
from ceml.platforms.levers import nearest, settled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ceml.domain.knobs import Knob, Level
    from ceml.saved import Item

WAIT_S = 0.06  # 5 ms on an Orin Nano (arXiv 2606.16106); the rest is for a GPU that wakes from its power gate


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that scales its clock.

    Attributes:
        path: Its directory in the class.
        levels_hz: What it can run at, ascending, up to the maximum found; all, where cooling held that down.
        limits_hz: Minimum and maximum as found.
        governor: What was found there.
    """

    path: str
    levels_hz: tuple[float, ...]
    limits_hz: tuple[float, float]
    governor: str

    def file(self, name: str) -> str:
        """Path of one of its files."""
        return f"{self.path}/{name}"


def device(root: str, names: Sequence[str], *, cooled: bool = False) -> Device | None:
    """The first device of the tree at `root` that goes by one of these names, e.g. `gp10b`; None where there is none.

    Its name is that of its node in the device tree; where a kernel has none, the last part of the directory's.

    Args:
        root: Where /sys is.
        names: What it may be called.
        cooled: Whether the kernel holds its maximum down now.

    Raises:
        Temporary: It is there and does not answer now (a GPU that was not powered since boot).
        Unavailable: This user may not read it.
    """
    for path in sysfs.find(root, "/sys/class/devfreq/*"):
        if _name(path) in names or path.rpartition("/")[2] in names:
            return _device(path, cooled=cooled)
    return None


def _name(path: str) -> str:
    try:
        return sysfs.text(f"{path}/device/of_node/name")
    except CemlError:
        return path.rpartition("/")[2].rpartition(".")[2]


def _device(path: str, *, cooled: bool) -> Device:
    low, high = (float(sysfs.number(f"{path}/{end}_freq")) for end in ("min", "max"))
    listed = {float(hz) for hz in sysfs.numbers(f"{path}/available_frequencies")}
    top = high if high > 0 and not cooled else max(listed, default=0.0)  # 0: no limit
    return Device(
        path=path,
        levels_hz=tuple(sorted(hz for hz in listed if hz <= top * (1 + SHOWN))),
        limits_hz=(low, top),
        governor=sysfs.text(f"{path}/governor"),
    )


class DevfreqLever:
    """The clock of one device, held at one frequency."""

    def __init__(self, knob: Knob, device: Device) -> None:
        """Nothing is written."""
        self._knob = knob
        self._device = device

    @property
    def knob(self) -> Knob:
        """What it turns."""
        return self._knob

    @property
    def _railgate(self) -> str:
        return self._device.file("device/railgate_enable")

    def look(self) -> Level:
        """The frequency where it is held at one, else the governor."""
        file = self._device.file
        if sysfs.number(file("min_freq")) != sysfs.number(file("max_freq")):
            return sysfs.text(file("governor"))
        return self._clock_hz()

    def order(self) -> Level:
        """The frequency that both limits allow alone, else the governor; the clock itself is not asked."""
        file = self._device.file
        high = sysfs.number(file("max_freq"))
        if sysfs.number(file("min_freq")) != high:
            return sysfs.text(file("governor"))
        return nearest(self._knob.levels, float(high))

    def put(self, level: float) -> float:
        """Keep it powered, hold it at one frequency, and wait until the clock is there; returns the clock.

        Raises:
            Refused: It would not take it.
            Temporary: It does not answer now.
        """
        file, name, hz = self._device.file, self._knob.name, round(level)
        if sysfs.exists(self._railgate) and sysfs.text(self._railgate) != "0":
            sysfs.order(self._railgate, 0, knob=name)  # a gated GPU answers nothing, or the clock of its last use
        raising = hz >= sysfs.number(file("max_freq"))
        for end in ("max", "min") if raising else ("min", "max"):
            sysfs.order(file(f"{end}_freq"), hz, knob=name)
        return settled(self._clock_hz, level, WAIT_S)

    def _clock_hz(self) -> float:
        measured = float(sysfs.number(self._device.file("cur_freq")))
        if measured <= 0.0:
            raise Temporary(f"{self._device.file('cur_freq')} reads {measured:g}: the device sleeps")
        return nearest(self._knob.levels, measured)

    def bounds(self, prior: Mapping[str, str]) -> tuple[float, float]:
        """Only the maximum limits: the minimum gives way to what is asked for.

        Raises:
            CemlError: It cannot be read now.
        """
        high = float(sysfs.known_number(self._device.file("max_freq"), prior))
        return 0.0, high if high > 0 else float("inf")  # 0: no limit

    unit = 1.0

    def limits(self) -> tuple[Item, ...]:
        """The maximum."""
        return sysfs.kept([self._device.file("max_freq")])

    def items(self) -> tuple[Item, ...]:
        """Limits first, the power gate last: a gated device might not take a limit."""
        return sysfs.kept([self._device.file("max_freq"), self._device.file("min_freq"), self._railgate])
