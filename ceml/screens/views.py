"""Which views a run has, by its settings: each opens its door before the run begins, and is started when it is up.

Only what was asked for is imported; what it needs is an extra of the package.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog

from ceml import __version__
from ceml.errors import SettingsError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from contextlib import ExitStack

    from ceml.address import Address
    from ceml.api.protocol import Request, Result
    from ceml.control.bus import Bus
    from ceml.control.household import Household
    from ceml.settings import Settings


def need(setting: str, extra: str, *modules: str) -> None:
    """Import what an extra brings.

    Raises:
        SettingsError: It is not installed.
    """
    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            missing = (error.name or module).partition(".")[0]
            raise SettingsError(
                f"{setting} needs the Python package {missing}, which is not installed: "
                f"pip install 'ceml-runtime[{extra}]'"
            ) from None


class Views:
    """The views of a run.

    Args:
        settings: Which, and where.
        speed: Seconds of the loop per second of the clock.
    """

    def __init__(self, settings: Settings, *, speed: float = 1.0) -> None:
        self._settings = settings
        self._speed = speed
        self._token = settings.web_token.get_secret_value() if settings.web_token is not None else None
        self._doors: dict[str, socket.socket] = {}

    def open(self, stack: ExitStack) -> None:
        """Take the addresses, before anything is written.

        Raises:
            SettingsError: An address cannot be had, or a package is missing.
        """
        if self._settings.web is not None:
            need("web", "web", "starlette", "uvicorn")
            self._open(stack, "web", self._settings.web)
        if self._settings.metrics is not None:
            need("metrics", "prometheus", "prometheus_client", "uvicorn")
            self._open(stack, "metrics", self._settings.metrics)
        if self._settings.otlp is not None:
            need("otlp", "otel", "opentelemetry.sdk.metrics", "opentelemetry.exporter.otlp.proto.http.metric_exporter")
            from ceml.telemetry.otel import period_s

            period_s(os.environ)  # what is wrong with it is said before the run begins

    def _open(self, stack: ExitStack, setting: str, where: Address) -> None:
        from ceml.api.http import listen

        self._doors[setting] = door = listen(where, setting)
        stack.callback(door.close)
        if not where.is_local:
            note = "the token travels unencrypted: on a network that is not yours, use ssh -L and a local address"
            structlog.get_logger("ceml").warning("reachable", setting=setting, address=str(where), note=note)

    async def start(self, home: Household, answer: Callable[[Request, str], Result], bus: Bus) -> None:
        """Start what was opened."""
        if "web" in self._doors:
            await self._start_page(home, answer, bus)
        if "metrics" in self._doors:
            await self._start_metrics(home, _status(answer))
        if self._settings.otlp is not None:
            from ceml.telemetry.otel import Export

            export = Export(_status(answer), endpoint=self._settings.otlp, version=__version__, speed=self._speed)
            await home.start("export of metrics", export.run)

    async def _start_page(self, home: Household, answer: Callable[[Request, str], Result], bus: Bus) -> None:
        from ceml.api.http import address_of
        from ceml.screens.frames import Frames
        from ceml.screens.web import Page

        where = address_of(self._doors["web"])
        page = Page(answer, where=where, token=self._token, version=__version__, speed=self._speed)
        page.frames = Frames(bus, page.frame, speed=self._speed)
        await home.start("frames of the page", page.frames.run)
        await self._serve(home, "web", page)
        changes = "with the token" if self._token else "none: it only shows"
        structlog.get_logger("ceml").info("web", page=f"http://{where}/", changes=changes)

    async def _start_metrics(self, home: Household, status: Callable[[], dict[str, Any]]) -> None:
        from ceml.api.http import address_of
        from ceml.telemetry.prometheus import Metrics

        where = address_of(self._doors["metrics"])
        token = None if where.is_local else self._token
        metrics = Metrics(status, version=__version__, token=token, speed=self._speed)
        await self._serve(home, "metrics", metrics)
        structlog.get_logger("ceml").info("metrics", scrape=f"http://{where}/metrics")

    async def _serve(self, home: Household, setting: str, app: Any) -> None:
        from ceml.api.http import HttpDoor

        await home.start(f"{setting} door", HttpDoor(self._doors[setting], app, name=setting, speed=self._speed).run)


def _status(answer: Callable[[Request, str], Result]) -> Callable[[], dict[str, Any]]:
    """What the control socket tells, as plain data: what is not known is None."""
    from ceml.api.protocol import StatusRequest

    return lambda: answer(StatusRequest(version=1, verb="status"), "metrics").model_dump()
