"""The honest face of a fake kernel: a FUSE file system, so that errors reach the program that reads or writes.

It speaks the protocol itself (include/uapi/linux/fuse.h, version 7.31), with the standard library alone. It needs
root and /dev/fuse; `available` says why not.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ceml.testing.kernel import FakeKernel

DEVICE = "/dev/fuse"
LARGEST = 1 << 17  # bytes of a write, beyond which the kernel splits
ROOT_NODE = 1
DIRECTORY_S = 2  # the kernel may remember directories for so long; files are asked for each time

_HEADER = struct.Struct("<IIQQIIII")
_ANSWER = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<6Q10I")
_DETACH = 2  # unmount even while somebody holds a file open
_NOSUID_NODEV = 6
_DIRECT = 1  # FOPEN_DIRECT_IO: every read and write comes here, whatever size the file claims


def available() -> str | None:
    """None where a fake can be mounted here, else why not."""
    if os.geteuid() != 0:
        return "mounting needs root"
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{DEVICE}: {error.strerror}"
    return None


@contextmanager
def mounted(kernel: FakeKernel, root: Path) -> Generator[Path]:
    """Show a kernel's files below a directory while the context lasts.

    Raises:
        OSError: It cannot be mounted here; ask `available` before.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions".encode()
    try:
        if libc.mount(b"ceml-fake", str(root).encode(), b"fuse", _NOSUID_NODEV, options) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(root))
        own = os.dup(
            descriptor
        )  # closed by the server alone: a number used anew would give it another kernel's requests
        server = threading.Thread(target=Server(kernel, own).serve, name="fake kernel", daemon=True)
        server.start()
        try:
            yield root
        finally:
            libc.umount2(str(root).encode(), _DETACH)
            server.join(timeout=5)
    finally:
        os.close(descriptor)


class Server:
    """Answers the kernel's requests one after the other."""

    def __init__(self, kernel: FakeKernel, descriptor: int) -> None:
        """Serve the files of `kernel` on an open /dev/fuse."""
        self._kernel = kernel
        self._descriptor = descriptor
        self._paths: dict[int, str] = {ROOT_NODE: ""}
        self._nodes: dict[str, int] = {"": ROOT_NODE}
        self._answers: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._look_up,
            3: self._get_attributes,
            4: self._get_attributes,  # set: truncating and touching change nothing
            5: self._read_link,
            14: self._open,
            15: self._read,
            16: self._write,
            17: lambda _node, _data: struct.pack("<5Q4I", 0, 0, 0, 0, 0, 512, 255, 512, 0) + bytes(24),  # statfs
            18: lambda _node, _data: b"",  # release
            20: lambda _node, _data: b"",  # fsync
            25: lambda _node, _data: b"",  # flush
            26: self._hello,
            27: self._open,
            28: self._list,
            29: lambda _node, _data: b"",  # releasedir
        }

    def serve(self) -> None:
        """Until it is unmounted and nobody holds a file of it any more; closes the descriptor then."""
        try:
            while True:
                self._serve_next()
        except OSError:
            os.close(self._descriptor)

    def _serve_next(self) -> None:
        """Answer one request.

        Raises:
            OSError: It is unmounted.
        """
        try:
            request = os.read(self._descriptor, LARGEST + 4096)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # a request that was called back
                return
            raise
        _, opcode, unique, node, *_ = _HEADER.unpack_from(request)
        if opcode in (2, 36, 42):  # forget, interrupt, forget many: nobody waits for an answer
            return
        answer, number = b"", 0
        handler = self._answers.get(opcode)
        try:
            if handler is None:
                raise OSError(errno.ENOSYS, "not spoken here")
            answer = handler(node, request[_HEADER.size :])
        except OSError as error:
            number = error.errno or errno.EIO
        try:
            os.write(self._descriptor, _ANSWER.pack(_ANSWER.size + len(answer), -number, unique) + answer)
        except OSError:  # the asking process was killed meanwhile
            return

    # Names ----------------------------------------------------------------------------------------------------------

    def _path(self, node: int) -> str:
        try:
            return self._paths[node]
        except KeyError:
            raise OSError(errno.ENOENT, "no such node") from None

    def _children(self, path: str) -> dict[str, bool]:
        """Names in a directory, and whether each is a directory."""
        found: dict[str, bool] = {}
        for known in [*self._kernel.files, *self._kernel.links]:
            if known.startswith(f"{path}/"):
                name, slash, _ = known[len(path) + 1 :].partition("/")
                found[name] = found.get(name, False) or bool(slash)
        return found

    def _attributes(self, path: str) -> bytes:
        if path in self._kernel.links:
            mode, size = stat.S_IFLNK | 0o777, len(self._kernel.links[path])
        elif path in self._kernel.files:
            mode, size = stat.S_IFREG | self._kernel.files[path].mode, 4096  # what sysfs says of every file
        elif path == "" or self._children(path):
            mode, size = stat.S_IFDIR | 0o755, 0
        else:
            raise OSError(errno.ENOENT, "no such file")
        node = self._nodes.setdefault(path, len(self._nodes) + 1)
        self._paths[node] = path
        return _ATTRIBUTES.pack(node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _look_up(self, node: int, data: bytes) -> bytes:
        path = f"{self._path(node)}/{data.rstrip(bytes(1)).decode('utf-8', 'replace')}"
        attributes = self._attributes(path)
        kept_s = 0 if path in self._kernel.files else DIRECTORY_S
        return struct.pack("<4Q2I", self._nodes[path], 0, kept_s, kept_s, 0, 0) + attributes

    def _get_attributes(self, node: int, data: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self._attributes(self._path(node))

    def _read_link(self, node: int, data: bytes) -> bytes:
        return self._kernel.links[self._path(node)].encode()

    def _list(self, node: int, data: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", data)
        listed = b""
        children = sorted(self._children(self._path(node)).items())
        for position, (name, folder) in enumerate(children[offset:], start=offset + 1):
            kind = stat.S_IFDIR if folder else stat.S_IFREG
            entry = struct.pack("<QQII", position + 1, position, len(name.encode()), kind >> 12) + name.encode()
            entry += bytes(-len(entry) % 8)
            if len(listed) + len(entry) > size:
                break
            listed += entry
        return listed

    # Contents -------------------------------------------------------------------------------------------------------

    def _hello(self, node: int, data: bytes) -> bytes:
        major, _, readahead, _ = struct.unpack_from("<4I", data)
        return struct.pack("<4I2H2I2H8I", major, 31, readahead, 0, 16, 12, LARGEST, 1, 32, 0, *([0] * 8))

    def _open(self, node: int, data: bytes) -> bytes:
        path = self._path(node)
        if struct.unpack_from("<I", data)[0] & os.O_ACCMODE != os.O_RDONLY:
            self._kernel.open_to_write(path)
        return struct.pack("<QII", 0, _DIRECT, 0)

    def _read(self, node: int, data: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", data)
        return self._kernel.read(self._path(node))[offset : offset + size]

    def _write(self, node: int, data: bytes) -> bytes:
        size = struct.unpack_from("<QQI", data)[2]
        self._kernel.write(self._path(node), data[40 : 40 + size])
        return struct.pack("<II", size, 0)
