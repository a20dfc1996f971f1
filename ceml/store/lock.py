"""One writer at a time: a lock that lives exactly as long as its process. Standard library only."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from ceml.errors import SettingsError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path


class Held(SettingsError):
    """Another process holds it; when that is really gone, nobody does."""


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold `path` by flock, which the kernel drops when the process is really gone, so a stale lock cannot be.

    Raises:
        Held: Another process holds it.
        Unavailable: There is no file to lock and none can be made.
    """
    try:
        descriptor = _opened(path)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be opened: {error.strerror}. Mend that, or name another directory with --runtime-dir"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise Held(
                f"another ceml serve (pid {holder}) controls this machine: it holds {path}. "
                "Stop it first, or give this one another --runtime-dir."
            ) from None
        with suppress(OSError):  # the number is for messages; a full disk must not stop who puts knobs back
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o640)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | flags)  # a disk gone read-only must not stop who puts knobs back


@contextmanager
def claimed(directories: Iterable[str]) -> Generator[None]:
    """Hold what is turned itself, so that two servers with different runtime directories never turn the same.

    The locks are on directories of the kernel that stand for it, such as /sys: they are there for root and for every
    other user alike, nothing is written, and nothing is left behind. Where such a directory cannot be opened or locked
    it goes without. A container has a /sys of its own, unless it shares the network of its host: there it is another.

    Args:
        directories: See `ceml.control.ports.Platform.claims`.

    Raises:
        Held: Another process holds one of them.
    """
    with ExitStack() as held:
        for directory in sorted(set(directories)):
            try:
                descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue
            held.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Held(
                    f"another ceml ({_holder(descriptor)}) turns the same knobs: it holds {directory}. Stop it first; "
                    "another --runtime-dir does not make this another machine"
                ) from None
            except OSError:  # a file system without locks
                continue
        yield


def _holder(descriptor: int) -> str:
    """Who holds the lock on an open file, as the kernel tells it (proc_locks(5))."""
    found = os.fstat(descriptor)
    wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with suppress(OSError), open("/proc/locks", encoding="ascii") as file:  # noqa: PTH123 - as in sysfs.py: quick
        for line in file:
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5] == wanted:
                return f"pid {words[4]}"
    return "a process that cannot be seen from here, maybe in another container"


def holder_was_killed(path: Path) -> bool:
    """Whether who wrote its number into the lock was killed, and holds it while a driver holds one of its threads.

    Such a thread ends as soon as its call to the kernel does, before it does anything else.
    """
    try:
        pid = int(path.read_text(encoding="ascii"))
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            stat = file.read()
    except (OSError, ValueError, OverflowError):
        return False
    return stat.rpartition(")")[2].split()[:1] in (["Z"], ["X"])


def holder_lives(path: Path) -> bool:
    """Whether the process that wrote its number into the lock still runs; asks without ever holding the lock."""
    try:
        os.kill(int(path.read_text(encoding="ascii")), 0)
    except PermissionError:  # it runs, as somebody else
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True
