"""A door on the network: HTTP for whatever is looked at there, on the house's loop, everything bounded.

Bounded are connections, bytes of a request's head, seconds a request may take to arrive and bytes that somebody does
not read. uvicorn's protocol does the talking; its `Server` is left out: it takes the signals that end programs, and
wakes ten times a second.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

import anyio
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ceml.address import Address
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from anyio.abc import TaskStatus

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MOST_CONNECTIONS = 256
MOST_HEAD_BYTES = 16 * 1024
PATIENCE_S = 10.0  # in which a request must have arrived, and the next one begun
UNREAD_BYTES = 32 * 1024  # of answers; the kernel holds as much again
ENDING_S = 1.0
BACKLOG = 128


def listen(where: Address, setting: str) -> socket.socket:
    """A listening socket.

    Args:
        where: The address.
        setting: What it is called in the settings, for the sentence.

    Raises:
        SettingsError: It is taken, or not ours to use.
    """
    try:
        family, kind, proto, _, bound = socket.getaddrinfo(
            where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        door = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, proto)
    except OSError as error:
        raise SettingsError(
            f"{setting} = {where}: {error.strerror or error}. Name an address of this machine"
        ) from None
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for old connections
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)  # connections inherit it
        door.bind(bound)
        door.listen(BACKLOG)
    except OSError as error:
        door.close()
        raise SettingsError(
            f"{setting} = {where}: {error.strerror or error}. Name a free port, 0 for any, or end what listens there"
        ) from None
    return door


def address_of(door: socket.socket) -> Address:
    """Where a socket listens in truth."""
    host, port = door.getsockname()[:2]
    return Address(str(host), int(port))


class _Connection(H11Protocol):
    """One connection; silence and greed end it. The application finds `drop` in the state of its scope."""

    patience_s = PATIENCE_S
    _alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        self.app_state = {"drop": transport.abort}
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest()

    def handle_events(self) -> None:
        """A request may have begun, gone on, or be whole: in the last case it is the application's to end it."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.more_body:  # pyright: ignore[reportUnnecessaryComparison]
            self._rest()

    def on_response_complete(self) -> None:
        """The next request may begin."""
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):  # pyright: ignore[reportUnnecessaryComparison]
            self._watch()

    def _watch(self) -> None:
        self._rest()
        self._alarm = self.loop.call_later(self.patience_s, self.transport.abort)

    def _rest(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class HttpDoor:
    """Serves an ASGI application on a socket.

    Args:
        door: Listening; closed in the end.
        app: What answers.
        name: For the log.
        speed: Seconds of the loop per second of the clock.
    """

    def __init__(self, door: socket.socket, app: App, *, name: str, speed: float = 1.0) -> None:
        self._door = door
        self._app = app
        self._name = name
        self._speed = speed

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then every connection is ended at once."""
        config = uvicorn.Config(
            cast("Any", self._guarded),
            http=type("Connection", (_Connection,), {"patience_s": PATIENCE_S * self._speed}),
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",  # mistakes of ours are in our own log
            access_log=False,
            proxy_headers=False,  # who connects is who connects
            server_header=False,
            date_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            h11_max_incomplete_event_size=MOST_HEAD_BYTES,
            timeout_keep_alive=max(1, round(PATIENCE_S * self._speed)),
        )
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        make = cast("Callable[..., asyncio.Protocol]", config.http_protocol_class)
        server = await loop.create_server(
            lambda: make(config=config, server_state=state, app_state={}), sock=self._door, backlog=BACKLOG
        )
        try:
            task_status.started()
            await anyio.sleep_forever()
        finally:
            server.close()
            with anyio.CancelScope(shield=True):
                await self._end(state)

    async def _end(self, state: ServerState) -> None:
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        if state.tasks:
            await asyncio.wait(list(state.tasks), timeout=ENDING_S * self._speed)

    async def _guarded(self, scope: Message, receive: Receive, send: Send) -> None:
        """What is wrong with an answer must not reach the house."""
        try:
            await self._app(scope, receive, send)
        except Exception:
            structlog.get_logger("ceml").exception("http_failed", door=self._name, path=scope.get("path"))
            scope["state"]["drop"]()
