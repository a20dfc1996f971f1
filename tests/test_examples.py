"""Every example does what its page says, run as its page says.

Not covered here: what the commands print in detail (tests/commands).
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ceml.cli import main
from tests.conftest import ROOT
from tests.frameworks import python_with
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


FRAMEWORKS = [
    ("05-pytorch", ("torch",), 96, {"epoch", "loss"}),
    ("06-lightning", ("lightning", "torch"), 96, {"epoch", "loss"}),
    ("07-huggingface", ("transformers", "accelerate", "torch"), 60, set()),
    ("08-keras", ("keras", "torch"), 96, {"epoch", "loss", "accuracy"}),
    ("09-onnxruntime", ("onnxruntime", "onnx"), 300, {"latency_s"}),
]


@pytest.mark.parametrize(("name", "modules", "steps", "metrics"), FRAMEWORKS, ids=[row[0] for row in FRAMEWORKS])
def test_05_to_09_a_framework_beats_by_its_own_steps(
    name: str, modules: tuple[str, ...], steps: int, metrics: set[str], tmp_path: Path
) -> None:
    (command,) = commands(name)
    words = command.split()
    assert words[:4] == ["ceml", "run", "--", "python"]
    python, record = python_with(*modules), tmp_path / "run.jsonl"
    options = ["--runtime-dir", tmp_path, "--record", record, "--record-level", "all", "--workload", "lstm"]
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(tmp_path)}
    done = run("-m", "ceml", "run", *options, "--", python, *words[4:], **env)
    assert done.returncode == 0, done.stderr
    assert f"done: {steps} " in done.stdout
    events = [json.loads(line) for line in record.read_text().splitlines()]
    beats = [event for event in events if event["event"] == "heartbeat"]
    assert sum(beat["work"] for beat in beats) == steps
    assert metrics <= {metric for beat in beats for metric in beat["metrics"]}
    (joined,) = [event for event in events if event["event"] == "app_joined"]
    assert joined["total_work"] == steps


@pytest.mark.parametrize("name", [row[0] for row in FRAMEWORKS])
def test_05_to_09_at_most_three_lines_are_added(name: str) -> None:
    (program,) = (EXAMPLES / name).glob("*.py")
    assert 1 <= sum("# CEML" in line for line in program.read_text().splitlines()) <= 3


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
def test_10_a_program_in_c_and_a_shell_script(tmp_path: Path) -> None:
    (command,) = commands("10-c-and-shell")
    shutil.copytree(EXAMPLES / "10-c-and-shell", tmp_path / "examples" / "10-c-and-shell")
    for name, done in (("c", in_shell(command.replace("./work", "./work 50"), tmp_path)), ("shell", shell(tmp_path))):
        assert done.returncode == 0, done.stderr
        assert "done: " in done.stdout, name
        assert "no heartbeat came" not in done.stderr


def shell(folder: Path) -> subprocess.CompletedProcess[str]:
    return in_shell(f"ceml run -- sh {EXAMPLES / '10-c-and-shell' / 'work.sh'} 5", folder)


def test_11_three_objectives_choose_as_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = commands("11-objectives")
    mine = str(ROOT / command.split()[-1].partition(".py:")[0]) + ".py"

    def played(objective: str) -> dict[str, Any]:
        assert (
            main(["replay", "jetson-tx2", "--workload", "vit", "--steps", "800", "--objective", objective, "--json"])
            == 0
        )
        return json.loads(capsys.readouterr().out)

    energy, ratio = played("energy")["chosen"], played(f"{mine}:steps_per_joule")["chosen"]
    assert ratio == energy
    assert played(f"{mine}:money:euro_per_hour=0")["chosen"] == energy
    assert played(f"{mine}:money:euro_per_hour=1000")["chosen"] == played("performance")["chosen"]
    assert played(f"{mine}:patient:slowdown=0.05")["chosen"] == played("min_energy:max_slowdown=0.05")["chosen"]
    for factory in ("steps_per_joule", "patient", "money"):
        assert main(["plugin", "check", f"{mine}:{factory}"]) == 0


def test_12_a_model_of_ones_own(tmp_path: Path) -> None:
    (command,) = commands("12-own-model")
    done = in_shell(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ceml_my_model.py:my_model" in done.stdout


def commands(name: str) -> list[str]:
    """What a page tells to type."""
    lines = (EXAMPLES / name / "README.md").read_text().splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


def in_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As it stands on the page, in a folder of its own."""
    env = CLEAN | {"PATH": f"{Path(sys.executable).parent}:{CLEAN['PATH']}", "XDG_RUNTIME_DIR": str(folder)}
    env |= {"XDG_STATE_HOME": str(folder)}
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=150, env=env)


@pytest.mark.parametrize("page", sorted(EXAMPLES.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_every_page_is_short(page: Path) -> None:
    assert len([line for line in page.read_text().splitlines() if line.strip()]) <= 14
