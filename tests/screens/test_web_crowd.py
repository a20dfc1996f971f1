"""Many who look at once, and those who never read: the house goes on, and who takes nothing is let go.

Not covered: how much it costs (tests/benchmarks/test_bench_screens.py).
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.screens.page_of import frames, port_of
from tests.test_serve import FAST, app, serving, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("starlette", reason="the extra web is not installed")
pytest.importorskip("uvicorn", reason="the extra web is not installed")


@contextlib.contextmanager
def viewers(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that asked for frames and read nothing, with as little room as the kernel gives."""
    with contextlib.ExitStack() as stack:
        links = []
        for _ in range(count):
            link = stack.enter_context(socket.socket())
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.settimeout(60)
            link.connect(("127.0.0.1", port))
            link.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            links.append(link)
        yield links


def connections(pid: int) -> int:
    """Sockets that the server holds."""
    held = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            held += str(link.readlink()).startswith("socket:")
    return held


def test_a_hundred_viewers_do_not_hold_up_the_house_and_those_who_never_read_are_let_go(tmp_path: Path):
    with serving(tmp_path, *FAST, "--web", "127.0.0.1:0") as server:
        program = app(tmp_path, "--workload", "gpu-bound", "--steps", 10_000_000)
        port, before = port_of(server), connections(server.process.pid)
        with viewers(port, 100):
            wait_until(lambda: connections(server.process.pid) >= before + 100, "the crowd")
            wait_until(lambda: bool(server.events("decided")), "a decision all the same")
            seen = frames(port)
            first = next(seen)["status"]["steps"]
            assert next(frame for frame in seen if frame["status"]["steps"] > first)
            seen.close()
            assert not server.events("events_missed")
            wait_until(lambda: connections(server.process.pid) <= before + 5, "the end of those who do not read")
        program.terminate()
        program.communicate()
        assert server.end()[0] == 0
        assert "Traceback" not in server.log.read_text()
