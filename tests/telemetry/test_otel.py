"""Figures as an OpenTelemetry collector gets them: a real `ceml serve --otlp` sends to a real HTTP server.

Not covered: the values themselves (test_figures.py), a collector behind TLS.
"""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.test_serve import CLEAN, FAST, app, ceml, serving, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


class Collector:
    """Takes what is posted to /v1/metrics, as an OTLP receiver does; refuses while `refuses`."""

    def __init__(self, port: int = 0) -> None:
        self.taken: list[ExportMetricsServiceRequest] = []
        ours = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                good = self.path == "/v1/metrics" and self.headers["content-type"] == "application/x-protobuf"
                if good:
                    ours.taken.append(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200 if good else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]

    def values(self, number: int = -1) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Metric -> labels and value of each point of one export."""
        told: dict[str, list[tuple[dict[str, str], float]]] = {}
        for metric in self.metrics(number):
            for point in (*metric.sum.data_points, *metric.gauge.data_points):
                labels = {each.key: each.value.string_value for each in point.attributes}
                told.setdefault(metric.name, []).append((labels, point.as_double))
        return told

    def metrics(self, number: int = -1) -> list[Any]:
        resource = self.taken[number].resource_metrics[0]
        return [metric for scope in resource.scope_metrics for metric in scope.metrics]


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    collector = Collector(port)
    thread = threading.Thread(target=collector.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        thread.join()
        collector.server.server_close()


def test_figures_arrive_and_a_collector_that_goes_is_missed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(CLEAN, "OTEL_METRIC_EXPORT_INTERVAL", "200")
    with collecting() as collector:
        port = collector.port
        with serving(tmp_path, *FAST, "--budget", "19W", "--otlp", f"http://127.0.0.1:{port}") as server:
            program = app(tmp_path, "--workload", "gpu-bound", "--steps", 10_000_000)
            wait_until(lambda: bool(server.events("decided")), "a decision")
            since = len(collector.taken)
            wait_until(lambda: len(collector.taken) > since + 2, "two exports")
            before, after = collector.values(since), collector.values()
            assert after["ceml_steps"][0][1] > before["ceml_steps"][0][1]
            assert after["ceml_energy_joules"][0][1] > before["ceml_energy_joules"][0][1]
            assert after["ceml_board_power_cap_watts"] == [({}, 19.0)]
            assert {labels["rail"] for labels, _ in after["ceml_power_watts"]} == {"cpu", "gpu", "mem", "total"}
            kinds = {metric.name: metric for metric in collector.metrics()}
            assert kinds["ceml_steps"].sum.is_monotonic
            assert kinds["ceml_power_watts"].unit == "W"
            resource = {
                each.key: each.value.string_value
                for each in collector.taken[-1].resource_metrics[0].resource.attributes
            }
            assert resource["service.name"] == "ceml"
            collector.server.shutdown()
            collector.server.server_close()
            wait_until(lambda: server.said("otlp_unreachable"), "the loss")
            with collecting(port) as other:
                wait_until(lambda: bool(other.taken), "the return")
                wait_until(lambda: server.said("otlp_reached"), "the word of it")
            program.terminate()
            program.communicate()
            assert server.end()[0] == 0
            log = server.log.read_text()
            assert log.count("otlp_unreachable") in (1, 2)
            assert "Traceback" not in log


def test_without_a_collector_the_run_goes_on_and_ends(tmp_path: Path):
    with serving(tmp_path, *FAST, "--otlp", "http://127.0.0.1:9") as server:
        wait_until(lambda: server.said("otlp_unreachable"), "the word of it")
        assert server.end()[0] == 0
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    "url", ["localhost:4318", "ftp://a", "http://", "http://a:99999", "http://a b", "", "http://a?b"]
)
def test_what_is_no_url_is_refused_with_a_sentence(tmp_path: Path, url: str):
    done = ceml("serve", "--runtime-dir", tmp_path, "--otlp", url)
    assert done.returncode == 2
    assert "must be the URL of an OTLP/HTTP collector such as http://127.0.0.1:4318" in done.stderr


def test_a_bad_interval_is_refused_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(CLEAN, "OTEL_METRIC_EXPORT_INTERVAL", "soon")
    done = ceml("serve", "--runtime-dir", tmp_path, "--otlp", "http://127.0.0.1:4318")
    assert done.returncode == 2
    assert "OTEL_METRIC_EXPORT_INTERVAL = 'soon': must be a number of milliseconds" in done.stderr
