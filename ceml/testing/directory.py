"""The plain face of a fake kernel: ordinary files in a directory, kept fresh by a thread. Needs nothing and no rights.

A write always succeeds; what the kernel would refuse is undone a moment later, so a driver that reads back notices,
but no error reaches it. The FUSE face (`fuse.py`) has no such gap.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from ceml.testing.kernel import FakeKernel

LOOK_S = 0.002
SENSE_LOOKS = 10  # files that nobody may write are refreshed every so many looks


class Directory:
    """Shows a kernel's files below a directory while the context lasts."""

    def __init__(self, kernel: FakeKernel, root: Path) -> None:
        """Name them; the directory is made."""
        self._kernel = kernel
        self._root = Path(root)
        self._shown: dict[str, str] = {}
        self._refused: set[tuple[str, str]] = set()
        self._refused_before: set[tuple[str, str]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="fake kernel", daemon=True)

    def __enter__(self) -> Path:
        self._refresh(every=True)
        self._thread.start()
        return self._root

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        looks = 0
        while not self._stop.wait(LOOK_S):
            looks += 1
            taken = self._take()
            self._refresh(every=taken or looks % SENSE_LOOKS == 0)

    def _take(self) -> bool:
        """Hand what somebody wrote to the kernel; whether there was anything.

        What is refused is offered once more at the next look: of two files written one after the other this may have
        seen the second one first.
        """
        found = False
        for path, file in list(self._kernel.files.items()):
            if file.write is None or path not in self._shown:
                continue
            try:
                text = self._disk(path).read_text().rstrip("\n")
            except OSError:
                continue
            if not text or text == self._shown[path]:
                continue
            found = True
            try:
                self._kernel.write(path, text.encode())
            except OSError:
                if (path, text) not in self._refused_before:
                    self._refused.add((path, text))
                    continue
            self._shown[path] = text  # what stands there now, so that the refresh mends it
        self._refused_before, self._refused = self._refused, set()
        return found

    def _refresh(self, *, every: bool) -> None:
        waiting = {path for path, _ in self._refused_before}
        for path, text in self._kernel.texts() if every else ():
            disk = self._disk(path)
            if text is None:
                disk.unlink(missing_ok=True)  # plain files know no error: gone says "not now" as well
                self._shown.pop(path, None)
            elif self._shown.get(path) != text and path not in waiting and not self._rewritten(path, disk):
                self._show(disk, text)
                self._shown[path] = text
        for path in [path for path in self._shown if path not in self._kernel.files]:
            self._disk(path).unlink(missing_ok=True)
            del self._shown[path]

    def _rewritten(self, path: str, disk: Path) -> bool:
        """Whether somebody wrote to it since the last look: that is taken at the next, not overwritten now."""
        file = self._kernel.files.get(path)
        if file is None or file.write is None or path not in self._shown:
            return False
        try:
            return disk.read_text().rstrip("\n") not in ("", self._shown[path])
        except OSError:
            return False

    def _show(self, disk: Path, text: str) -> None:
        """Write it in one piece over what stood there, so that nobody ever reads half of it."""
        disk.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(disk, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(descriptor, text.encode() + b"\n" * max(1, os.fstat(descriptor).st_size - len(text)), 0)
        finally:
            os.close(descriptor)

    def _disk(self, path: str) -> Path:
        return self._root / path.lstrip("/")
