"""A page served by a real `ceml serve`, and how to ask it over plain sockets."""

from __future__ import annotations

import json
import re
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from tests.test_serve import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.test_serve import Server

TOKEN = "0123456789abcdef0123"
JSON = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}


def port_of(server: Server, what: str = "page") -> int:
    """The port that the log names."""
    form = re.compile(rf"{what}\S*=\S*http://[^/]*?:(\d+)/")
    wait_until(lambda: form.search(server.log.read_text()) is not None, f"the {what}")
    found = form.search(server.log.read_text())
    assert found is not None
    return int(found[1])


def get(
    port: int, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict, bytes]:
    link = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        link.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = link.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        link.close()


def ask(port: int, said: object, headers: dict[str, str] = JSON) -> tuple[int, dict[str, Any]]:
    link = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        link.request("POST", "/ask", body, headers)
        reply = link.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        link.close()


def frames(port: int) -> Generator[dict[str, Any]]:
    """Frames as they come, until the reader has seen enough."""
    link = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        link.request("GET", "/events")
        reply = link.getresponse()
        assert reply.getheader("content-type") == "text/event-stream; charset=utf-8"
        while line := reply.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
    finally:
        link.close()


def until(port: int, true: Callable[[dict[str, Any]], bool], *, most: int = 100) -> dict[str, Any]:
    """The first frame of which it is true."""
    seen = frames(port)
    try:
        return next(frame for frame, _ in zip(seen, range(most), strict=False) if true(frame))
    finally:
        seen.close()
