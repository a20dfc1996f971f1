"""HOST:PORT as a person writes it, for whatever listens on the network; the URL of whom figures are sent to."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

ALLOWED = "HOST:PORT such as 127.0.0.1:8765 or [::1]:8765, with a port from 0 (any free one) to 65535"
_FORM = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)):(?P<port>\d{1,5})"
)


class Address(NamedTuple):
    """Where to listen; port 0 is any free one."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether nobody but programs on this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # a name: wherever it points to

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(value: object) -> Address:
    """Read an address; `:8765` and `8765` are on this machine alone.

    Raises:
        ValueError: It is none; the text begins with "must be".
    """
    if isinstance(value, Address):
        return value
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    text = f"127.0.0.1:{text.removeprefix(':')}" if re.fullmatch(r":?\d{1,5}", text, re.ASCII) else text
    found = _FORM.fullmatch(text)
    if found is None or not found["port"].isascii() or int(found["port"]) > 65535:
        raise ValueError(f"must be {ALLOWED}")
    host = found["six"] or found["host"]
    numbers = host.replace(".", "").isdigit()
    try:
        if found["six"] or numbers:
            host = str(ipaddress.IPv6Address(host) if found["six"] else ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError(f"must be {ALLOWED}; {host[:60]} is no address") from None
    return Address(host.lower(), int(found["port"]))


def endpoint(value: object) -> str:
    """URL of an OTLP collector; without a path, where collectors take metrics by default.

    Raises:
        ValueError: It is none; the text begins with "must be".
    """
    text = value.strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
        parts = urlsplit("")
    if not good or not text.isprintable() or " " in text or parts.query or parts.fragment:
        raise ValueError("must be the URL of an OTLP/HTTP collector such as http://127.0.0.1:4318")
    return text if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1/metrics"
