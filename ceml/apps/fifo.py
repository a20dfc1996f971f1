"""A named pipe of ours: made, guarded, watched, and taken away at the end."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import stat
from typing import TYPE_CHECKING

from ceml.apps.lastwords import close_and_read
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

PIPE_BYTES = 1 << 20  # what a stalled loop may fall behind; the kernel's limit for those who are not root


class Fifo:
    """A named pipe of ours, open and locked.

    Attributes:
        path: Where it is.
        fd: Open for reading and writing: so there is no end of file when the last writer leaves.
        status: Device and inode.
    """

    def __init__(self, path: Path, group: str | None) -> None:
        """Make it, or take over the one that a crash left.

        Raises:
            SettingsError: The path or the group cannot be used; what is there is left as it is.
        """
        self.path = path
        self._gid = _gid(group)
        try:
            self._make_directory()
            while True:
                self.fd = self._open()
                self.status = os.fstat(self.fd)
                if self._still_there():  # else the listener before us removed it just now
                    break
                os.close(self.fd)
            self._prepare()
        except OSError as error:
            raise SettingsError(
                f"pipe {path}: {error.strerror}. Name a path in a directory that you may write to (--pipe PATH)."
            ) from error

    def close(self) -> bytes:
        """Take it away, if it is still ours, and close it: in this order nobody is left writing to a dead pipe.

        Returns:
            What had been written to it and not been read.
        """
        with contextlib.suppress(OSError):
            if self._still_there():
                self.path.unlink()
        return close_and_read(self.fd)

    def is_reachable(self) -> bool:
        """Whether programs that open the path find this pipe there; not so once it was removed or replaced."""
        with contextlib.suppress(OSError):
            return self._still_there()
        return False

    def _make_directory(self) -> None:
        directory = self.path.parent
        if not directory.exists():
            directory.mkdir(0o750)  # ours alone: a longer missing path is a slip of the pen, not a wish
            os.chown(directory, -1, self._gid)
            directory.chmod(0o750)  # once more: the umask won

    def _open(self) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.path, 0o600)
        self._check(self.path.lstat())
        fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY)
        try:
            self._check(os.fstat(fd))  # what we opened may be another thing than what we looked at
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise SettingsError(
                f"another ceml serve listens on {self.path}. Stop it, or name another pipe (--pipe PATH)."
            ) from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISFIFO(found.st_mode):
            raise SettingsError(
                f"pipe {self.path}: there is something else at this path, and it is left as it is. "
                "Move it away, or name another path (--pipe PATH)."
            )
        if found.st_uid != os.geteuid():
            raise SettingsError(
                f"pipe {self.path}: it belongs to user {found.st_uid}, we are user {os.geteuid()}. "
                "Remove it as its owner, or name another path (--pipe PATH)."
            )

    def _still_there(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            found = self.path.lstat()
            return (found.st_dev, found.st_ino) == (self.status.st_dev, self.status.st_ino)
        return False

    def _prepare(self) -> None:
        try:
            os.fchown(self.fd, -1, self._gid)
            os.fchmod(self.fd, 0o620 if self._gid >= 0 else 0o600)
        except PermissionError as error:
            self.close()
            raise SettingsError(
                f"pipe group {self._gid}: {error.strerror}. Only root and members of a group may give it the pipe."
            ) from error
        with contextlib.suppress(OSError):  # as large as the system permits
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _gid(group: str | None) -> int:
    """Its number; -1 (change nothing) without one."""
    if group is None:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise SettingsError(
            f"pipe group {group!r}: this machine has no such group. Name one of `getent group`, or make it."
        ) from None
