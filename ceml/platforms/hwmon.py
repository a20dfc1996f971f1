"""Power rails by their labels: INA3221 through both generations of driver, and whatever else hwmon knows.

- L4T R28 to R32, IIO driver `ina3221x`: `rail_name_C`, and `ui_input_C` = mV and mA of one conversion.
- L4T R34 and newer, mainline, hwmon driver `ina3221`: `inN_label`, `inN_input` mV, `currN_input` mA; no power file.
- Any hwmon chip with `powerN_input` (uW), such as the INA238 of a Thor's carrier.

Numbers of directories are not stable, so a rail is found by its label. Nothing is ever written: `*_crit`, `*_max` and
their IIO twins are thresholds at which the hardware throttles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

from ceml.domain.values import Sample
from ceml.errors import CemlError, Temporary, Unavailable
from ceml.platforms import sysfs
from ceml.platforms.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

IIO = ("/sys/bus/i2c/drivers/ina3221x/*/iio:device*", "/sys/bus/i2c/drivers/ina3221x/*/iio_device")
HWMON = "/sys/class/hwmon/hwmon*"
MOST_W = 5000.0  # above what any rail of one machine carries: the chip or the bus is wrong
LEAST_W = -5.0  # a rail without load may read slightly below zero (a Thor's GPU: -0.4 W)


class Channel(Protocol):
    """One rail of one chip."""

    @property
    def label(self) -> str:
        """Its name on the board."""
        ...

    @property
    def path(self) -> str:
        """Where it is, for people."""
        ...

    def watts(self) -> float:
        """Its power now.

        Raises:
            CemlError: It cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class IioChannel:
    """A rail of the driver `ina3221x`; voltage and current of one conversion."""

    label: str
    path: str

    def watts(self) -> float:
        """Volts times amperes."""
        return _pair_w(sysfs.text(self.path), self.path)


@dataclass(frozen=True, slots=True)
class HwmonChannel:
    """A rail of the driver `ina3221`; voltage and current may be of conversions after each other."""

    label: str
    path: str  # of the voltage
    current: str

    def watts(self) -> float:
        """Volts times amperes."""
        return sysfs.number(self.path) * 1e-3 * (sysfs.number(self.current) * 1e-3)


@dataclass(frozen=True, slots=True)
class PowerChannel:
    """A rail that the chip gives as power."""

    label: str
    path: str

    def watts(self) -> float:
        """Microwatts as watts."""
        return sysfs.number(self.path) * 1e-6


def _pair_w(pair: str, path: str) -> float:
    try:
        millivolts, milliamperes = (int(word) for word in pair.split()[:2])
    except ValueError:
        raise Temporary(f"{path} should hold mV and mA and reads {pair[:40]!r}; it is tried again") from None
    return millivolts * 1e-3 * (milliamperes * 1e-3)


def channels(root: str) -> list[Channel]:
    """Every rail with a label in the tree at `root`; channels that are not connected (`NC`) or sums are left out."""
    found: list[Channel] = []
    for pattern in IIO:
        for path in sysfs.find(root, pattern):
            for number in range(3):
                label = _label(f"{path}/rail_name_{number}")
                if label:
                    found.append(IioChannel(label, f"{path}/ui_input_{number}"))
    for path in sysfs.find(root, HWMON):
        found += _hwmon(path)
    first: dict[str, Channel] = {}
    for channel in found:  # two patterns may name one device twice
        first.setdefault(channel.label, channel)
    return list(first.values())


def _hwmon(path: str) -> list[Channel]:
    found: list[Channel] = []
    for number in range(1, 4):
        label = _label(f"{path}/in{number}_label")
        if label and sysfs.exists(f"{path}/curr{number}_input"):
            found.append(HwmonChannel(label, f"{path}/in{number}_input", f"{path}/curr{number}_input"))
    for power in sysfs.find(path, "/power[0-9]*_input"):
        label = _label(power.replace("_input", "_label")) or _label(f"{path}/name")
        if label:
            found.append(PowerChannel(label, power))
    return found


def _label(path: str) -> str:
    try:
        label = sysfs.text(path)
    except CemlError:
        return ""
    return "" if "NC" in label.split("_") or label.startswith("sum of") else label


class PowerSensor:
    """Power of several rails at one moment, read in a thread of its own."""

    lag_s = 0.0  # the chips' default averages over milliseconds

    def __init__(
        self,
        name: str,
        rails: Mapping[str, str],
        find: Callable[[], Sequence[Channel]],
        *,
        needed: Sequence[str] = (),
        period_s: float,
    ) -> None:
        """Nothing is read before first use.

        Args:
            name: For logs.
            rails: Label on the board -> name of the rail.
            find: Finds the channels; asked again when one has gone, since numbers of directories change.
            needed: Rails without which the power of the board is not known; a reading without one of them is none.
            period_s: Seconds between two polls.
        """
        self.name = name
        self.period_s = period_s
        self._needed = frozenset(needed)
        self._rails = dict(rails)
        self._find = find
        self._channels: list[Channel] = []
        self._worker = Worker(name)

    async def read(self) -> Sample:
        """All rails that answer.

        Raises:
            Temporary: None answers, or one that is needed does not, or reads what no rail can carry.
            Unavailable: None is there any more, or one that is needed is not.
        """
        watts = await self._worker.run(self._read)
        return Sample(at_s=anyio.current_time(), rails_w=watts)

    def _read(self) -> dict[str, float]:
        if not self._channels:
            self._channels = [channel for channel in self._find() if channel.label in self._rails]
        rails_w: dict[str, float] = {}
        problem = absent = Unavailable(f"{self.name}: no rail of {', '.join(self._rails)} is there; see ceml doctor")
        for channel in self._channels:
            try:
                rails_w[self._rails[channel.label]] = _sane(channel.watts(), channel)
            except CemlError as error:
                if problem is absent or self._rails[channel.label] in self._needed:
                    problem = error  # what is needed is named before all others
                if isinstance(error, Unavailable):
                    self._channels = []  # look for all of them again the next time
        if not rails_w or self._needed - rails_w.keys():
            if problem.__class__ is Unavailable:
                self._channels = []  # look for all of them again the next time
            raise problem
        return rails_w


def _sane(watts: float, channel: Channel) -> float:
    if not LEAST_W <= watts <= MOST_W:
        raise Temporary(f"{channel.path} ({channel.label}) says {watts:g} W, which no rail carries; it is left out")
    return watts
