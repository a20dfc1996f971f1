"""What it costs to be looked at: CPU and memory of the daemon and of `ceml top`, and how soon a wish is in force.

Run by `make bench`; nothing here passes or fails by a time. Not covered: what a browser spends.
"""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import anyio
import pytest

from ceml.address import Address
from ceml.api.client import ask
from ceml.api.protocol import Good, StatusRequest, line_of
from ceml.apps.client import attach
from ceml.desk import Desk
from ceml.domain.events import WindowClosed
from ceml.parts import choose
from ceml.runtime import House, replay
from ceml.sources import load
from ceml.store.paths import PlatformContext
from ceml.telemetry.ledger import Ledger
from ceml.timeline import VirtualLoop
from tests.benchmarks.test_bench_house import cpu_s, resident_mb
from tests.screens.page_of import frames, port_of
from tests.test_serve import CEML, CLEAN, Server, serving, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ceml.domain.events import Event

pytest.importorskip("starlette", reason="the extra web is not installed")
pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
pytest.importorskip("textual", reason="the extra tui is not installed")
from ceml.screens.web import Page
from ceml.telemetry.prometheus import Metrics

SECONDS = 15
CHANGES = 40
VIEWS = ("--web", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
LOOKS = {"off": 0, "on": 1, "crowd": 100}  # who looks: nobody and no view, one of each kind, a hundred at the page


@contextmanager
def beating(folder: Path, *words: str) -> Iterator[Server]:
    """A server in its settled state, with a program that beats ten times a second."""
    with serving(folder, "--workload", "lstm", "--beats-per-state", "5", *words) as server:
        with suppress(PermissionError):  # else the latency is that of whatever else runs on this machine
            os.setpriority(os.PRIO_PROCESS, server.process.pid, -15)
        done = threading.Event()

        def beat() -> None:
            with attach("bench", pipe=str(folder / "beats")) as beats:
                while not done.wait(0.1):
                    beats.beat()

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            wait_until(lambda: bool(server.events("decided")), "a decision", seconds=120)
            yield server
        finally:
            done.set()
            thread.join()
        server.end()


@contextmanager
def looked_at(server: Server, viewers: int) -> Iterator[int | None]:
    """Somebody at the page, a scrape a second, and `ceml top`, whose process id it gives."""
    done = threading.Event()
    page, scrape = port_of(server), port_of(server, "scrape")

    def look() -> None:
        for _ in frames(page):
            if done.is_set():
                return

    def scrapes() -> None:
        while not done.wait(1.0):
            urlopen(f"http://127.0.0.1:{scrape}/metrics").read()

    threads = [threading.Thread(target=look) for _ in range(viewers)] + [threading.Thread(target=scrapes)]
    for thread in threads:
        thread.start()
    ours, theirs = pty.openpty()
    words = [*CEML, "top", "--runtime-dir", str(server.folder)]
    environment = CLEAN | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    top = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)

    def read() -> None:
        try:
            while os.read(ours, 65536):
                pass
        except OSError:
            return

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(3.0)
    try:
        yield top.pid
    finally:
        done.set()
        top.kill()
        top.wait()
        for thread in (*threads, reader):
            thread.join()
        os.close(ours)


@pytest.mark.parametrize("looks", list(LOOKS))
def test_what_looking_costs(benchmark, tmp_path: Path, looks: str) -> None:
    """Web, TUI and metrics together: below 2 % of a core at 10 beats and 10 samples a second."""
    benchmark.extra_info.update(goal_cpu_percent_more=2.0)

    def serve() -> None:
        with beating(tmp_path, *(VIEWS if looks != "off" else ())) as server, ExitStack() as stack:
            pids = {"daemon": server.process.pid}
            if looks != "off":
                pids["top"] = stack.enter_context(looked_at(server, LOOKS[looks]))
            start_s, used_s = time.monotonic(), {name: cpu_s(pid) for name, pid in pids.items()}
            time.sleep(SECONDS)
            wall_s = time.monotonic() - start_s
            for name, pid in pids.items():
                benchmark.extra_info[f"{name}_cpu_percent"] = round(100 * (cpu_s(pid) - used_s[name]) / wall_s, 2)
                benchmark.extra_info[f"{name}_resident_mb"] = round(resident_mb(pid), 1)

    benchmark.pedantic(serve, rounds=1)


@pytest.mark.parametrize("looks", list(LOOKS))
def test_how_soon_a_wish_is_in_force(benchmark, tmp_path: Path, looks: str) -> None:
    """From a budget on the control socket to the configuration that keeps it, by the record's own times."""

    def serve() -> None:
        with beating(tmp_path, *(VIEWS if looks != "off" else ())) as server, ExitStack() as stack:
            if looks != "off":
                stack.enter_context(looked_at(server, LOOKS[looks]))
            for number in range(CHANGES):
                ask(tmp_path / "control.sock", "budget", limits={"budget": "4W" if number % 2 else "30W"})
                time.sleep(0.25)
            events = server.events()
        took_s, asked_s = [], None
        for event in events:
            if event["event"] == "budget_changed":
                asked_s = event["at_s"]
            elif event["event"] == "configuration_applied" and asked_s is not None:
                took_s.append(event["at_s"] - asked_s)
                asked_s = None
        assert len(took_s) > CHANGES / 4
        benchmark.extra_info.update(
            changes=len(took_s),
            median_ms=round(1000 * statistics.median(took_s), 2),
            p90_ms=round(1000 * statistics.quantiles(took_s, n=10)[8], 2),
        )

    benchmark.pedantic(serve, rounds=1)


def test_how_long_the_loop_is_held_by_one_look(benchmark) -> None:
    """The most that a look can add to the latency of control: each of these is one step of the loop."""
    loaded = load(None, {"platform": "simulated", "workload": "gpu-bound", "budget": "20W"}, {})
    parts = choose(loaded, PlatformContext(runtime_dir=Path(), in_process=True), steps=400)
    house = House(parts=parts, ledger=Ledger(parts.platform.total_rails))
    took_ms: dict[str, float] = {}

    def median_ms(what: Callable[[], object]) -> float:
        took_s = []
        for _ in range(200):
            start_s = time.perf_counter()
            what()
            took_s.append(time.perf_counter() - start_s)
        return round(1000 * statistics.median(took_s), 3)

    def eye(event: Event) -> None:
        if took_ms or not isinstance(event, WindowClosed) or house.ledger.decisions == 0:
            return
        assert house.controller is not None
        desk = Desk(parts, house.ledger, house.diary, house.controller, house.bus)
        page = Page(desk.answer, where=Address("127.0.0.1", 0), token=None, version="0")
        ask_status = StatusRequest(version=1, verb="status")
        metrics = Metrics(lambda: desk.answer(ask_status, "bench").model_dump(), version="0")
        took_ms["status_ms"] = median_ms(lambda: line_of(Good(server="0", result=desk.answer(ask_status, "bench"))))
        took_ms["frame_ms"] = median_ms(page.frame)
        took_ms["scrape_ms"] = median_ms(lambda: (metrics._kept.clear(), metrics._text("")))
        took_ms["frame_kb"] = round(len(page.frame()) / 1000, 1)

    def run() -> None:
        anyio.run(replay, house, [eye], backend_options={"loop_factory": VirtualLoop})

    benchmark.pedantic(run, rounds=1)
    assert took_ms
    benchmark.extra_info.update(took_ms)
