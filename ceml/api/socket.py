"""The control socket's server: JSON lines on a Unix domain socket; whoever connects, the loop is not disturbed.

All is bounded: clients, bytes of a request, one waiting request a client, bytes that a client does not read, seconds
of silence, and answers a second in all.
Where the clients are too many, the one silent for longest makes room, or the new one is told to ask again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import anyio
import anyio.lowlevel
import structlog

from ceml.api.access import Door, Peer
from ceml.api.client import MAX_REQUEST_BYTES
from ceml.api.protocol import Bad, Error, Good, ProtocolError, Reading, line_of, parse
from ceml.errors import CemlError, SettingsError

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from anyio.abc import TaskStatus

    from ceml.api.protocol import ErrorCode, Request, Result

MOST_CLIENTS = 32
IDLE_S = 10.0
GRACE_S = 1.0  # who has been silent for less makes room for nobody
LOOK_S = 2.0  # between two looks whether the socket is where clients find it
GAP_S = 0.002  # between two answers: at most 500 a second, so that a flood of questions costs little
CLOSING_TURNS = 8  # of the loop: one accepted just now becomes a client in two, a transport closes in one more
UNREAD_BYTES = 256 * 1024  # of replies that a client has not read; more, and it is dropped


class ControlSocket:
    """Answers requests, one at a time.

    Args:
        path: Where to listen.
        answer: Gives the result; raises CemlError where it is refused. Runs on the loop and must be quick.
        version: Of the ceml that answers.
        group: Whose members may change things.
        speed: Seconds of the loop per second of the clock.
    """

    def __init__(
        self,
        path: Path,
        answer: Callable[[Request, str], Result],
        *,
        version: str,
        group: str | None = None,
        speed: float = 1.0,
    ) -> None:
        self.idle_s = IDLE_S * speed
        self.clients: dict[Client, None] = {}  # the one heard of last comes last
        self._grace_s = GRACE_S * speed
        self._path = path
        self._version = version
        self._answer = answer
        self._group = group
        self._gid: int | None = None
        self._gap_s, self._look_s = GAP_S * speed, LOOK_S * speed
        self._waiting: deque[tuple[Client, bytes]] = deque()
        self._next_s = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled.

        Raises:
            SettingsError: Nobody can listen at this path.
        """
        door, told = Door(self._path, self._group), False
        while True:
            async with self._open(door):
                if not told:
                    task_status.started()
                    told = True
                while not door.is_gone:  # noqa: ASYNC110 - nobody tells when a file goes
                    await anyio.sleep(self._look_s)
            door = await self._made_anew()

    @asynccontextmanager
    async def _open(self, door: Door) -> AsyncGenerator[None]:
        """Who knocks is let in, until this is left."""
        self._gid, loop = door.gid, asyncio.get_running_loop()
        try:
            server = await loop.create_unix_server(lambda: Client(self), sock=door.socket, start_serving=True)
            try:
                yield
            finally:
                loop.remove_reader(door.socket)  # no new ones; a server closed under one just accepted would leak it
                if self._timer is not None:
                    self._timer.cancel()
                with anyio.CancelScope(shield=True):
                    for _ in range(CLOSING_TURNS):
                        for client in list(self.clients):
                            client.drop()
                        await anyio.lowlevel.checkpoint()
                server.close()
        finally:
            door.close()

    async def _made_anew(self) -> Door:
        """Another one where somebody swept ours away; the pipe and the journal bring the directory back."""
        said, self._timer = "", None
        while True:
            try:
                door = Door(self._path, self._group)
            except SettingsError as error:
                if str(error) != said:
                    said = str(error)
                    structlog.get_logger().warning("control_socket_lost", problem=said)
                await anyio.sleep(self._look_s)
            else:
                problem = "the control socket was taken away, and is made anew"
                structlog.get_logger().warning("control_socket_made_anew", path=str(self._path), problem=problem)
                return door

    def welcome(self, client: Client) -> bool:
        """Take in a client; False: there is no room."""
        if len(self.clients) >= MOST_CLIENTS:
            silent = next((other for other in self.clients if not other.asked), None)
            if silent is None or anyio.current_time() - silent.since_s < self._grace_s:
                return False
            silent.drop()
        self.clients[client] = None
        return True

    def heard(self, client: Client, line: bytes) -> None:
        """A client asked; it is answered in turn, at once where nobody was a moment ago."""
        self.clients.pop(client, None)
        self.clients[client] = None
        self._waiting.append((client, line))
        self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_at(self._next_s, self._serve)

    def _serve(self) -> None:
        self._timer = None
        while self._waiting:
            client, line = self._waiting.popleft()
            if not client.gone:
                client.tell(self._reply(client.peer, line))
                self._next_s = anyio.current_time() + self._gap_s
                break
        self._arm()

    def _reply(self, peer: Peer | None, line: bytes) -> bytes:
        try:
            request = parse(line)
            if not isinstance(request, Reading) and not (peer is not None and peer.may_change(self._gid)):
                raise ProtocolError("forbidden", self._forbidden(request.verb))
            return line_of(Good(server=self._version, result=self._answer(request, f"socket, {peer}")))
        except ProtocolError as error:
            return self.refusal(error.code, str(error))
        except CemlError as error:
            return self.refusal("refused", str(error))
        except Exception as error:  # a bug in telling must not end what is told about; it is logged as what it is
            structlog.get_logger().error("control_socket_failed", exc_info=error)
            return self.refusal("internal", f"the server failed to answer: {type(error).__name__}; its log says more")

    def refusal(self, code: ErrorCode, text: str) -> bytes:
        """A reply that says no."""
        return line_of(Bad(server=self._version, error=Error(code=code, text=text)))

    def _forbidden(self, verb: str) -> str:
        group = f", and members of group {self._group}" if self._group else "; name a group by ceml serve --group NAME"
        return f"you may look but not change anything ({verb}): only root and the server's own user may{group}"


class Client(asyncio.Protocol):
    """One connection: cuts what comes into lines, asks one thing at a time, and is dropped rather than waited for.

    Attributes:
        peer: Who it is; None where the kernel does not say.
        asked: Whether a request of it waits for its answer.
        gone: Whether the connection is over.
        since_s: When it came, or was answered last.
    """

    def __init__(self, server: ControlSocket) -> None:
        self.peer: Peer | None = None
        self.asked = False
        self.gone = False
        self.since_s = anyio.current_time()
        self._server = server
        self._rest = bytearray()
        self._alarm: asyncio.TimerHandle | None = None
        self._full = False  # its replies pile up
        self._ended = False  # it will not say more

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody came."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNREAD_BYTES // 2)
        try:
            self.peer = Peer.of(cast("socket.socket", transport.get_extra_info("socket")))
        except OSError:
            self.peer = None  # may look
        if not self._server.welcome(self):
            self._part("busy", f"{MOST_CLIENTS} others ask at this moment: ask again")
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """It said something."""
        self._rest += data
        self._take()

    def eof_received(self) -> bool:
        """It will say no more; it may still listen."""
        self._ended = True
        return self.asked  # else the connection is closed

    def connection_lost(self, exc: Exception | None) -> None:
        """It went."""
        self.gone = True
        self._rest.clear()
        self._server.clients.pop(self, None)
        if self._alarm is not None:
            self._alarm.cancel()

    def pause_writing(self) -> None:
        """It does not read: it is not answered either until it does."""
        self._full = True

    def resume_writing(self) -> None:
        """It has read."""
        self._full = False
        self._take()

    def tell(self, reply: bytes) -> None:
        """Its answer."""
        self.asked = False
        self._transport.write(reply)
        if self._transport.get_write_buffer_size() > UNREAD_BYTES:
            self.drop()
            return
        self._watch()
        self._take()
        if self._ended and not self.asked:
            self._transport.close()

    def drop(self) -> None:
        """End the connection at once, whatever is unread."""
        self.gone = True
        self._server.clients.pop(self, None)
        self._transport.abort()

    def _take(self) -> None:
        """Hand over the next request, if there is a whole one and none waits."""
        if self.gone:
            return
        if not self.asked and not self._full:
            del self._rest[: len(self._rest) - len(self._rest.lstrip(b"\r\n"))]  # empty lines say nothing
            end = self._rest.find(b"\n")
            if 0 < end <= MAX_REQUEST_BYTES:
                line = bytes(self._rest[:end])
                del self._rest[: end + 1]
                self.asked = True
                self._server.heard(self, line)
            elif end > MAX_REQUEST_BYTES or len(self._rest) > MAX_REQUEST_BYTES:
                self._part("too_long", f"the request is longer than {MAX_REQUEST_BYTES} bytes")
                return
        if len(self._rest) > MAX_REQUEST_BYTES:
            self._transport.pause_reading()
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    def _part(self, code: ErrorCode, text: str) -> None:
        """Say why, and end it; what else it sent is passed over."""
        self.gone = True
        self._rest.clear()
        self._transport.write(self._server.refusal(code, text))
        self._transport.close()

    def _watch(self) -> None:
        """From now on silence counts."""
        self.since_s = anyio.current_time()
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(self._server.idle_s, self._silent)

    def _silent(self) -> None:
        if self.asked:
            self._watch()
        else:
            self.drop()
