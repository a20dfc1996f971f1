"""The other end of a real named pipe, in tests: what was said, by whom, how much."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ceml.apps.wire import Beat, Join, Leave, parse


class Listener:
    """Reads what programs write; nothing of it is judged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, 1 << 20)
        self.said: list[Beat | Join | Leave] = []

    def heard(self, app: str | None = None) -> list[Beat | Join | Leave]:
        data = b""
        try:
            while chunk := os.read(self.fd, 1 << 20):
                data += chunk
        except BlockingIOError:
            pass
        self.said += [parse(line) for line in data.split(b"\n") if line]
        return [one for one in self.said if app in (None, one.app)]

    def beats(self, app: str | None = None) -> list[Beat]:
        return [one for one in self.heard(app) if isinstance(one, Beat)]

    def work(self, app: str | None = None) -> float:
        return sum(beat.work for beat in self.beats(app))

    def joins(self, app: str | None = None) -> list[Join]:
        return [one for one in self.heard(app) if isinstance(one, Join)]

    def leaves(self, app: str | None = None) -> int:
        return sum(isinstance(one, Leave) for one in self.heard(app))

    def metrics(self, app: str | None = None) -> set[str]:
        return {name for beat in self.beats(app) for name in beat.metrics}

    def close(self) -> None:
        os.close(self.fd)
