"""The end of a pipe that others write to: nothing that was written is lost, and nothing can be written in vain.

Between a last read and the close of a pipe there is always a moment in which a write succeeds and is lost. So the pipe
is filled up first: from then on programs are told that there is no room (their steps go with the next beat, to the next
listener). What is in it is doubled, which makes no room, unlike reading; then it is closed, and its double read.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os

SPLICE_F_NONBLOCK = 2  # splice.h
FILLING = 1 << 16  # bytes a write; the last ones are smaller, down to one: then no line fits any more


def close_and_read(fd: int) -> bytes:
    """Close a pipe that is open for reading and writing, without waiting; returns what had been written to it.

    Where the system cannot double it, it is read until it is empty: lines of the last microseconds may be lost.
    """
    doubled, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    _fill(fd)
    rest = b"" if _double(fd, into) else _read(fd)
    os.close(fd)
    os.close(into)
    rest = rest or _read(doubled)
    os.close(doubled)
    return rest.rstrip(b"\n") + b"\n"


def _fill(fd: int) -> None:
    """With newlines, which say nothing."""
    size = FILLING
    while size:
        try:
            os.write(fd, b"\n" * size)
        except BlockingIOError:
            size //= 2


def _double(fd: int, into: int) -> bool:
    """Copy all that is in a full pipe, tee(2); False: not all of it."""
    with contextlib.suppress(OSError, AttributeError):  # a C library or a kernel without it; no room
        room = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, room)
        return ctypes.CDLL(None).tee(fd, into, room, SPLICE_F_NONBLOCK) > 0
    return False


def _read(fd: int) -> bytes:
    parts: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while part := os.read(fd, FILLING):
            parts.append(part)
    return b"".join(parts)
