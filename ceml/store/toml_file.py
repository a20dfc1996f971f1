"""A small TOML file that a person writes."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ceml.errors import SettingsError
from ceml.ordinary import read_ordinary

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 1 << 16  # bytes; what a person writes by hand is a hundredth of it

_toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def read_toml(path: Path, what: str, *, longest: int = LONGEST) -> dict[str, Any]:
    """What the file says.

    Args:
        path: Where it lies.
        what: What to call it in errors, e.g. `budget file`.
        longest: Bytes that it may have.

    Raises:
        SettingsError: It is no ordinary file, cannot be read, is too long, or is no TOML; the text names it.
    """
    try:
        data = read_ordinary(path, longest + 1, what=f"the {what}")
    except OSError as error:
        raise SettingsError(f"cannot read the {what} {path}: {error.strerror or error}") from None
    except ValueError:  # a null byte in the path
        raise SettingsError(f"the {what} {str(path)!r} can be no path") from None
    if len(data) > longest:
        raise SettingsError(f"the {what} {path} is longer than {longest} bytes: is it the right file?")
    try:
        return _toml.loads(data.decode("utf-8-sig"))  # editors of other systems write a byte order mark
    except UnicodeDecodeError:
        raise SettingsError(f"the {what} {path} is no text in UTF-8: is it the right file?") from None
    except RecursionError:
        raise SettingsError(f"the {what} {path} is nested too deeply to be one") from None
    except ValueError as error:
        raise SettingsError(f"the {what} {path} is no valid TOML: {error}") from None
