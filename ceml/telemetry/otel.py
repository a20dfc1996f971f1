"""Metrics for OpenTelemetry: the same figures, sent to a collector by OTLP over HTTP every few seconds.

The figures are read on the house's loop and sent from a thread, which sees nothing but what it sends; one that cannot
reach its collector is told of once, and tried again with the next figures. Headers, certificates and the interval are
those of OpenTelemetry's own environment variables (OTEL_EXPORTER_OTLP_HEADERS, OTEL_METRIC_EXPORT_INTERVAL).
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import structlog
from anyio import to_thread
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.resources import Resource

from ceml.errors import SettingsError
from ceml.telemetry.figures import figures_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from anyio.abc import TaskStatus

    from ceml.telemetry.figures import Figure

PERIOD_MS = 10_000.0
TIMEOUT_S = 3.0  # also the longest that the end of the run may wait for a collector that does not answer
INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"


def period_s(environ: Mapping[str, str]) -> float:
    """Seconds between two exports.

    Raises:
        SettingsError: The environment says something else than a number.
    """
    said = environ.get(INTERVAL) or str(PERIOD_MS)
    try:
        milliseconds = float(said)
    except ValueError:
        milliseconds = 0.0
    if not 100.0 <= milliseconds <= 86_400_000.0:
        raise SettingsError(f"{INTERVAL} = {said!r}: must be a number of milliseconds from 100 to 86400000, as 10000")
    return milliseconds / 1000.0


class Export:
    """Sends figures until it is cancelled.

    Args:
        status: How the run stands, as in `protocol.schema.json`.
        endpoint: Of the collector, with path.
        version: Of ceml.
        speed: Seconds of the loop per second of the clock.
    """

    def __init__(
        self, status: Callable[[], Mapping[str, Any]], *, endpoint: str, version: str, speed: float = 1.0
    ) -> None:
        self._status = status
        self._endpoint = endpoint
        self._version = version
        self._period_s = period_s(os.environ) * speed
        self._figures: dict[str, Figure] = {}
        self._reader = InMemoryMetricReader()
        self._failed = False

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Send at once, then every period; a collector that is away is no reason to end."""
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)  # what fails is said once, by us
        exporter: Any = OTLPMetricExporter(endpoint=self._endpoint, timeout=TIMEOUT_S)
        resource = Resource.create({"service.name": "ceml", "service.version": self._version})
        provider = MeterProvider([self._reader], resource=resource, shutdown_on_exit=False)
        self._read()
        self._name(provider)
        task_status.started()
        try:
            while True:
                self._read()
                if (data := self._reader.get_metrics_data()) is not None:
                    send = partial(exporter.export, data, timeout_millis=TIMEOUT_S * 1000)
                    self._heard(await to_thread.run_sync(send, abandon_on_cancel=True))
                await anyio.sleep(self._period_s)
        finally:
            exporter.shutdown()  # also wakes a thread that waits to try again

    def _read(self) -> None:
        self._figures = {figure.name: figure for figure in figures_of(self._status(), self._version)}

    def _name(self, provider: MeterProvider) -> None:
        """One instrument a figure; each asks for its values when the reader does."""
        meter = provider.get_meter("ceml", self._version)
        for figure in self._figures.values():
            make = meter.create_observable_counter if figure.grows else meter.create_observable_gauge
            make(figure.name, [partial(self._observe, figure.name)], unit=figure.unit, description=figure.help)

    def _observe(self, name: str, _options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, dict(labels)) for labels, value in self._figures[name].values.items()]

    def _heard(self, result: MetricExportResult) -> None:
        failed = result is not MetricExportResult.SUCCESS
        if failed != self._failed:
            log = structlog.get_logger("ceml")
            if failed:
                log.warning("otlp_unreachable", endpoint=self._endpoint, again_in_s=self._period_s)
            else:
                log.info("otlp_reached", endpoint=self._endpoint)
        self._failed = failed
