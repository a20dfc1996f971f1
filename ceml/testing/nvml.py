"""NVML as a fake object: the real names, units and error codes (nvidia-ml-py), a GPU that is made up."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

UUID = "GPU-00000000-0000-0000-0000-000000000001"


class NVMLError(Exception):
    """As of pynvml: carries the error code as `value`."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class FakeNvml:
    """Stands in for the module `pynvml`.

    Attributes:
        count: How many GPUs there are.
        denied: Setters answer NO_PERMISSION.
        lacking: Names of functions that answer NOT_SUPPORTED.
        failing: Name of a function -> error code that it answers.
        idle: The GPU has nothing to do, and rests below any lock.
        hot: The driver slows it down for its heat.
        pulled_mhz: Power or heat pull the graphics clock down to this.
        locked: `gpu` and `mem` -> MHz, None without a lock.
        limit_mw: Power limit.
        calls: Setters that were taken, in order.
    """

    NVMLError = NVMLError
    NVML_CLOCK_GRAPHICS, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 1, 2
    NVML_TEMPERATURE_GPU = 0
    NVML_ERROR_INVALID_ARGUMENT, NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION = 2, 3, 4
    NVML_ERROR_NOT_FOUND, NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_TIMEOUT = 6, 9, 10
    NVML_ERROR_GPU_IS_LOST, NVML_ERROR_IN_USE, NVML_ERROR_NO_DATA, NVML_ERROR_UNKNOWN = 15, 19, 20, 999
    MEMORY_MHZ = (810, 5001, 9501)
    GRAPHICS_MHZ = tuple(range(210, 2101, 15))

    def __init__(self, count: int = 1) -> None:
        """A GPU at work, nothing locked."""
        self.count = count
        self.denied = False
        self.lacking: set[str] = set()
        self.failing: dict[str, int] = {}
        self.idle = False
        self.hot = False
        self.pulled_mhz: int | None = None
        self.locked: dict[str, int | None] = {"gpu": None, "mem": None}
        self.limit_mw = 300_000
        self.calls: list[tuple[Any, ...]] = []
        self._from_s = time.monotonic()

    def __getattribute__(self, name: str) -> Any:
        """Faults come before the function itself."""
        found = super().__getattribute__(name)
        if not name.startswith("nvmlDevice"):
            return found
        if name in self.lacking:
            return _raising(name, self.NVML_ERROR_NOT_SUPPORTED)
        if name in self.failing:
            return _raising(name, self.failing[name])
        if self.denied and ("Set" in name or "Reset" in name):
            return _raising(name, self.NVML_ERROR_NO_PERMISSION)
        return found

    def nvmlInit(self) -> None:
        if self.count < 0:
            raise NVMLError(self.NVML_ERROR_DRIVER_NOT_LOADED)

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        if uuid != UUID:
            raise NVMLError(self.NVML_ERROR_NOT_FOUND)
        return 0

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "Fake GPU"

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return UUID

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:
        return SimpleNamespace(busId=f"00000000:{handle + 1:02X}:00.0")

    def nvmlDeviceGetSupportedMemoryClocks(self, handle: int) -> list[int]:
        return list(reversed(self.MEMORY_MHZ))

    def nvmlDeviceGetSupportedGraphicsClocks(self, handle: int, memory_mhz: int) -> list[int]:
        if memory_mhz not in self.MEMORY_MHZ:
            raise NVMLError(self.NVML_ERROR_NOT_FOUND)
        return list(reversed(self.GRAPHICS_MHZ))

    def nvmlDeviceSetGpuLockedClocks(self, handle: int, low: int, high: int) -> None:
        self._lock("gpu", low, high)

    def nvmlDeviceSetMemoryLockedClocks(self, handle: int, low: int, high: int) -> None:
        self._lock("mem", low, high)

    def nvmlDeviceResetGpuLockedClocks(self, handle: int) -> None:
        self.locked["gpu"] = None

    def nvmlDeviceResetMemoryLockedClocks(self, handle: int) -> None:
        self.locked["mem"] = None

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        memory = kind == self.NVML_CLOCK_MEM
        if self.idle:
            return self.MEMORY_MHZ[0] if memory else self.GRAPHICS_MHZ[0]
        top = (self.MEMORY_MHZ if memory else self.GRAPHICS_MHZ)[-1]
        found = self.locked["mem" if memory else "gpu"] or top
        return found if memory or self.pulled_mhz is None else min(found, self.pulled_mhz)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        return (1 if self.idle else 0) | (4 if self.pulled_mhz is not None else 0) | (0x20 if self.hot else 0)

    def nvmlDeviceGetPowerManagementLimit(self, handle: int) -> int:
        return self.limit_mw

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: int) -> tuple[int, int]:
        return 100_000, 350_000

    def nvmlDeviceSetPowerManagementLimit(self, handle: int, limit_mw: int) -> None:
        if not 100_000 <= limit_mw <= 350_000:
            raise NVMLError(self.NVML_ERROR_INVALID_ARGUMENT)
        self.limit_mw = limit_mw

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return round((time.monotonic() - self._from_s) * self._watts() * 1e3)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return round(self._watts() * 1e3)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=0 if self.idle else 87, memory=0 if self.idle else 41)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 61

    def _lock(self, device: str, low: int, high: int) -> None:
        if low > high or low <= 0:
            raise NVMLError(self.NVML_ERROR_INVALID_ARGUMENT)
        self.locked[device] = high
        self.calls.append((device, low, high))

    def _watts(self) -> float:
        return 25.0 if self.idle else 180.0


def _raising(name: str, code: int) -> Any:
    def call(*_given: Any) -> None:
        raise NVMLError(code)

    call.__name__ = name
    return call
