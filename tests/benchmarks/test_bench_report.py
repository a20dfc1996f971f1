"""A day's record (10 beats and 10 samples a second) made into a page: below 20 s and 500 MB; the page below 3 MB.

Run by `make bench`; the record itself is made before, which takes longer than reading it.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks.long_record import long_record, real_record

pytest.importorskip("matplotlib", reason="matplotlib (extra report) is not installed")


@pytest.mark.parametrize("level", ["windows", "all"])
def test_a_page_of_a_day(benchmark, tmp_path: Path, level: str) -> None:
    if benchmark.disabled:
        pytest.skip("only `make bench` makes a record of a day")
    record = tmp_path / "day.jsonl"
    benchmark.extra_info.update(lines=long_record(real_record(tmp_path / "source.jsonl"), record, level=level))
    page = tmp_path / "page.html"
    took_s: list[float] = []

    def make() -> None:
        before_s = time.perf_counter()
        command = [sys.executable, "-m", "ceml", "report", str(record), "-o", str(page)]
        assert subprocess.run(command, stdout=subprocess.DEVNULL, check=True).returncode == 0
        took_s.append(time.perf_counter() - before_s)

    benchmark.pedantic(make, rounds=1)
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    benchmark.extra_info.update(
        record_mb=round(record.stat().st_size / 1e6), page_mb=round(page.stat().st_size / 1e6, 2), goal_page_mb=3,
        resident_mb=round(peak_mb), goal_resident_mb=500, goal_s=20, took_s=round(took_s[0], 1),
    )  # fmt: skip
