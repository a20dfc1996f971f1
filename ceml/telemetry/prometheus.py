"""Metrics for Prometheus: a collector that reads the status when it is scraped, and what answers `GET /metrics`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import anyio
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ceml.telemetry.figures import figures_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping

    from prometheus_client.metrics_core import Metric

    from ceml.telemetry.figures import Figure

    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WRONG_TOKEN_S = 1.0  # before it is said
KEPT_S = 0.1  # an answer serves everybody who asks so soon after


class Figures(Collector):
    """The figures of a run as metric families.

    Args:
        status: How the run stands, as in `protocol.schema.json`.
        version: Of ceml.
    """

    def __init__(self, status: Callable[[], Mapping[str, Any]], version: str) -> None:
        self._status = status
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """What is known now."""
        return (_family(figure) for figure in figures_of(self._status(), self._version) if figure.values)


def _family(figure: Figure) -> Metric:
    kind = CounterMetricFamily if figure.grows else GaugeMetricFamily
    names = [name for name, _ in next(iter(figure.values))]
    family = kind(figure.name, figure.help, labels=names)
    for labels, value in figure.values.items():
        family.add_metric([text for _, text in labels], value)
    return family


class Metrics:
    """The ASGI application.

    Args:
        status: How the run stands.
        version: Of ceml.
        token: Asked for as `Authorization: Bearer`; None: everybody who can connect may look.
        speed: Seconds of the loop per second of the clock.
    """

    def __init__(
        self,
        status: Callable[[], Mapping[str, Any]],
        *,
        version: str,
        token: str | None = None,
        speed: float = 1.0,
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(Figures(status, version))
        self._token = token
        self._kept_s = KEPT_S * speed
        self._wrong_s = WRONG_TOKEN_S * speed
        self._kept: dict[str, tuple[float, bytes]] = {}  # content type -> when, what

    async def __call__(self, scope: Mapping[str, Any], receive: object, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        kind = "text/plain; charset=utf-8"
        if self._token is not None and not self._may(headers.get(b"authorization", b"")):
            if b"authorization" in headers:
                await anyio.sleep(self._wrong_s)  # who guesses, guesses slowly
            status, body = 401, b"the token is asked for, as Authorization: Bearer TOKEN\n"
        elif scope["path"] not in ("/metrics", "/"):
            status, body = 404, b"metrics are at /metrics\n"
        elif scope["method"] not in ("GET", "HEAD"):
            status, body = 405, b"only GET\n"
        else:
            status, (kind, body) = 200, self._text(headers.get(b"accept", b"").decode("latin-1"))
        told = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": told})
        await send({"type": "http.response.body", "body": body})

    def _may(self, said: bytes) -> bool:
        how, _, token = said.partition(b" ")
        return how.lower() == b"bearer" and secrets.compare_digest(token.strip(), (self._token or "").encode())

    def _text(self, accept: str) -> tuple[str, bytes]:
        """The exposition in the form that is wanted."""
        encode, kind = choose_encoder(accept)
        now_s = anyio.current_time()
        kept = self._kept.get(kind)
        if kept is None or now_s - kept[0] >= self._kept_s:
            self._kept = {kind: (now_s, encode(self._registry))}
        return kind, self._kept[kind][1]
