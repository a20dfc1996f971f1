"""A tree of files that answer like a kernel's: every read and write runs a function, and errors are numbers.

The tree knows no directory on disk; `faces.py` and `fuse.py` show it as files.
"""

from __future__ import annotations

import errno
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Attribute:
    """A file: how it reads, and how it takes a write (None: it takes none)."""

    read: Callable[[], str]
    write: Callable[[str], None] | None = None
    secret: bool = False

    @property
    def mode(self) -> int:
        """Permissions as the kernel shows them."""
        return (0o400 if self.secret else 0o444) | (0o200 if self.write else 0)


@dataclass(slots=True)
class Fault:
    """An error that a file gives, for ever or some times."""

    number: int
    times: float = float("inf")


class FakeKernel:
    """Files by path, with what a kernel does behind them.

    Attributes:
        files: Path -> file; paths begin with `/`.
        links: Path -> target of a symbolic link.
        written: Every write that was taken, in order.
        lock: Held during every read and write, so that a change of several things is one to a reader.
    """

    def __init__(self) -> None:
        self.files: dict[str, Attribute] = {}
        self.links: dict[str, str] = {}
        self.written: list[tuple[str, str]] = []
        self.lock = threading.RLock()
        self._faults: dict[tuple[str, str], Fault] = {}

    def add(
        self, path: str, read: Callable[[], str], write: Callable[[str], None] | None = None, *, secret: bool = False
    ) -> None:
        """Add a file; `read` and `write` may raise OSError."""
        self.files[path] = Attribute(read, write, secret)

    def constant(self, path: str, text: str) -> None:
        """Add a file that always reads the same."""
        self.files[path] = Attribute(lambda: text)

    def remove(self, folder: str) -> dict[str, Attribute]:
        """Take a directory away, as when a device is unbound; returns its files, so that they can come back."""
        gone = {path: file for path, file in self.files.items() if path.startswith(f"{folder}/")}
        for path in gone:
            del self.files[path]
        return gone

    def fault(self, path: str, number: int, *, on: str = "read", times: float = float("inf")) -> None:
        """From now on reading this file gives an error, `times` times; or writing, or opening it for that (`on`)."""
        self._faults[path, on] = Fault(number, times)

    def heal(self, path: str, *, on: str = "read") -> None:
        """End a fault."""
        self._faults.pop((path, on), None)

    def read(self, path: str) -> bytes:
        """What a program that reads this file gets.

        Raises:
            OSError: As from a kernel.
        """
        with self.lock:
            file = self._file(path)
            self._check(path, "read")
            return f"{file.read()}\n".encode()

    def write(self, path: str, data: bytes) -> None:
        """What happens when a program writes this in one piece.

        Raises:
            OSError: As from a kernel.
        """
        with self.lock:
            file = self._file(path)
            if file.write is None:
                raise OSError(errno.EACCES, "read only")
            self._check(path, "write")
            text = data.decode("ascii", "replace").rstrip("\n")
            file.write(text)
            self.written.append((path, text))

    def open_to_write(self, path: str) -> None:
        """What happens when a program opens a file for writing; only the FUSE face asks.

        Raises:
            OSError: As from a kernel.
        """
        with self.lock:
            self._check(path, "open")

    def texts(self) -> Iterator[tuple[str, str | None]]:
        """Every file with its text; None where it gives an error."""
        for path in sorted(self.files):
            try:
                yield path, self.read(path).decode().rstrip("\n")
            except OSError:
                yield path, None

    def _file(self, path: str) -> Attribute:
        try:
            return self.files[path]
        except KeyError:
            raise OSError(errno.ENOENT, "no such file") from None

    def _check(self, path: str, on: str) -> None:
        fault = self._faults.get((path, on))
        if fault is not None:
            fault.times -= 1
            if fault.times <= 0:
                del self._faults[path, on]
            raise OSError(fault.number, "fault")


def whole(text: str, *, strict: bool = False) -> int:
    """A decimal number as kernels take it: leading digits count, unless strict.

    Raises:
        OSError: EINVAL, it is none.
    """
    digits = text.strip()
    if not strict:
        length = next((at for at, char in enumerate(digits) if not char.isdigit()), len(digits))
        digits = digits[:length]
    if not digits.isdecimal():
        raise OSError(errno.EINVAL, f"no number: {text!r}")
    return int(digits)
