"""Reading a small file that anybody may have put there: never waiting for what is no file, never filling memory."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ceml.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def read_ordinary(path: str | Path, most: int, *, what: str, remedy: str = "give an ordinary file") -> bytes:
    """What an ordinary file holds.

    Args:
        path: Where it lies.
        most: Bytes that are read; what comes behind them is not looked at.
        what: What to call it in errors, e.g. `the budget file`.
        remedy: What to do where it is a pipe, a directory, a device.

    Raises:
        SettingsError: It is no ordinary file.
        OSError: It cannot be read.
        ValueError: There can be no such path.
    """
    _ordinary(os.stat(path), path, what, remedy)  # noqa: PTH116 - before opening: to open a device may do things
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _ordinary(os.fstat(file), path, what, remedy)
        data = bytearray()
        while len(data) < most and (part := os.read(file, most - len(data))):
            data += part
    finally:
        os.close(file)
    return bytes(data)


def _ordinary(found: os.stat_result, path: str | Path, what: str, remedy: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
        raise SettingsError(f"{what} {path} is {kind}: {remedy}")
