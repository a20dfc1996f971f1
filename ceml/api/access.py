"""Who asks on the control socket, as the kernel says, and what they may; and the socket's own place in the file system.

Everybody who can connect may read. Only the owner of the server, root and members of the group of the settings may
change anything.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ceml.api.client import address
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)
SO_PEERGROUPS = 59  # asm-generic/socket.h, since Linux 4.13; Python has no name for it
MOST_GROUPS_BYTES = 1024  # 256 groups: Python asks for no more
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Peer:
    """Who connected: effective ids at that moment, which a process cannot choose."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] | None  # None: the kernel does not tell

    @staticmethod
    def of(link: socket.socket) -> Peer:
        """The other end of a connection.

        Raises:
            OSError: The kernel does not say.
        """
        raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        return Peer(pid, uid, gid, _groups(link))

    def may_change(self, group: int | None) -> bool:
        """Whether it may change anything, where members of `group` may."""
        if self.uid in (0, os.geteuid()):
            return True
        if group is None or group == self.gid:
            return group is not None
        return group in (_listed(self.uid) if self.groups is None else self.groups)

    def __str__(self) -> str:
        return f"user {self.uid}, process {self.pid}"


def _groups(link: socket.socket) -> frozenset[int] | None:
    """The peer's supplementary groups; older kernels do not tell."""
    try:
        raw = link.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS_BYTES)
    except OSError:
        return None
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))


def _listed(uid: int) -> frozenset[int]:
    """The groups that a user is listed in."""
    try:
        user = pwd.getpwuid(uid)
        return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))
    except (KeyError, OSError):
        return frozenset()


def group_id(group: str | None) -> int | None:
    """The number of a group.

    Raises:
        SettingsError: There is no such group.
    """
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise SettingsError(
            f"group {group!r}: this machine has no such group. Name one of `getent group`, or make it."
        ) from None


class Door:
    """A listening Unix domain socket of ours, mode 0660.

    Attributes:
        path: Where it is.
        gid: Members of this group may change things; None: nobody but owner and root.
        socket: Listening, not blocking.
    """

    def __init__(self, path: Path, group: str | None) -> None:
        """Make it, in place of one that a crash left.

        Raises:
            SettingsError: The path or the group cannot be used; what is there is left as it is.
        """
        self.path = path
        self.gid = group_id(group)
        self._make_way()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            with address(path) as where:
                self.socket.bind(where)
            self._own = path.lstat()
            self._give()
            self.socket.listen(BACKLOG)  # nobody could connect before
        except OSError as error:
            self.socket.close()
            raise SettingsError(
                f"control socket {path}: {error.strerror or error}. Name a runtime directory that you may write to, "
                "and a group that you are in (--runtime-dir DIR, --group NAME)."
            ) from error

    @property
    def is_gone(self) -> bool:
        """Whether nothing is at its path any more: swept away with its directory, say."""
        return not os.path.lexists(self.path)

    def close(self) -> None:
        """Take it away, if it is still ours."""
        with contextlib.suppress(OSError):
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == (self._own.st_dev, self._own.st_ino):
                self.path.unlink()
        self.socket.close()

    def _give(self) -> None:
        directory = self.path.parent.stat()
        if self.gid is not None:
            os.chown(self.path, -1, self.gid)
            if directory.st_uid == os.geteuid() and stat.S_IMODE(directory.st_mode) == 0o750:
                os.chown(self.path.parent, -1, self.gid)  # as `ceml serve` makes it: else the group cannot enter
        self.path.chmod(0o660)

    def _make_way(self) -> None:
        """Remove a socket on which nobody listens any more.

        Raises:
            SettingsError: Something else is at this path, or somebody listens.
        """
        remedy = "or name another runtime directory (--runtime-dir DIR)."
        try:
            found = self.path.lstat()
        except OSError:
            return  # nothing is there; what else is wrong, binding will tell
        if not stat.S_ISSOCK(found.st_mode):
            raise SettingsError(
                f"control socket {self.path}: there is something else at this path, and it is left as it is. "
                f"Move it away, {remedy}"
            )
        if self._answers():
            raise SettingsError(f"control socket {self.path}: another server listens there. Stop it, {remedy}")
        try:
            self.path.unlink()
        except OSError as error:
            raise SettingsError(
                f"control socket {self.path}: one that a crash left cannot be removed: {error.strerror}. "
                f"Remove it as its owner, user {found.st_uid}, {remedy}"
            ) from None

    def _answers(self) -> bool:
        """Whether anybody listens; a full queue of one who does (EAGAIN) counts."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                with address(self.path) as where:
                    probe.connect(where)
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except OSError:
                return True
        return True
