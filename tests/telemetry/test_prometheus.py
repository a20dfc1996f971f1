"""Metrics as Prometheus takes them: a real `ceml serve --metrics`, and Debian's Prometheus where it is installed.

Not covered: the values themselves (test_figures.py).
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from tests.screens.page_of import TOKEN, get, port_of
from tests.test_serve import FAST, Server, app, ceml, serving, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
pytest.importorskip("uvicorn", reason="the extra prometheus is not installed")
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("metrics")
    with serving(folder, *FAST, "--budget", "19W", "--metrics", "127.0.0.1:0") as server:
        program = app(folder, "--workload", "gpu-bound", "--steps", 10_000_000)
        wait_until(lambda: bool(server.events("decided")), "a decision")
        yield server
        program.terminate()
        program.communicate()
        assert server.end()[0] == 0
        assert "Traceback" not in server.log.read_text()


@pytest.fixture
def port(server: Server) -> int:
    return port_of(server, "scrape")


def test_a_scrape_tells_how_the_run_stands(port: int):
    status, headers, body = get(port, "/metrics")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    lines = body.decode().splitlines()
    for name in (
        "ceml_steps_total ",
        "ceml_energy_joules_total ",
        'ceml_power_watts{rail="gpu"} ',
        "ceml_board_power_cap_watts 19.0",
        'ceml_frequency_hertz{device="cpu"} ',
        'ceml_limit_headroom_ratio{limit="power cap"} ',
        "ceml_step_energy_joules ",
        'ceml_phase{phase="',
    ):
        assert any(line.startswith(name) for line in lines), name


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine")
def test_promtool_finds_nothing_to_blame(port: int):
    told = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=get(port, "/metrics")[2], capture_output=True, check=False
    )
    assert (told.returncode, told.stdout + told.stderr) == (0, b"")


@pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus on this machine")
def test_a_real_prometheus_scrapes_it_and_answers_the_dashboards_questions(port: int, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = free.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: ceml, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    )
    words = [str(PROMETHEUS), f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    words.append(f"--web.listen-address=127.0.0.1:{own}")
    log = (tmp_path / "log").open("w")

    def value(query: str) -> float | None:
        try:
            with urlopen(f"http://127.0.0.1:{own}/api/v1/query?query={quote(query)}", timeout=5) as reply:
                result = json.load(reply)["data"]["result"]
        except (URLError, ConnectionError):
            return None
        return float(result[0]["value"][1]) if result else None

    with log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: value('up{job="ceml"}') == 1.0, "a scrape", seconds=60)
            wait_until(lambda: (value("rate(ceml_steps_total[10s])") or 0.0) > 0.0, "steps that grow", seconds=60)
            energy = "rate(ceml_energy_joules_total[10s]) / rate(ceml_steps_total[10s])"
            wait_until(lambda: (value(energy) or 0.0) > 0.0, "energy per step", seconds=60)
            assert value('ceml_power_watts{rail="total"}') == pytest.approx(value("ceml_board_power_watts"), rel=0.5)
            assert value("ceml_board_power_cap_watts") == 19.0
        finally:
            process.terminate()
            process.wait(30)


def test_other_questions_have_short_answers(port: int):
    assert get(port, "/secrets")[0] == 404
    assert get(port, "/metrics", "POST", b"x" * 100_000)[0] == 405
    assert get(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")[2].endswith(b"# EOF\n")
    assert get(port, "/metrics", Accept="\xff;;q=x,*/*")[0] == 200


def test_where_others_can_connect_it_asks_for_the_token(tmp_path: Path):
    done = ceml("serve", "--runtime-dir", tmp_path, "--metrics", "0.0.0.0:9105")
    assert done.returncode == 2
    assert "metrics = 0.0.0.0:9105 can be reached by other machines: set a token (CEML_WEB_TOKEN)" in done.stderr
    with serving(tmp_path, *FAST, "--metrics", "0.0.0.0:0", "--web-token", TOKEN) as server:
        port = port_of(server, "scrape")
        assert get(port, "/metrics")[0] == 401
        assert get(port, "/metrics", Authorization="Bearer nonsense")[0] == 401
        assert get(port, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_a_port_that_is_taken_is_named(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = ceml("serve", "--runtime-dir", tmp_path, "--metrics", where)
    assert done.returncode == 2
    assert f"metrics = {where}: Address already in use" in done.stderr
