"""amdsmi as a fake object: the real names, structures, units and error codes (7.0), a GPU that is made up.

Only what a platform asks for is there. As the real one, it takes nothing but its own handles, enumerations and whole
numbers.
"""

from __future__ import annotations

import json
import re
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

BDF = "0000:03:00.0"
STATUS = {
    1: "AMDSMI_STATUS_INVAL - Invalid parameters",
    2: "AMDSMI_STATUS_NOT_SUPPORTED - Feature not supported",
    9: "AMDSMI_STATUS_RETRY - Retry operation",
    10: "AMDSMI_STATUS_NO_PERM - Permission Denied",
    30: "AMDSMI_STATUS_BUSY - Device busy",
    31: "AMDSMI_STATUS_NOT_FOUND - Device Not found",
    34: "AMDSMI_STATUS_DRIVER_NOT_LOADED - Driver not loaded",
}


class AmdSmiException(Exception):
    """As of amdsmi."""


class AmdSmiLibraryException(AmdSmiException):
    """As of amdsmi: carries the status as `err_code` and its text as `err_info`."""

    def __init__(self, err_code: int) -> None:
        super().__init__(err_code)
        self.err_code = err_code
        self.err_info = STATUS.get(err_code, "AMDSMI_STATUS_UNKNOWN_ERROR - An unknown error occurred")

    def __str__(self) -> str:
        return f"Error code:\n\t{self.err_code} | {self.err_info}"


class AmdSmiParameterException(AmdSmiException):
    """As of amdsmi: an argument of another type."""

    def __init__(self, value: object, expected: type) -> None:
        super().__init__(f"Invalid parameter:\nActual type: {type(value)}\nExpected type: {expected}")
        self.err_code = None


class Handle:
    """What amdsmi calls a GPU (a pointer); it takes nothing else for one."""


class FakeAmdsmi:
    """Stands in for the module `amdsmi`.

    Attributes:
        count: How many GPUs there are; -1: no driver.
        denied: Setters answer NO_PERM.
        lacking: Names of functions that answer NOT_SUPPORTED.
        failing: Name of a function -> status that it answers.
        absent: Names of functions that this version has not.
        idle: The GPU has nothing to do.
        ignores_limit: The clock goes where it wants.
        per_watt: Units of the power cap in a watt: 1 000 000, or 1 on a virtualisation host.
        cap_w: Power cap.
        range_mhz: Lowest and highest graphics clock allowed.
        level: Performance level.
        held_back: Power pulls the clock down.
    """

    class AmdSmiClkType(IntEnum):
        """As of amdsmi."""

        SYS = 0
        GFX = 0
        MEM = 4

    class AmdSmiTemperatureType(IntEnum):
        """As of amdsmi."""

        EDGE = 0
        HOTSPOT = 1
        JUNCTION = 1
        VRAM = 2

    class AmdSmiTemperatureMetric(IntEnum):
        """As of amdsmi."""

        CURRENT = 0

    class AmdSmiDevPerfLevel(IntEnum):
        """As of amdsmi."""

        AUTO = 0
        LOW = 1
        HIGH = 2
        MANUAL = 3
        DETERMINISM = 8

    AmdSmiException = AmdSmiException
    AmdSmiLibraryException = AmdSmiLibraryException
    AmdSmiParameterException = AmdSmiParameterException
    CLOCKS_MHZ = (500, 2100)
    CAPS_W = (150, 300)

    def __init__(self, count: int = 1, *, state: Path | None = None) -> None:
        """A GPU at work, as the driver has it.

        Args:
            count: How many.
            state: File in which what was set outlives this process, as it does in a driver.
        """
        self._state = state
        self.count = count
        self.denied = self.idle = self.ignores_limit = self.held_back = False
        self.lacking: set[str] = set()
        self.failing: dict[str, int] = {}
        self.absent: set[str] = set()
        self.per_watt = 1_000_000
        self.cap_w = 300.0
        self.range_mhz = self.CLOCKS_MHZ
        self.level = "AUTO"
        self._handles = [Handle() for _ in range(max(count, 0))]
        self._from_s = time.monotonic() - 10.0
        if state is not None and state.exists():
            self.cap_w, range_mhz, self.level = json.loads(state.read_text())
            self.range_mhz = (range_mhz[0], range_mhz[1])

    def __getattribute__(self, name: str) -> Any:
        """Faults come before the function itself."""
        found = super().__getattribute__(name)
        if not name.startswith("amdsmi_") or name == "amdsmi_init":
            return found
        if name in self.absent:
            raise AttributeError(name)
        status = 2 if name in self.lacking else self.failing.get(name, 0)
        if self.denied and "_set_" in name:
            status = 10
        return _raising(status) if status else found

    def amdsmi_init(self) -> None:
        if self.count < 0:
            raise AmdSmiLibraryException(34)

    def amdsmi_get_processor_handles(self) -> list[Handle]:
        return list(self._handles)

    def amdsmi_get_processor_handle_from_bdf(self, bdf: str) -> Handle:
        found = re.fullmatch(r"0000:([0-9a-f]{2}):00\.0", bdf)
        at = int(found[1], 16) - 3 if found else -1
        if not 0 <= at < len(self._handles):
            raise AmdSmiLibraryException(31)
        return self._handles[at]

    def amdsmi_get_gpu_device_bdf(self, handle: Handle) -> str:
        return f"0000:{self._at(handle) + 3:02x}:00.0"

    def amdsmi_get_gpu_asic_info(self, handle: Handle) -> dict[str, Any]:
        self._at(handle)
        return {"market_name": "Fake Instinct", "vendor_name": "Advanced Micro Devices Inc. [AMD/ATI]"}

    def amdsmi_get_power_cap_info(self, handle: Handle) -> dict[str, int]:
        self._at(handle)
        least, most = (watts * self.per_watt for watts in self.CAPS_W)
        cap = round(self.cap_w * self.per_watt)
        return {
            "power_cap": cap,
            "default_power_cap": most,
            "dpm_cap": 0,
            "min_power_cap": least,
            "max_power_cap": most,
        }

    def amdsmi_set_power_cap(self, handle: Handle, sensor: int, cap: int) -> None:
        self._at(handle)
        _whole(sensor, cap)
        watts = cap / self.per_watt
        if sensor != 0 or not self.CAPS_W[0] <= watts <= self.CAPS_W[1]:
            raise AmdSmiLibraryException(1)
        self.cap_w = watts
        self._keep()

    def amdsmi_get_clk_freq(self, handle: Handle, kind: Any) -> dict[str, Any]:
        """On newer chips the list is the lowest, the present and the highest clock; in Hz."""
        self._at(handle)
        self._kind(kind)
        listed = sorted({self.CLOCKS_MHZ[0], self._clock_mhz(), self.CLOCKS_MHZ[1]})
        return {"num_supported": len(listed), "current": 1, "frequency": [mhz * 1_000_000 for mhz in listed]}

    def amdsmi_get_clock_info(self, handle: Handle, kind: Any) -> dict[str, Any]:
        self._at(handle)
        self._kind(kind)
        least, most = self.range_mhz
        return {"clk": self._clock_mhz(), "min_clk": least, "max_clk": most, "clk_locked": "N/A", "clk_deep_sleep": 255}

    def amdsmi_set_gpu_clk_limit(self, handle: Handle, clk_type: str, limit_type: str, value: int) -> None:
        _whole(value)
        if (clk_type, limit_type) != ("sclk", "max"):
            raise AmdSmiLibraryException(2)
        self.amdsmi_set_gpu_clk_range(handle, self.range_mhz[0], value, self.AmdSmiClkType.SYS)

    def amdsmi_set_gpu_clk_range(self, handle: Handle, least: int, most: int, kind: Any) -> None:
        """The driver takes limits by hand only."""
        self._at(handle)
        self._kind(kind)
        _whole(least, most)
        if not self.CLOCKS_MHZ[0] <= least <= most <= self.CLOCKS_MHZ[1]:
            raise AmdSmiLibraryException(1)
        self.range_mhz, self.level = (least, most), "MANUAL"
        self._keep()

    def amdsmi_get_gpu_perf_level(self, handle: Handle) -> str:
        self._at(handle)
        return f"AMDSMI_DEV_PERF_LEVEL_{self.level}"

    def amdsmi_set_gpu_perf_level(self, handle: Handle, level: Any) -> None:
        self._at(handle)
        if not isinstance(level, self.AmdSmiDevPerfLevel):
            raise AmdSmiParameterException(level, self.AmdSmiDevPerfLevel)
        self.level = level.name
        self._keep()

    def amdsmi_get_energy_count(self, handle: Handle) -> dict[str, Any]:
        """Units of 15.3 uJ, as the hardware counts."""
        self._at(handle)
        joules = (time.monotonic() - self._from_s) * self._watts()
        return {"energy_accumulator": round(joules / 15.3e-6), "counter_resolution": 15.3, "timestamp": 1}

    def amdsmi_get_power_info(self, handle: Handle) -> dict[str, Any]:
        """Which of the powers is there depends on the chip; the others say N/A, or have all bits set."""
        self._at(handle)
        return {
            "socket_power": 0xFFFFFFFF,
            "current_socket_power": "N/A",
            "average_socket_power": round(self._watts()),
            "power_limit": round(self.cap_w),
        }

    def amdsmi_get_gpu_activity(self, handle: Handle) -> dict[str, Any]:
        self._at(handle)
        return {"gfx_activity": 0 if self.idle else 92, "umc_activity": 0 if self.idle else 47, "mm_activity": "N/A"}

    def amdsmi_get_temp_metric(self, handle: Handle, sensor: Any, metric: Any) -> int:
        self._at(handle)
        if not isinstance(sensor, self.AmdSmiTemperatureType):
            raise AmdSmiParameterException(sensor, self.AmdSmiTemperatureType)
        if not isinstance(metric, self.AmdSmiTemperatureMetric):
            raise AmdSmiParameterException(metric, self.AmdSmiTemperatureMetric)
        if sensor is self.AmdSmiTemperatureType.EDGE:
            raise AmdSmiLibraryException(2)  # accelerators have no edge sensor
        return 68

    def amdsmi_get_violation_status(self, handle: Handle) -> dict[str, Any]:
        self._at(handle)
        return {"active_ppt_pwr": self.held_back, "active_socket_thrm": False, "active_hbm_thrm": "N/A"}

    def _keep(self) -> None:
        if self._state is not None:
            fresh = self._state.with_suffix(".new")
            fresh.write_text(json.dumps([self.cap_w, self.range_mhz, self.level]))
            fresh.replace(self._state)

    def _at(self, handle: object) -> int:
        if not isinstance(handle, Handle):
            raise AmdSmiParameterException(handle, Handle)
        return self._handles.index(handle)

    def _kind(self, kind: object) -> None:
        if not isinstance(kind, self.AmdSmiClkType):
            raise AmdSmiParameterException(kind, self.AmdSmiClkType)

    def _clock_mhz(self) -> int:
        if self.idle:
            return self.CLOCKS_MHZ[0]
        return self.CLOCKS_MHZ[1] if self.ignores_limit else self.range_mhz[1]

    def _watts(self) -> float:
        return 40.0 if self.idle else min(self.cap_w, 280.0 * (self._clock_mhz() / self.CLOCKS_MHZ[1]) ** 2)


def _whole(*numbers: object) -> None:
    for number in numbers:
        if not isinstance(number, int):
            raise AmdSmiParameterException(number, int)


def _raising(status: int) -> Any:
    def call(*_given: Any) -> None:
        raise AmdSmiLibraryException(status)

    return call
