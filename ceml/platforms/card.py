"""One NVIDIA GPU behind NVML: asked and ordered by the names of NVML's functions, and its sensor."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio

from ceml.domain.values import Sample
from ceml.errors import CemlError, Refused, Temporary, Unavailable
from ceml.platforms.nvidia import passing
from ceml.platforms.sysfs import become_root
from ceml.platforms.worker import Worker


class Card:
    """One GPU.

    Attributes:
        library: NVML.
        handle: What NVML calls it.
        name: What people call it.
        uuid: Its identity, which a restore finds it by.
        rail: Name of its rail.
    """

    def __init__(self, library: Any, index: int) -> None:
        """Find it.

        Raises:
            Unavailable: There is no such GPU.
        """
        self.library = library
        self.rail = f"gpu{index}" if index else "gpu"
        count = self.ask("nvmlDeviceGetCount")
        if not 0 <= index < count:
            raise Unavailable(f"gpu={index}: NVML finds {count} GPU{'s' if count != 1 else ''}; they count from 0")
        self.handle = self.ask("nvmlDeviceGetHandleByIndex", index)
        self.name = _text(self.ask("nvmlDeviceGetName", self.handle))
        self.uuid = _text(self.ask("nvmlDeviceGetUUID", self.handle))

    def ask(self, name: str, *given: Any) -> Any:
        """Read something by the name of NVML's function.

        Raises:
            Temporary: Not this time.
            Unavailable: This GPU, driver, library or user has it not.
        """
        call = getattr(self.library, name, None)
        if call is None:
            raise Unavailable(f"{name} is not in this nvidia-ml-py: pip install --upgrade nvidia-ml-py")
        try:
            return call(*given)
        except self.library.NVMLError as error:
            if passing(self.library, error):
                raise Temporary(f"{name}: {error}; it is tried again") from None
            raise Unavailable(f"{name}: {error}; this GPU or driver has no such value") from None

    def order(self, knob: str, name: str, *given: Any) -> None:
        """Set something by the name of NVML's function.

        Raises:
            Temporary: Not this time.
            Refused: It will not, or this user may not.
        """
        try:
            getattr(self.library, name)(self.handle, *given)
        except AttributeError:
            raise Refused(
                f"{name} is not in this nvidia-ml-py: pip install --upgrade nvidia-ml-py", knob=knob
            ) from None
        except self.library.NVMLError as error:
            if passing(self.library, error):
                raise Temporary(f"{name}{given}: {error}; it is tried again") from None
            denied = error.value == self.library.NVML_ERROR_NO_PERMISSION
            remedy = become_root() if denied else "this GPU does not take it"
            raise Refused(f"{name}{given}: {error}; {remedy}", knob=knob) from None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


_REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")  # new, old
_HELD_BY = {  # bits of nvml.h; not those that mean idle, our own clocks, or our own power limit
    0x08: "hardware slowdown",
    0x20: "too hot, by the driver",
    0x40: "too hot, by the hardware",
    0x80: "power brake",
}


class CardSensor:
    """Power, load and temperature. Power from the energy counter where there is one, else as the driver averages it."""

    def __init__(self, card: Card, *, period_s: float) -> None:
        """Probe which values this GPU has."""
        self.name = f"{card.rail} by nvml"
        self.period_s = period_s
        self._card = card
        self._counts = self._has("nvmlDeviceGetTotalEnergyConsumption")
        self.measures_power = self._counts or self._has("nvmlDeviceGetPowerUsage")
        self.lag_s = 0.1 if self._counts else 1.0  # the counter steps every 20 to 100 ms; power is a mean over 1 s
        self._throttles = next((name for name in _REASONS if self._has(name)), None)
        self._before: tuple[float, int] | None = None
        self._worker = Worker(self.name)

    def _has(self, name: str) -> bool:
        try:
            self._card.ask(name, self._card.handle)
        except Unavailable:
            return False
        except Temporary:
            return True
        return True

    async def read(self) -> Sample:
        """What the GPU says; the first reading of an energy counter has no power.

        Raises:
            Temporary: Nothing answers this time.
        """
        energy_mj, watts, busy, celsius, held = await self._worker.run(self._read)
        now_s, rail = anyio.current_time(), self._card.rail
        if energy_mj is None:
            rails_w = {} if watts is None else {rail: watts}
            return Sample(at_s=now_s, rails_w=rails_w, utilisation=busy, temperatures_c=celsius, throttled=held)
        before, self._before = self._before, (now_s, energy_mj)
        if before is None or energy_mj < before[1] or now_s <= before[0]:  # counts from the driver's start
            return Sample(at_s=now_s, utilisation=busy, temperatures_c=celsius, throttled=held)
        took_s = now_s - before[0]
        mean_w = (energy_mj - before[1]) * 1e-3 / took_s
        return Sample(
            at_s=now_s,
            rails_w={rail: mean_w},
            utilisation=busy,
            temperatures_c=celsius,
            covers_s=took_s,
            throttled=held,
        )

    def _read(self) -> tuple[int | None, float | None, dict[str, float], dict[str, float], tuple[str, ...]]:
        card, library = self._card, self._card.library
        energy_mj: int | None = None
        watts: float | None = None
        if self._counts:
            energy_mj = card.ask("nvmlDeviceGetTotalEnergyConsumption", card.handle)
        elif self.measures_power:
            watts = card.ask("nvmlDeviceGetPowerUsage", card.handle) * 1e-3
        busy: dict[str, float] = {}
        celsius: dict[str, float] = {}
        try:
            rates = card.ask("nvmlDeviceGetUtilizationRates", card.handle)
            index = card.rail.removeprefix("gpu")
            busy = {f"gpu{index}": rates.gpu / 100.0, f"mem{index}": rates.memory / 100.0}
            heat = card.ask("nvmlDeviceGetTemperature", card.handle, library.NVML_TEMPERATURE_GPU)
            celsius = {card.rail: float(heat)}
        except CemlError:
            if energy_mj is None and watts is None:
                raise
        held: tuple[str, ...] = ()
        if self._throttles is not None:
            with suppress(CemlError):
                bits = card.ask(self._throttles, card.handle)
                held = tuple(f"{card.rail}: {words}" for bit, words in _HELD_BY.items() if bits & bit)
        return energy_mj, watts, busy, celsius, held
