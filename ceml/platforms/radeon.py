"""AMD's library for GPUs (amdsmi): starting it, which of its errors pass, and putting back what was set through it.

It is imported when something is asked of it, so that `ceml restore` needs it only where a journal does.
https://rocm.docs.amd.com/projects/amdsmi
"""

from __future__ import annotations

import contextlib
import io
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ceml.errors import Unavailable
from ceml.saved import Unrestored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ceml.saved import Item

KIND = "amd"
NO_PERMISSION = 10  # AMDSMI_STATUS_NO_PERM
LEVEL = "AMDSMI_DEV_PERF_LEVEL_"  # how the names of performance levels begin when they are read

# API_FAILED, TIMEOUT, RETRY, INTERRUPT, IO, OUT_OF_RESOURCES, BUSY, NO_DATA, UNEXPECTED_SIZE, UNEXPECTED_DATA,
# AMDGPU_RESTART_ERR, of amdsmi_status_t
_PASSING = frozenset((7, 8, 9, 11, 12, 15, 30, 40, 42, 43, 54))


def started() -> Any:
    """The library, initialised; doing so twice is harmless.

    Raises:
        Unavailable: It is not installed, or there is no driver.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints when it does not find the library behind it
            library = import_module("amdsmi")
    except ImportError:
        raise Unavailable("amdsmi is not installed: pip install 'ceml-runtime[amd]'") from None
    except Exception as error:  # KeyError, OSError, AttributeError: as the Python part of it happens to stumble
        raise Unavailable(
            f"amdsmi finds no libamd_smi.so that fits ({type(error).__name__}: {error}): install AMD's package "
            "amd-smi-lib, and amdsmi of the same version"
        ) from None
    try:
        library.amdsmi_init()
    except library.AmdSmiException as error:
        raise Unavailable(
            f"amdsmi does not start: {told(error)}; is the driver amdgpu loaded (amd-smi list)?"
        ) from None
    return library


def code_of(error: Any) -> int:
    """The error's number; 0 where it has none (a wrong parameter)."""
    return int(getattr(error, "err_code", None) or 0)


def told(error: Any) -> str:
    """The error in one line."""
    return str(getattr(error, "err_info", "") or error).strip().replace("\n", " ")


def passing(error: Any) -> bool:
    """Whether it may be gone the next time."""
    return code_of(error) in _PASSING


def set_top_mhz(library: Any, handle: Any, mhz: int, least_mhz: int) -> None:
    """Let the graphics clock go up to this. Older versions of the library have only the call for a whole range."""
    if hasattr(library, "amdsmi_set_gpu_clk_limit"):
        library.amdsmi_set_gpu_clk_limit(handle, "sclk", "max", mhz)
    else:
        library.amdsmi_set_gpu_clk_range(handle, least_mhz, mhz, library.AmdSmiClkType.SYS)


def put_back(items: Iterable[Item]) -> tuple[Unrestored, ...]:
    """Set limits again, each on its own; what is of another kind is left alone."""
    own = [item for item in items if item.kind == KIND]
    if not own:
        return ()
    try:
        library = started()
    except Unavailable as error:
        return tuple(Unrestored(item.target, str(error)) for item in own)
    return tuple(Unrestored(item.target, reason) for item in own if (reason := _reason_against(library, item)))


def _reason_against(library: Any, item: Item) -> str:
    place, _, what = item.target.partition("#")
    value = item.value or ""
    try:
        handle = library.amdsmi_get_processor_handle_from_bdf(place)
        if what == "power_cap":
            library.amdsmi_set_power_cap(handle, 0, int(value))
        elif what == "gpu_clock":
            least, _, most = value.partition("..")
            set_top_mhz(library, handle, int(most), int(least))
        elif what == "perf_level":
            library.amdsmi_set_gpu_perf_level(handle, library.AmdSmiDevPerfLevel[value])
        else:
            return f"{what} is nothing this ceml knows"
    except library.AmdSmiException as error:
        return f"{told(error)}; by hand: sudo amd-smi reset --clocks --power-cap, or a reboot"
    except (ValueError, KeyError):
        return f"its prior value {item.value!r} means nothing to it"
    return ""
