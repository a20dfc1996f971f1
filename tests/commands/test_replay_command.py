"""What `ceml replay` prints. Not covered: how it is scored (tests/bench)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ceml.cli import main


@pytest.mark.parametrize(("model", "sampler"), [("overlap", "improvement"), ("paper", "paper")])
def test_budget_and_the_sampler_in_force_are_said(model: str, sampler: str, capsys: pytest.CaptureFixture[str]):
    words = ["replay", "jetson-tx2", "--workload", "vit", "--steps", "300", "--model", model, "--budget", "7W"]
    assert main(words) == 0
    assert f"sampler {sampler}, power cap 7 W" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["sampler"], shown["budget_w"]) == (sampler, 7.0)


def test_a_run_without_end_is_refused_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = tmp_path / "slow.csv"
    table.write_text("device,workload,gpu_hz,step_s,power_w\nb,w,5e8,2e4,4\nb,w,1e9,1e4,6\n")
    assert main(["replay", str(table), "--workload", "w", "--steps", "10000"]) == 2
    said = capsys.readouterr().err
    assert "10000 steps take 1.16e+03 days even in the fastest state" in said
    assert said.rstrip().endswith("play fewer (--steps), or read less often (--sensor-period-s)")
    assert main(["replay", str(table), "--workload", "w", "--steps", "1", "--sensor-period-s", "1e3"]) == 0


def test_limits_that_a_scenario_changed_are_named_as_they_were_in_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    scenario = tmp_path / "scenario.toml"
    words = ["replay", "jetson-tx2", "--workload", "vit", "--steps", "300", "--scenario", str(scenario)]
    for text, said in (
        ('[[step]]\nat = "20s"\nbudget = "7W"\n[[step]]\nat = "30s"\nrail_budget = ["gpu=3W"]\n',
         "power cap 7 W, power cap 3 W of rail gpu; changed 2 times"),
        ('[[step]]\nat = "20s"\nbudget = "none"\n', "no limits; changed once"),
    ):  # fmt: skip
        scenario.write_text(text)
        assert main([*words, "--budget", "9W"]) == 0
        shown = capsys.readouterr().out
        assert "power cap 9 W" in next(line for line in shown.splitlines() if line.startswith("asked for"))
        assert next(line for line in shown.splitlines() if line.startswith("limits at the end")).endswith(said)
    scenario.write_text('[[step]]\nat = "20s"\nobjective = "edp"\n')
    assert main([*words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["limits"], figures["limits_at_end"], figures["limits_changed"]) == ([], [], 0)
    assert (figures["objective"], figures["objective_at_end"]) == ("energy", "edp")
    assert figures["run_excess"] is None, "of two objectives there is no one best run"
    assert main(words) == 0
    assert "what the chosen state is held against" in capsys.readouterr().out


def test_a_run_is_scored_by_the_objective_that_is_in_force_in_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[[step]]\nat = "60s"\nobjective = "performance"\n')
    words = ["replay", "jetson-tx2", "--workload", "vit", "--steps", "600", "--scenario", str(scenario), "--json"]
    assert main(words) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["regret"] < 0.05
    assert figures["chosen_energy_j"] > 1.05 * figures["best_energy_j"], "by joules it would be a bad state"


def test_a_sensor_that_is_hardly_ever_read_is_named_as_the_reason_for_no_decision(capsys: pytest.CaptureFixture[str]):
    assert main(["replay", "jetson-tx2", "--workload", "vit", "--steps", "300", "--sensor-period-s", "1000"]) == 0
    assert "1 power sample was read in the whole run" in capsys.readouterr().out


def test_turns_may_beat_the_best_single_state_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = tmp_path / "two.csv"
    rows = "".join(f"b,w,{hz},{1e9 / hz},{power}\n" for hz, power in ((1e9, 2.0), (2e9, 20.0)))
    table.write_text("device,workload,gpu_hz,step_s,power_w\n" + rows)
    words = ["replay", str(table), "--workload", "w", "--target", "1.3/s", "--steps", "1000"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "in turns with" in shown
    assert "turns may beat the best single one" in shown
    assert main([*words, "--no-turns"]) == 0
    assert "turns may beat" not in capsys.readouterr().out


@pytest.mark.parametrize(("objective", "against"), [("energy", True), ("performance", False), ("edp", False)])
def test_the_energy_of_a_run_is_held_against_the_best_state_for_objective_energy_alone(
    objective: str, against: bool, capsys: pytest.CaptureFixture[str]
):
    assert main(["replay", "jetson-tx2", "--workload", "vit", "--steps", "300", "--objective", objective]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("energy of the run")]
    assert " J in " in row
    assert "unknown" not in row
    assert row.endswith("above the best state's") is against
