"""What the whole house costs: the daemon's CPU and memory while it serves, and how fast an hour of virtual time passes.

Run by `make bench`; timing is no verdict in `make test`. Not covered: single rooms (the other files here).
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ceml.apps.client import attach
from ceml.bench.play import play
from ceml.settings import load
from tests.test_serve import serving

SECONDS = 20


def cpu_s(pid: int) -> float:
    """CPU time of all threads so far, from the scheduler's own count in nanoseconds."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@pytest.mark.parametrize("model", ["paper", "overlap"])
def test_daemon_at_10_beats_and_10_samples_a_second(benchmark, tmp_path: Path, model: str) -> None:
    """F7: below 1 % of a core; memory below 80 MB."""
    benchmark.extra_info.update(goal_cpu_percent=1.0, goal_resident_mb=80)

    def serve() -> None:
        with serving(tmp_path, "--workload", "lstm", "--model", model, "--beats-per-state", 5) as server:
            with attach("bench", pipe=str(tmp_path / "beats")) as beats:
                for _ in range(120):  # profiled and decided: what is measured is the state it stays in
                    beats.beat()
                    time.sleep(0.1)
                assert server.events("decided")
                start_s, used_s = time.monotonic(), cpu_s(server.process.pid)
                for _ in range(10 * SECONDS):
                    beats.beat()
                    time.sleep(0.1)
                used_s = cpu_s(server.process.pid) - used_s
                benchmark.extra_info["cpu_percent"] = round(100 * used_s / (time.monotonic() - start_s), 2)
                benchmark.extra_info["resident_mb"] = round(resident_mb(server.process.pid), 1)
            server.end()

    benchmark.pedantic(serve, rounds=1)


def test_an_hour_of_virtual_time(benchmark) -> None:
    """36 000 sensor polls and some 4000 beats through the whole house."""
    loaded = load(None, {"platform": "simulated", "workload": "gpu-bound"}, {})
    seconds: list[float] = []
    benchmark.pedantic(lambda: seconds.append(play(loaded, steps=2950).figures.run_s), rounds=5, warmup_rounds=1)
    assert seconds[0] == pytest.approx(3600, rel=0.1)
    if benchmark.stats is not None:
        hour_s = benchmark.stats.stats.median * 3600 / seconds[0]
        benchmark.extra_info.update(real_s_per_hour=round(hour_s, 2), virtual_s=round(seconds[0]))
