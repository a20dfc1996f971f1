"""Small values in files, as sysfs, debugfs and cgroups have them: read, write, put back. Standard library only.

One `os.write` is one order to the kernel, and only `os.read` tells EAGAIN from an empty file; Python's own files
write twice after an error and hide EAGAIN. So nothing here uses `open`. Every path begins with a root given by the
caller, so a tree under another directory is a machine like any other.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from glob import escape, glob
from typing import TYPE_CHECKING, TypeVar

from ceml.errors import Refused, Temporary, Unavailable
from ceml.saved import Item, Unrestored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

KIND = "sysfs"
PASSES = 6  # of putting back; each waits twice as long as the one before, 0.3 s in all
FIRST_WAIT_S = 0.01
HANGS_S = 2.0  # for one value; drivers take milliseconds, an EMC that waits for its firmware some tenths

# Errors that may be gone the next time. EBUSY: all processors of a policy are offline; ENODATA: a channel is off.
_PASSING = frozenset(
    {errno.EAGAIN, errno.EIO, errno.EBUSY, errno.ENODATA, errno.ETIMEDOUT, errno.EINTR, errno.ENXIO, errno.ENOMEM}
)
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.ENOTCONN})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


_CGROUPS = "/fs/cgroup/"
MEND = "mend the cause, then run ceml restore"
T = TypeVar("T")


# The file itself: OSError comes through -------------------------------------------------------------------------------


def raw_read(path: str) -> str:
    """All of a file as text without white space at its ends, bytes that are no text replaced.

    Raises:
        OSError: What the kernel said.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(descriptor, 65536)]
        while parts[-1] and len(parts[-1]) >= 4096:  # more than a page: not sysfs, but perhaps /proc or debugfs
            parts.append(os.read(descriptor, 65536))
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", "replace").strip(" \t\n\0")


def raw_write(path: str, value: object) -> None:
    """Write one value with one `write`: for the kernel each is a complete order.

    Raises:
        OSError: What the kernel said. A file that is not there is not made.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_TRUNC)  # sysfs ignores O_TRUNC, plain files need it
    try:
        os.write(descriptor, f"{value}\n".encode())
    finally:
        os.close(descriptor)


# The walls: OSError becomes what to do next ---------------------------------------------------------------------------


def text(path: str) -> str:
    """The text of a file.

    Raises:
        Temporary: Not this time.
        Unavailable: It is not there, or this user may not read it.
    """
    try:
        return raw_read(path)
    except OSError as error:
        said = f"{path} cannot be read: {error.strerror}"
        if error.errno in _PASSING:
            raise Temporary(f"{said}; it is tried again") from None
        raise Unavailable(f"{said}; {_remedy(path, error)}") from None


def number(path: str) -> int:
    """The whole number in a file.

    Raises:
        Temporary: Not this time, or no number stands there now.
        Unavailable: It is not there, or this user may not read it.
    """
    return _whole(path, text(path))


def known_number(path: str, known: Mapping[str, str]) -> int:
    """As `number`, of a file whose text may be known already.

    Raises:
        Temporary: Not this time, or no number stands there.
        Unavailable: It is not there, or this user may not read it.
    """
    return _whole(path, known[path]) if path in known else number(path)


def numbers(path: str) -> tuple[int, ...]:
    """The whole numbers in a file, in its order; what is no number is passed over.

    Raises:
        Temporary: Not this time.
        Unavailable: It is not there, or this user may not read it.
    """
    return tuple(int(word) for word in text(path).split() if word.isdecimal())


def _whole(path: str, found: str) -> int:
    try:
        return int(found)
    except ValueError:
        raise Temporary(f"{path} should hold a whole number and reads {found[:40]!r}; it is tried again") from None


class _Orders(threading.local):
    """Whether this thread may still give orders: one that was stuck in a driver may come back when all was put back."""

    given_up: Callable[[], bool] | None = None


orders = _Orders()


def stop_if_given_up() -> None:
    """Give no order any more where another thread took over.

    Raises:
        Temporary: It did.
    """
    if orders.given_up is not None and orders.given_up():
        raise Temporary("everything was put back while a driver gave no answer: nothing more is written")


def order(path: str, value: object, *, knob: str) -> None:
    """Write a value. That this returns proves nothing: read back what came of it.

    Raises:
        Temporary: Not this time; it is busy, or gone for now.
        Refused: The kernel would not take it, or this user may not write it.
    """
    stop_if_given_up()
    try:
        raw_write(path, value)
    except OSError as error:
        said = f"{path} does not take {value}: {error.strerror}"
        if error.errno in _PASSING | _GONE:
            raise Temporary(f"{said}; it is tried again") from None
        raise Refused(f"{said}; {_remedy(path, error)}", knob=knob) from None


def exists(path: str) -> bool:
    """Whether something is there that this user can see."""
    return os.path.exists(path)  # noqa: PTH110 - paths are text here: pathlib costs 2 ms at the start of `ceml restore`


def writable(path: str) -> bool:
    """Whether the kernel lets this user open it for writing; a lockdown refuses even root. Nothing is written."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in _DENIED
    return True


def under(root: str, path: str) -> str:
    """The absolute path of `/sys/...` in the tree at `root`."""
    return os.path.normpath(f"{root}/{path}") if root not in ("", "/") else path


def find(root: str, pattern: str) -> list[str]:
    """What matches a pattern such as `/sys/class/hwmon/hwmon*` in the tree at `root`, sorted by name and number."""
    base = "" if root in ("", "/") else escape(os.path.normpath(root))
    return sorted(glob(base + pattern), key=lambda path: (len(path), path))  # noqa: PTH207


def become_root() -> str:
    """What to do where this user may not: become root; who is root already is told who else can forbid it."""
    if os.geteuid() == 0:
        return (
            "not even root may here: a container, a read-only file system or the kernel's lockdown forbids it "
            "(cat /sys/kernel/security/lockdown)"
        )
    return "run ceml as root (sudo ceml serve)"


def _remedy(path: str, error: OSError) -> str:
    if error.errno in _DENIED:
        return f"this user may not: {become_root()}, see ceml doctor"
    if error.errno in _GONE and "/kernel/debug" in path:
        return "mount it: sudo mount -t debugfs none /sys/kernel/debug"
    if error.errno in _GONE:
        return "the device is not there (any more), or this kernel has no such file; see ceml doctor"
    return "the value or its order is not allowed now"


# Putting back ---------------------------------------------------------------------------------------------------------


def kept(paths: Iterable[str]) -> tuple[Item, ...]:
    """Items for the files that can be read and hold a value one can write again; the others are left out."""
    found: list[Item] = []
    for path in paths:
        try:
            value = raw_read(path)
        except OSError:
            continue
        if value and not value.startswith("<") and value != "undefined":  # cpufreq's <unsupported>, devfreq's undefined
            found.append(Item(KIND, path, value))
    return tuple(found)


def read_otherwise(items: Sequence[Item], failed: Sequence[Unrestored]) -> tuple[str, ...]:
    """A sentence on each number that was put back and reads otherwise: its owner may hold it, or the write did nothing.

    Args:
        items: What was put back.
        failed: Those of them that could not be.
    """
    said: list[str] = []
    known = {each.target for each in failed}
    for item in items:
        if item.kind != KIND or item.target in known or item.value is None or not item.value.isdecimal():
            continue
        try:
            found = _in_time(lambda path=item.target: raw_read(path))
        except (OSError, _Silent):
            continue
        if found != item.value:
            said.append(
                f"{item.target} was written {item.value} and reads {found}: cooling or another owner may hold it, "
                "or the kernel rounds it"
            )
    return tuple(said)


def put_back(items: Sequence[Item]) -> tuple[Unrestored, ...]:
    """Write the saved values, each on its own, in their order; what is of another kind is left alone. Idempotent.

    What a kernel refuses is tried again after the others: 4.9 takes no minimum above the maximum, so which of the
    two must be first depends on where they stand. Words and flags must then read as written. Other numbers are
    requests, and what is read is what the kernel made of it (another owner, such as cooling, may hold it down).

    Returns:
        What could not be put back, and why; nothing is raised for one item.
    """
    waiting, silent = [(item, "") for item in items if item.kind == KIND], list[Unrestored]()
    for attempt in range(PASSES):
        before, left = len(waiting), list[tuple[Item, str]]()
        for item, _ in waiting:
            try:
                reason = _reason_against(item)
            except _Silent:
                told = f"it gave no answer within {HANGS_S:g} s; it should hold {item.value}: {MEND}"
                silent.append(Unrestored(item.target, told))
                continue
            if reason:
                left.append((item, reason))
        waiting = left
        if not waiting:
            break
        if len(waiting) == before and attempt < PASSES - 1:
            time.sleep(FIRST_WAIT_S * 2**attempt)
    return (*silent, *(Unrestored(item.target, reason) for item, reason in waiting))


def _reason_against(item: Item) -> str:
    """Put one value back; empty, or why it did not work."""
    if item.value is None:
        return "its prior value is not known: reboot to reset it"
    try:
        _in_time(lambda: raw_write(item.target, item.value))
        if not item.value.isdecimal() or item.value in ("0", "1"):
            found = _in_time(lambda: raw_read(item.target))
            if found != item.value:
                return f"it was written {item.value} and reads {found}"
    except OSError as error:
        if error.errno == errno.ENOENT and _CGROUPS in item.target and not exists(item.target.rpartition("/")[0]):
            return ""  # the group is gone with its program: nothing is left to put back
        return f"{error.strerror}; it should hold {item.value}: {MEND}"
    return ""


class _Silent(Exception):
    """A driver does not come back."""


def _in_time(call: Callable[[], T]) -> T:
    """In a thread of its own, so that one driver that never comes back does not keep the others turned.

    Raises:
        OSError: What the kernel said.
        _Silent: Nothing.
    """
    came: list[T] = []
    refused: list[OSError] = []

    def run() -> None:
        try:
            came.append(call())
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(HANGS_S)
    if refused:
        raise refused[0]
    if not came:
        raise _Silent
    return came[0]
