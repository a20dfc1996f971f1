"""The HTTP door on real sockets: silence, greed, crowds and mistakes of an application end connections, never the door.

Not covered: the page itself (tests/screens).
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from ceml.address import Address
from ceml.errors import SettingsError

pytest.importorskip("uvicorn", reason="the extra web is not installed")
from ceml.api import http

if TYPE_CHECKING:
    from collections.abc import Iterator

FAST = 0.03  # seconds of the loop per second of the clock: 10 s of patience are 0.3


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/fail":
        raise ZeroDivisionError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def door() -> Iterator[Address]:
    ready, holder = threading.Event(), {}

    async def main() -> None:
        async with anyio.create_task_group() as group:
            listening = http.listen(Address("127.0.0.1", 0), "web")
            holder["where"] = http.address_of(listening)
            await group.start(
                lambda *, task_status: http.HttpDoor(listening, app, name="web", speed=FAST).run(
                    task_status=task_status
                )
            )
            holder["scope"], holder["token"] = group.cancel_scope, anyio.lowlevel.current_token()
            ready.set()

    thread = threading.Thread(target=anyio.run, args=(main,))
    thread.start()
    assert ready.wait(10)
    try:
        yield holder["where"]
    finally:
        anyio.from_thread.run_sync(holder["scope"].cancel, token=holder["token"])
        thread.join(10)
        assert not thread.is_alive()


def connect(where: Address) -> socket.socket:
    return socket.create_connection((where.host, where.port), timeout=10)


def answer(where: Address, request: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> bytes:
    with connect(where) as link:
        link.sendall(request)
        return link.recv(4096)


def ended(link: socket.socket) -> bool:
    try:
        while link.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return True


def test_who_is_silent_or_dawdles_is_let_go():
    with door() as where, connect(where) as silent, connect(where) as dawdling, connect(where) as sated:
        dawdling.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-")
        sated.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sated.recv(4096).startswith(b"HTTP/1.1 200")
        assert ended(silent)
        assert ended(dawdling)
        assert ended(sated)
        assert answer(where).startswith(b"HTTP/1.1 200")


def test_more_than_it_has_room_for_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 4)
    monkeypatch.setattr(http, "PATIENCE_S", 1000.0)
    with door() as where:
        crowd = [connect(where) for _ in range(8)]
        said = []
        for link in crowd:
            link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            said.append(link.recv(4096).split(b" ")[1])
            link.close()
        assert b"503" in said
        assert set(said) <= {b"200", b"503"}


def test_a_mistake_of_the_application_ends_that_connection_alone():
    with door() as where:
        with connect(where) as link:
            link.sendall(b"GET /fail HTTP/1.1\r\nHost: x\r\n\r\n")
            assert ended(link)
        assert answer(where).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_refused_with_a_sentence(host: str):
    with pytest.raises(SettingsError, match=f"web = {host}:0: "):
        http.listen(Address(host, 0), "web")
