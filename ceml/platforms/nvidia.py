"""NVML, the library: starting it, which of its errors pass, and putting back what was set through it.

It is imported when something is asked of it, so that `ceml restore` needs it only where a journal does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ceml.errors import Unavailable
from ceml.saved import Unrestored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ceml.saved import Item

KIND = "nvml"

_PASSING = ("TIMEOUT", "IN_USE", "NO_DATA", "NOT_READY", "GPU_IS_LOST", "UNKNOWN", "MEMORY", "INSUFFICIENT_RESOURCES")


def started() -> Any:
    """The library, initialised; doing so twice is harmless.

    Raises:
        Unavailable: It is not installed, or there is no driver.
    """
    try:
        library = import_module("pynvml")
    except ImportError:
        raise Unavailable("nvidia-ml-py is not installed: pip install 'ceml-runtime[nvidia]'") from None
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        raise Unavailable(f"NVML does not start: {error}; is the NVIDIA driver loaded (nvidia-smi)?") from None
    return library


def passing(library: Any, error: Any) -> bool:
    """Whether an error may be gone the next time."""
    return any(error.value == getattr(library, f"NVML_ERROR_{name}", None) for name in _PASSING)


def put_back(items: Iterable[Item]) -> tuple[Unrestored, ...]:
    """Reset locked clocks and set limits again, each on its own; what is of another kind is left alone."""
    own = [item for item in items if item.kind == KIND]
    if not own:
        return ()
    try:
        library = started()
    except Unavailable as error:
        return tuple(Unrestored(item.target, str(error)) for item in own)
    return tuple(Unrestored(item.target, reason) for item in own if (reason := _reason_against(library, item)))


def _reason_against(library: Any, item: Item) -> str:
    uuid, _, what = item.target.partition("#")
    try:
        handle = library.nvmlDeviceGetHandleByUUID(uuid)
        if what == "power_limit":
            library.nvmlDeviceSetPowerManagementLimit(handle, int(item.value or ""))
        elif what == "gpu_clocks":
            library.nvmlDeviceResetGpuLockedClocks(handle)
        elif what == "mem_clocks":
            library.nvmlDeviceResetMemoryLockedClocks(handle)
        else:
            return f"{what} is nothing this ceml knows"
    except library.NVMLError as error:
        return f"{error}; by hand: sudo nvidia-smi -rgc -rmc, sudo nvidia-smi -pl WATTS"
    except ValueError:
        return f"its prior value {item.value!r} is no number"
    return ""
