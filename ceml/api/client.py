"""Asks a running server over its control socket. Blocking, with a short timeout, and the standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, cast

from ceml.errors import CemlError, SettingsError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

VERSION = 1  # of the protocol
MAX_REQUEST_BYTES = 64 * 1024
MAX_REPLY_BYTES = 4 * 1024 * 1024
TIMEOUT_S = 5.0
BUSY_WAIT_S = 0.05
LONGEST_ADDRESS = 100  # bytes; the kernel takes 107


@contextlib.contextmanager
def address(path: Path) -> Generator[str]:
    """What to bind or connect to: a path too long for the kernel goes by a descriptor of its directory.

    Raises:
        OSError: The directory cannot be opened.
    """
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def ask(path: Path, verb: str, *, timeout_s: float = TIMEOUT_S, **fields: object) -> dict[str, Any]:
    """Ask once and return the result; a server that is busy is asked again until the time is up.

    Args:
        path: The socket.
        verb: What is asked.
        timeout_s: Seconds in all.
        fields: Of the request, see `protocol.schema.json`.

    Raises:
        Unavailable: Nobody serves there, it does not answer, or it may not be asked by us.
        SettingsError: It refuses what was asked.
        CemlError: It speaks another version, or no JSON.
    """
    request = json.dumps({"version": VERSION, "verb": verb, **fields}).encode() + b"\n"
    if len(request) > MAX_REQUEST_BYTES:
        raise SettingsError(f"the request is longer than {MAX_REQUEST_BYTES} bytes: say less at once")
    until_s = monotonic() + timeout_s
    while True:
        reply = _read(path, _exchange(path, request, until_s, timeout_s))
        if reply.get("ok") is True:
            return cast("dict[str, Any]", reply["result"])
        error = cast("dict[str, Any]", reply["error"])
        if error["code"] != "busy" or monotonic() + BUSY_WAIT_S >= until_s:
            break
        sleep(BUSY_WAIT_S)
    text = str(error["text"])
    if error["code"] in ("forbidden", "busy"):
        raise Unavailable(text)
    raise CemlError(text) if error["code"] in ("internal", "version") else SettingsError(text)


def _exchange(path: Path, request: bytes, until_s: float, timeout_s: float) -> bytes:
    """Send a line, receive a line.

    Raises:
        Unavailable: It cannot be done; the text says why.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as link:
        try:
            link.settimeout(max(until_s - monotonic(), 0.001))
            with address(path) as where:
                link.connect(where)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it said no before it read: hear it
                link.sendall(request)
            reply = b""
            while not reply.endswith(b"\n"):
                link.settimeout(max(until_s - monotonic(), 0.001))
                chunk = link.recv(1 << 16)
                reply += chunk
                if not chunk or len(reply) > MAX_REPLY_BYTES:
                    raise Unavailable(f"the server at {path} closed the connection without a whole answer: try again")
        except (TimeoutError, BlockingIOError):
            raise Unavailable(f"the server at {path} did not answer within {timeout_s:g} s: is it stopped?") from None
        except PermissionError:
            raise Unavailable(
                f"you may not connect to {path}: ask as root, or as a member of the group that ceml serve was given "
                "with --group"
            ) from None
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise Unavailable(
                f"no server: nobody serves at {path}. Start one with `ceml serve`, or name its runtime directory "
                "with --runtime-dir DIR"
            ) from None
        except OSError as error:
            raise Unavailable(f"cannot ask the server at {path}: {error.strerror or error}") from None
    return reply


def _read(path: Path, line: bytes) -> dict[str, Any]:
    """A reply of our version.

    Raises:
        CemlError: It is none.
    """
    try:
        reply = cast("object", json.loads(line))
    except ValueError:
        reply = None
    if not isinstance(reply, dict) or not {"result", "error"} & set(cast("dict[str, Any]", reply)):
        raise CemlError(f"what answers at {path} is no ceml server")
    told = cast("dict[str, Any]", reply)
    if told.get("version") != VERSION:
        raise CemlError(
            f"the server at {path} is ceml {told.get('server')} and speaks version {told.get('version')}, we speak "
            f"version {VERSION}: use the ceml that it was started with, or restart it"
        )
    return told
