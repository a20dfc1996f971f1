"""The page: what `ceml status` tells, as it changes, in a browser; wishes are let in with the token alone.

It is the control socket's document as server-sent events, and the control socket's requests as bodies of `POST /ask`.
A token travels in the header `Authorization: Bearer`, which no other site can make a browser send; what a browser
sends by itself (a cookie, a password it remembers) changes nothing. Where others than this machine can connect, looking
needs the token too, as password of HTTP's basic authentication. Other names than ours in `Host` are refused: else a
site could point its own name here (DNS rebinding).
"""

from __future__ import annotations

import binascii
import secrets
from base64 import b64decode
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ceml.api.client import MAX_REQUEST_BYTES
from ceml.api.protocol import Bad, Error, Good, ProtocolError, StatusRequest, line_of, parse
from ceml.errors import CemlError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from ceml.address import Address
    from ceml.api.protocol import ErrorCode, Result
    from ceml.api.protocol import Request as Asked
    from ceml.screens.frames import Frames

    Scope = MutableMapping[str, Any]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

SILENCE_S = 10.0  # then a comment is sent: who left without a word is noticed
UNREAD_S = 5.0  # somebody who takes nothing for so long is let go
WRONG_TOKEN_S = 1.0  # before it is said
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
STATUS_OF: dict[ErrorCode, int] = {"too_long": 413, "forbidden": 403, "refused": 422, "internal": 500}


class Page:
    """The ASGI application.

    Args:
        frames: What there is to see, from `frame`.
        answer: The desk.
        where: Where it listens.
        token: What lets wishes in; None: nothing does.
        version: Of ceml.
        speed: Seconds of the loop per second of the clock.
    """

    def __init__(
        self,
        answer: Callable[[Asked, str], Result],
        *,
        where: Address,
        token: str | None,
        version: str,
        speed: float = 1.0,
    ) -> None:
        self.frames: Frames | None = None
        self._answer = answer
        self._where = where
        self._token = token
        self._version = version
        self._speed = speed
        self._run = secrets.token_hex(4)  # tells a page that the server is another one
        folder = files("ceml.screens") / "page"
        routes = [
            Route(path, self._file((folder / name).read_bytes(), kind), methods=["GET"])
            for path, (name, kind) in PAGE.items()
        ]
        routes += [
            Route("/events", self._events, methods=["GET"]),
            Route("/ask", self._ask, methods=["POST"]),
        ]
        self._inside = Starlette(routes=routes)

    def frame(self) -> bytes:
        """What is now, as one server-sent event."""
        status = self._answer(StatusRequest(version=1, verb="status"), "web")
        told = f'{{"run":"{self._run}","server":"{self._version}","writable":{"true" if self._token else "false"},'
        return f'data: {told}"status":{status.model_dump_json()}}}\n\n'.encode("utf-8", "backslashreplace")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None and "authorization" in request.headers:
            await anyio.sleep(WRONG_TOKEN_S * self._speed)  # who guesses, guesses slowly

        async def dressed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *ours]
            await send(message)

        await (refusal or self._inside)(scope, receive, dressed)

    # Who may ---------------------------------------------------------------------------------------------------------

    def _refusal(self, request: Request) -> Response | None:
        """Why somebody may not even look; None where he may."""
        if self._where.is_local:
            host = _host(f"//{request.headers.get('host', '')}")
            if host not in {"localhost", "127.0.0.1", "::1", self._where.host}:
                return PlainTextResponse(f"this page is http://{self._where}/, and nothing else", 421)
        elif not self._knows(request):
            return PlainTextResponse(
                "the token is asked for: as password, with any name", 401, {"www-authenticate": 'Basic realm="CEML"'}
            )
        return None

    def _knows(self, request: Request) -> bool:
        """Whether a request brings the token, in either way."""
        how, _, said = request.headers.get("authorization", "").partition(" ")
        if how.lower() == "basic":
            try:
                said = b64decode(said, validate=True).decode().partition(":")[2]
            except (binascii.Error, ValueError):
                return False
        return self._is_token(said)

    def _is_token(self, said: str) -> bool:
        token = self._token
        return token is not None and secrets.compare_digest(said.strip().encode("utf-8", "replace"), token.encode())

    # What is asked ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _file(content: bytes, kind: str) -> Callable[[Request], Response]:
        return lambda request: Response(content, media_type=kind)

    async def _events(self, request: Request) -> Response:
        assert self.frames is not None  # noqa: S101 - set before anybody can connect
        return _Stream(self.frames, speed=self._speed)

    async def _ask(self, request: Request) -> Response:
        """A wish: with the token, from our own page or a program, as JSON."""
        if self._token is None:
            return self._no("forbidden", "this server only shows: start it with a token (--web-token) to change things")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            return self._no("forbidden", f"pages of {origin[:100]} may not ask here")
        how, _, said = request.headers.get("authorization", "").partition(" ")
        if how.lower() != "bearer" or not self._is_token(said):
            await anyio.sleep(WRONG_TOKEN_S * self._speed)
            return self._no("forbidden", "that is not the token of this server; what is in force stays so", status=401)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return self._no("malformed", "the request must be of type application/json", status=415)
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_REQUEST_BYTES:
                    return self._no("too_long", f"the request is longer than {MAX_REQUEST_BYTES} bytes", last=True)
        except ClientDisconnect:
            return Response()
        client = f"{request.client.host}:{request.client.port}" if request.client else "?"
        try:
            result = self._answer(parse(bytes(body)), f"web, {client}")
        except ProtocolError as error:
            return self._no(error.code, str(error))
        except CemlError as error:
            return self._no("refused", str(error))
        return Response(line_of(Good(server=self._version, result=result)), media_type="application/json")

    def _no(self, code: ErrorCode, text: str, *, status: int | None = None, last: bool = False) -> Response:
        line = line_of(Bad(server=self._version, error=Error(code=code, text=text)))
        headers = {"connection": "close"} if last else None
        return Response(line, status or STATUS_OF.get(code, 400), headers, media_type="application/json")


def _host(url: str) -> str:
    """The name in a URL; empty where there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


class _Stream(Response):
    """Frames to one viewer, as many as it takes; ends when it leaves or takes none."""

    def __init__(self, frames: Frames, *, speed: float) -> None:
        super().__init__(media_type="text/event-stream")
        self._frames = frames
        self._speed = speed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with anyio.create_task_group() as group:
            group.start_soon(self._until_gone, receive, group.cancel_scope)
            await self._show(send, scope["state"]["drop"])
            group.cancel_scope.cancel()

    async def _until_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _show(self, send: Send, drop: Callable[[], None]) -> None:
        viewer = self._frames.join()
        try:
            body = b"retry: 1000\n\n"
            while True:
                with anyio.move_on_after(UNREAD_S * self._speed) as patience:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                if patience.cancelled_caught:
                    drop()
                    return
                body = b":\n\n"
                with anyio.move_on_after(SILENCE_S * self._speed):
                    body = await viewer.next()
        finally:
            self._frames.leave(viewer)
