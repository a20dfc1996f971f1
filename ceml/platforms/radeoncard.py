"""One AMD GPU behind amdsmi: asked and ordered by the names of its functions, and its sensor."""

from __future__ import annotations

from typing import Any

import anyio
import structlog

from ceml.domain.values import Sample
from ceml.errors import CemlError, Refused, Temporary, Unavailable
from ceml.platforms.radeon import NO_PERMISSION, code_of, passing, told
from ceml.platforms.sysfs import become_root
from ceml.platforms.worker import Worker

MOST_W = 5000.0  # no card draws more: a sentinel, or an energy counter that leapt
POWERS = ("current_socket_power", "average_socket_power", "socket_power")  # the first that is there; W
ZONES = {"EDGE": "", "HOTSPOT": " hotspot", "VRAM": " memory"}
HELD_BACK = {
    "active_ppt_pwr": "its power limit",
    "active_socket_thrm": "its temperature",
    "active_vr_thrm": "the temperature of its voltage regulators",
    "active_hbm_thrm": "the temperature of its memory",
    "active_prochot_thrm": "a signal of the board that it is hot",
}


class RadeonCard:
    """One GPU.

    Attributes:
        library: amdsmi.
        handle: What it calls the GPU.
        name: What people call it.
        place: Its address on the bus, which a restore finds it by.
        rail: Name of its rail.
    """

    def __init__(self, library: Any, index: int) -> None:
        """Find it.

        Raises:
            Unavailable: There is no such GPU.
        """
        self.library = library
        self.rail = f"gpu{index}" if index else "gpu"
        handles = self.ask("amdsmi_get_processor_handles")
        if not 0 <= index < len(handles):
            count = f"{len(handles)} GPU{'s' if len(handles) != 1 else ''}"
            raise Unavailable(f"gpu={index}: amdsmi finds {count}; they count from 0")
        self.handle = handles[index]
        self.place = str(self.ask("amdsmi_get_gpu_device_bdf", self.handle))
        self.name = str(self.ask("amdsmi_get_gpu_asic_info", self.handle).get("market_name", "GPU"))

    def ask(self, name: str, *given: Any) -> Any:
        """Read something by the name of amdsmi's function.

        Raises:
            Temporary: Not this time.
            Unavailable: This GPU, driver, library or user has it not.
        """
        call = getattr(self.library, name, None)
        if call is None:
            raise Unavailable(f"{name} is not in this amdsmi: install the version of the driver")
        try:
            return call(*given)
        except self.library.AmdSmiException as error:
            if passing(error):
                raise Temporary(f"{name}: {told(error)}; it is tried again") from None
            raise Unavailable(f"{name}: {told(error)}; this GPU or driver has no such value") from None

    def order(self, knob: str, name: str, *given: Any) -> None:
        """Set something by the name of amdsmi's function.

        Raises:
            Temporary: Not this time.
            Refused: It will not, or this user may not.
        """
        try:
            getattr(self.library, name)(self.handle, *given)
        except AttributeError:
            raise Refused(f"{name} is not in this amdsmi: install the version of the driver", knob=knob) from None
        except self.library.AmdSmiException as error:
            if passing(error):
                raise Temporary(f"{name}{given}: {told(error)}; it is tried again") from None
            denied = code_of(error) == NO_PERMISSION
            remedy = become_root() if denied else "this GPU does not take it"
            raise Refused(f"{name}{given}: {told(error)}; {remedy}", knob=knob) from None


class RadeonSensor:
    """Power, load and temperatures. Power from the energy counter where there is one, else as the driver gives it."""

    def __init__(self, card: RadeonCard, *, period_s: float) -> None:
        """Probe which values this GPU has."""
        self.name = f"{card.rail} by amdsmi"
        self.period_s = period_s
        self._card = card
        self._counts = self._has(self._joules)
        self.measures_power = self._counts or self._has(self._watts)
        self.lag_s = (
            0.1 if self._counts else 1.0
        )  # `average_socket_power` is the driver's mean; over how long is not said
        kinds = card.library.AmdSmiTemperatureType
        self.zones = {
            f"{card.rail}{said}": kinds[kind]
            for kind, said in ZONES.items()
            if self._has(lambda kind=kind: self._heat(kinds[kind]))
        }
        self._held_back = ""
        self._before: tuple[float, float] | None = None
        self._worker = Worker(self.name)

    def _has(self, ask: Any) -> bool:
        try:
            ask()
        except Unavailable:
            return False
        except Temporary:
            return True
        return True

    def _joules(self) -> float:
        """The counter counts units of `counter_resolution` microjoules (15.3 on most)."""
        found = self._card.ask("amdsmi_get_energy_count", self._card.handle)
        count, resolution_uj = found.get("energy_accumulator", found.get("power", 0)), found["counter_resolution"]
        if not (count and resolution_uj > 0):
            raise Unavailable("its energy counter stands at 0: it has none")
        return float(count) * float(resolution_uj) * 1e-6

    def _watts(self) -> float:
        found = self._card.ask("amdsmi_get_power_info", self._card.handle)
        for name in POWERS:
            watts = found.get(name)
            if isinstance(watts, int | float) and 0 < watts < MOST_W:  # else "N/A", or all bits set
                return float(watts)
        raise Unavailable("amdsmi_get_power_info says N/A: this GPU does not measure its power")

    def _heat(self, kind: Any) -> float:
        return float(
            self._card.ask(
                "amdsmi_get_temp_metric", self._card.handle, kind, self._card.library.AmdSmiTemperatureMetric.CURRENT
            )
        )

    async def read(self) -> Sample:
        """What the GPU says; the first reading of an energy counter has no power.

        Raises:
            Temporary: Nothing answers this time.
        """
        joules, watts, busy, heat = await self._worker.run(self._read)
        now_s, rail = anyio.current_time(), self._card.rail
        if joules is None:
            rails_w = {} if watts is None else {rail: watts}
            return Sample(at_s=now_s, rails_w=rails_w, utilisation=busy, temperatures_c=heat)
        before, self._before = self._before, (now_s, joules)
        if before is None or now_s <= before[0] or not 0 <= joules - before[1] < MOST_W * (now_s - before[0]):
            return Sample(at_s=now_s, utilisation=busy, temperatures_c=heat)  # the first, or the driver began anew
        took_s = now_s - before[0]
        mean_w = (joules - before[1]) / took_s
        return Sample(at_s=now_s, rails_w={rail: mean_w}, utilisation=busy, temperatures_c=heat, covers_s=took_s)

    def _read(self) -> tuple[float | None, float | None, dict[str, float], dict[str, float]]:
        joules = self._joules() if self._counts else None
        watts = self._watts() if self.measures_power and not self._counts else None
        busy: dict[str, float] = {}
        heat: dict[str, float] = {}
        try:
            found = self._card.ask("amdsmi_get_gpu_activity", self._card.handle)
            index = self._card.rail.removeprefix("gpu")
            for device, name in ((f"gpu{index}", "gfx_activity"), (f"mem{index}", "umc_activity")):
                if isinstance(found.get(name), int | float):  # else "N/A"
                    busy[device] = min(max(found[name] / 100.0, 0.0), 1.0)
            heat = {zone: self._heat(kind) for zone, kind in self.zones.items()}
            self._say_what_holds_it_back()
        except CemlError:
            if joules is None and watts is None:
                raise
        return joules, watts, busy, heat

    def _say_what_holds_it_back(self) -> None:
        """Say once when the GPU is not at the clock that was asked for, and why; not every GPU tells."""
        try:
            found = self._card.ask("amdsmi_get_violation_status", self._card.handle)
        except CemlError:
            return
        why = " and ".join(said for name, said in HELD_BACK.items() if found.get(name) is True)
        if why and why != self._held_back:
            structlog.get_logger().warning("gpu_held_back", gpu=self._card.rail, by=why)
        self._held_back = why
