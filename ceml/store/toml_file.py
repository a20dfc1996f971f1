"""A small TOML file that a person writes, read without ever waiting for what is no file, or filling memory."""

from __future__ import annotations

import os
import stat
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ceml.errors import SettingsError

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
        data = _bytes(path, what, longest)
    except OSError as error:
        raise SettingsError(f"cannot read the {what} {path}: {error.strerror or error}") from None
    except ValueError:  # a null byte in the path
        raise SettingsError(f"the {what} {str(path)!r} can be no path") from None
    try:
        return _toml.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise SettingsError(f"the {what} {path} is no text in UTF-8: is it the right file?") from None
    except RecursionError:
        raise SettingsError(f"the {what} {path} is nested too deeply to be one") from None
    except ValueError as error:
        raise SettingsError(f"the {what} {path} is no valid TOML: {error}") from None


def _bytes(path: Path, what: str, longest: int) -> bytes:
    _ordinary(os.stat(path), path, what, longest)  # noqa: PTH116 - before opening: to open a device may do things
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _ordinary(os.fstat(file), path, what, longest)
        data = bytearray()
        while len(data) <= longest and (part := os.read(file, longest + 1 - len(data))):
            data += part
    finally:
        os.close(file)
    if len(data) > longest:  # it grew meanwhile
        raise _too_long(path, what, longest)
    return bytes(data)


def _ordinary(found: os.stat_result, path: Path, what: str, longest: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
        raise SettingsError(f"the {what} {path} is {kind}: give an ordinary file")
    if found.st_size > longest:
        raise _too_long(path, what, longest)


def _too_long(path: Path, what: str, longest: int) -> SettingsError:
    return SettingsError(f"the {what} {path} is longer than {longest} bytes: is it the right file?")
