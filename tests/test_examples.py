"""Every example does what its page says, run as its page says.

Not covered here: what the commands print in detail (tests/commands).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT
from tests.test_serve import serving, wait_until

EXAMPLES = ROOT / "examples"
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("CEML_")}


def run(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, env={**CLEAN, **env})


def test_01_the_demo_ends_with_a_summary_that_names_the_saving() -> None:
    done = run(EXAMPLES / "01-simulated" / "run.py", "--steps", 400, "--speed", 150)
    assert done.returncode == 0, done.stderr
    for words in ("before", "after", "saving", "profiling", "true best", "simulated"):
        assert words in done.stdout, done.stdout


def test_02_a_real_training_loop_beats_and_trains_with_and_without_a_server(tmp_path: Path) -> None:
    train = EXAMPLES / "02-heartbeat-app" / "train.py"
    alone = run(train, "--steps", 300, CEML_PIPE=str(tmp_path / "nothing"))
    assert alone.returncode == 0, alone.stderr
    with serving(tmp_path, "--workload", "lstm", "--record-level", "all") as server:
        done = run(train, "--steps", 300, CEML_PIPE=str(tmp_path / "beats"))
        assert done.returncode == 0, done.stderr
        wait_until(lambda: bool(server.events("app_left")), "the goodbye")
        beats = server.events("heartbeat")
        server.end()
    assert sum(beat["work"] for beat in beats) == 300
    assert all(beat["metrics"]["loss"] >= 0 for beat in beats)
    assert done.stdout.splitlines()[-1] == alone.stdout.splitlines()[-1]


@pytest.mark.parametrize(("longest_s", "can_hold"), [("1.0", True), ("0.1", False)])
def test_03_an_objective_of_ones_own(longest_s: str, can_hold: bool) -> None:
    plugin = f"examples/03-own-objective/objective.py:fast_enough:longest_s={longest_s}"
    done = run("-m", "ceml", "replay", "jetson-tx2", "--workload", "gpu-bound", "--objective", plugin, "--json")
    assert done.returncode == 0, done.stderr
    played = json.loads(done.stdout)
    assert played["feasible"] is can_hold
    assert (f"step time limit {longest_s.rstrip('.0')} s cannot hold" in played["why"]) is not can_hold


def test_04_the_budget_falls_and_rises_and_the_power_with_it(tmp_path: Path) -> None:
    done = run(EXAMPLES / "04-budget-change" / "run.py", "--steps", 1600, "--out", tmp_path / "fig10")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "fig10" / "windows.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    for low, from_s, to_s in ((False, 100.0, 600.1), (True, 600.2, 760.1), (False, 760.2, 1e9)):
        inside = [row for row in rows if from_s <= row["from_s"] and row["to_s"] <= to_s]
        assert inside
        assert {row["cap_w"] for row in inside} == {5.0 if low else 12.0}
        assert (sum(row["power_w"] for row in inside) / len(inside) < 5.0) is low
    assert "simulated" in done.stdout
    if find_spec("matplotlib") is None:
        assert "pip install ceml-runtime[report]" in done.stderr
        assert "no picture" in done.stdout
    else:
        assert ElementTree.parse(tmp_path / "fig10" / "figure.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("page", sorted(EXAMPLES.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_every_page_is_short(page: Path) -> None:
    assert len([line for line in page.read_text().splitlines() if line.strip()]) <= 14
