"""Which process speaks: a pid counts only while that process holds our pipe open."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_STATE, _START_TIME = 0, 19  # fields 3 and 22 of /proc/PID/stat, counted after the name, proc_pid_stat(5)
MOST_BYTES = 4096  # some fifty numbers and a short name
MOST_FILES = 1024  # open files of one process that are looked at


class Processes:
    """What /proc says of the programs that write to one pipe."""

    def __init__(self, path: Path, *pipes: os.stat_result) -> None:
        """Remember pipes by device and inode; their name only spares looking at every open file."""
        self._name = path.name
        self._pipes = {(pipe.st_dev, pipe.st_ino) for pipe in pipes}

    def watch(self, pipe: os.stat_result) -> None:
        """Remember one more: made anew under the same name."""
        self._pipes.add((pipe.st_dev, pipe.st_ino))

    def identify(self, pid: int) -> int | None:
        """The start time of a process that holds our pipe open, in clock ticks since boot.

        None for a pid that is not here, belongs to another namespace or was made up, for our own, and where we lack
        the permission to look: then nothing is known of that process.
        """
        if pid == os.getpid():
            return None
        with contextlib.suppress(OSError):
            for count, descriptor in enumerate(Path(f"/proc/{pid}/fd").iterdir()):
                if count >= MOST_FILES:
                    return None
                if self._is_ours(descriptor):
                    return _start_time(pid)
        return None

    def alive(self, pid: int, identity: int) -> bool:
        """Whether the process that started then still runs; a zombie does not."""
        return _start_time(pid) == identity

    def _is_ours(self, descriptor: Path) -> bool:
        with contextlib.suppress(OSError):  # closed meanwhile
            if self._name in descriptor.readlink().name:
                found = descriptor.stat()
                return (found.st_dev, found.st_ino) in self._pipes
        return False


def _start_time(pid: int) -> int | None:
    try:
        stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # a Path would ask five more questions
    except OSError:
        return None
    try:
        text = os.read(stat, MOST_BYTES)
    except OSError:  # it ended between the two
        return None
    finally:
        os.close(stat)
    fields = text.rpartition(b")")[2].split()  # the name in parentheses may hold spaces and parentheses itself
    return None if fields[_STATE] in (b"Z", b"X") else int(fields[_START_TIME])
