"""The whole house in virtual time: real bus, controller, pollers, watcher, telemetry; a plant as the board.

Not covered here: processes, pipes and signals (test_serve.py), figures themselves (tests/bench).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ceml.bench.play import Played, play
from ceml.sources import load


def played(*, steps: int = 400, **flags: object) -> Played:
    flags = {"platform": "simulated", "workload": "gpu-bound", **flags}
    return play(load(None, flags, {}), steps=steps)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_papers_loop_saves_energy_on_the_simulated_board() -> None:
    figures = played(steps=2000, model="paper").figures
    assert figures.states == 540
    assert figures.states_tried == 8
    assert figures.saving is not None
    assert figures.saving > 0.1
    assert figures.feasible


def test_the_same_seed_gives_byte_identical_records(tmp_path: Path) -> None:
    for name in ("one", "two", "other"):
        played(record=tmp_path / name, record_level="all", seed=7 if name != "other" else 8)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_an_hour_of_virtual_time_passes_and_nothing_is_missed(tmp_path: Path) -> None:
    record = tmp_path / "hour.jsonl"
    run = played(steps=3000, record=record, record_level="windows")
    events = lines(record)
    assert run.figures.run_s > 3600 * 0.8
    assert not [event for event in events if event["event"] == "events_missed"]
    ended = events[-1]
    assert (ended["event"], ended["steps"], ended["reason"]) == ("run_ended", 3000, "program done")
    assert ended["energy_j"] == pytest.approx(run.figures.run_energy_j, rel=0.02)


def test_steps_are_conserved_from_program_to_score() -> None:
    run = played(steps=321)
    assert run.about["steps"] == 321


def test_the_machine_is_given_back_at_the_end(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    played(record=record)
    events = lines(record)
    found = events[0]["found"]
    released = [event for event in events if event["event"] == "configuration_released"]
    assert released[-1]["effective"] == found


def test_settle_times_are_kept_out_of_the_windows(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    played(record=record)
    opened_s = 0.0
    for event in lines(record):
        if event["event"] == "configuration_applied":
            opened_s = event["in_force_s"]
            assert event["in_force_s"] - event["at_s"] <= 0.008 + 1e-9
        if event["event"] == "window_closed":
            assert event["observation"]["start_s"] >= opened_s


def test_the_default_ends_at_the_best_state_of_the_simulated_board() -> None:
    for workload in ("vit", "lstm", "cpu-bound"):
        figures = played(steps=2000, workload=workload).figures
        assert figures.run_excess is not None
        assert figures.regret is not None
        assert figures.run_excess < 0.03
        assert figures.regret < 0.02


OBJECTIVES = ["energy", "edp", "ed2p", "performance", "perf_per_watt", "min_energy:max_slowdown=0.2", "carbon"]


@pytest.mark.parametrize(
    ("search", "model"),
    [
        ("exhaustive", "overlap"),
        ("local", "paper"),
        *(pytest.param(*pair, marks=pytest.mark.fuzz) for pair in (("local", "overlap"), ("exhaustive", "paper"))),
    ],
)
@pytest.mark.parametrize(
    "objective", ["energy", "edp", "ed2p", "performance", "perf_per_watt", "min_energy:max_slowdown=0.2", "carbon"]
)
def test_every_objective_runs_with_every_search(objective: str, search: str, model: str) -> None:
    figures = played(objective=objective, search=search, model=model).figures
    assert figures.chosen is not None
    assert figures.regret is not None


def test_a_cap_below_every_state_is_flagged_and_the_least_violation_chosen(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    figures = played(objective="performance", budget="1W", record=record).figures
    (decided,) = [event for event in lines(record) if event["event"] == "decided"]
    assert decided["feasible"] is False
    assert figures.feasible is False
    assert figures.best is None


def test_measured_tables_play(tables: Path) -> None:
    flags = {"platform": "replay", "table": tables / "jetson-tx2-train.csv", "workload": "lstm-imdb-train"}
    run = play(load(None, flags, {}), steps=2000)
    assert run.figures.states == 936
    assert run.figures.possible_saving == pytest.approx(0.244, abs=0.002)
    again = play(load(None, flags, {}), steps=2000)
    assert again.figures == run.figures


@pytest.mark.parametrize("bad", ["np.inf", "np.nan"])
def test_states_without_a_cost_are_passed_over_by_the_default(tmp_path: Path, bad: str) -> None:
    plugin = tmp_path / "lim.py"
    plugin.write_text(
        "import numpy as np\nclass Lim:\n  constraints = ()\n  def cost(self, predicted, now):\n"
        f"    return np.where(predicted.power_w > 8, {bad}, predicted.power_w / predicted.rate_hz)\n"
        "def lim():\n  return Lim()\n"
    )
    figures = played(workload="resnet50", objective=f"{plugin}:lim", steps=1000).figures
    assert figures.chosen is not None
    assert figures.regret is not None
    assert figures.regret < 0.05


def test_two_states_take_turns_where_levels_are_coarse_and_the_target_is_met(tmp_path: Path) -> None:
    table, record = tmp_path / "coarse.csv", tmp_path / "run.jsonl"
    states = [(300e6, 0.40, 4.0), (600e6, 0.22, 5.2), (900e6, 0.16, 7.0), (1200e6, 0.13, 10.0)]
    rows = [f"board,net,{hertz:g},{step_s},{watts}" for hertz, step_s, watts in states]
    table.write_text("\n".join(["device,workload,gpu_hz,step_s,power_w", *rows]))
    coarse = {"platform": "replay", "table": table, "workload": "net", "target": "7/s", "steps": 1500}
    alone, turns = (played(**coarse, turns=on, record=record).figures for on in (False, True))
    assert alone.schedule is None
    assert turns.schedule is not None
    assert turns.feasible
    (_, share), (_, rest) = turns.schedule
    assert share + rest == pytest.approx(1.0)
    assert turns.run_energy_j is not None
    assert alone.run_energy_j is not None
    assert turns.run_energy_j < alone.run_energy_j * 0.99
    assert 1500 / turns.run_s >= 7.0 * 0.99
    events = lines(record)
    applied = [event for event in events if event["event"] == "configuration_applied" and event["why"] == "its turn"]
    assert len(applied) > 100
    assert not [event for event in events if event["event"] in ("phase_changed", "guard_stepped")]


def test_a_cap_of_the_objective_counts_in_the_score_like_a_budget(tmp_path: Path) -> None:
    plugin = tmp_path / "capped.py"
    plugin.write_text(
        "from ceml.domain.budget import PowerCap\nfrom ceml.plugins.performance import Performance\n"
        "def capped(*, cap_w: float):\n  return Performance((PowerCap(cap_w),))\n"
    )
    own = played(objective=f"{plugin}:capped:cap_w=1").figures
    budget = played(objective="performance", budget="1W").figures
    assert own.seconds_above_cap == budget.seconds_above_cap
    assert own.seconds_above_cap is not None
    assert own.seconds_above_cap > 100
