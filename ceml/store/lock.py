"""One writer at a time: a lock that lives exactly as long as its process. Standard library only."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ceml.errors import SettingsError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold `path` by flock, which the kernel drops when the process is really gone, so a stale lock cannot be.

    Raises:
        SettingsError: Another process holds it.
        Unavailable: There is no file to lock and none can be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be opened: {error.strerror}. Mend that, or name another directory with --runtime-dir"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise SettingsError(
                f"another ceml serve (pid {holder}) controls this machine: it holds {path}. "
                "Stop it first, or give this one another --runtime-dir."
            ) from None
        with suppress(OSError):  # the number is for messages; a full disk must not stop who puts knobs back
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder_lives(path: Path) -> bool:
    """Whether the process that wrote its number into the lock still runs; asks without ever holding the lock."""
    try:
        os.kill(int(path.read_text(encoding="ascii")), 0)
    except PermissionError:  # it runs, as somebody else
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True
