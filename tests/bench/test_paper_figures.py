"""The paper's figures anew. Not covered: single strategies (test_rivals.py), what figures mean (test_score.py)."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ceml.bench import paper_show
from ceml.bench.paper import PAPER, Line, Paper, sources, unasked
from ceml.bench.paper_runs import BEST32, CEML_E, CEML_L, MAX, OURS, STRATEGIES, Task, budgets, outcome
from ceml.bench.score import geometric_mean, held_out_errors, stretches
from ceml.bench.tables import Work, grids_of
from ceml.cli import main
from ceml.errors import SettingsError
from ceml.plant.board import jetson_tx2
from ceml.plant.machine import Machine
from ceml.sources import load
from tests.bench.small_tables import written
from tests.bench.test_score import PLANT, ran


class Twice:
    """A model that predicts twice the rate and the true power."""

    def predict(self, states):
        truth = PLANT.truth(states)
        return type(truth)(rate_hz=2 * truth.rate_hz, power_w=truth.power_w)


def test_the_model_is_judged_on_states_that_were_never_in_force():
    rate, power = held_out_errors(ran(PLANT, (5, 4.0), (1, 6.0)), Twice())  # type: ignore[arg-type]
    assert (rate, power) == (pytest.approx(1.0), pytest.approx(0.0))
    assert held_out_errors(ran(PLANT, (5, 4.0)), None) == (None, None)
    everywhere = ran(PLANT, *((state, 1.0) for state in (0, 1, 2, 4, 5)))
    assert held_out_errors(everywhere, Twice()) == (None, None)  # type: ignore[arg-type]


def test_every_cap_has_a_stretch_with_its_own_sums():
    machine = Machine(PLANT, state=5)  # 0.25 s and 12 W a step; state 1: 1 s, 4 W
    machine.work(5, 8.0, 0.0, 2.0)
    machine.put(1, 3.0)
    machine.work(5, 4.0, 2.0, 3.0)
    machine.work(1, 7.0, 3.0, 10.0)
    high, low = stretches(machine, [(0.0, 20.0), (2.0, 5.0)])
    assert (high.rate_hz, high.power_w, high.above_s, high.settled_s) == (4.0, 12.0, 0.0, 0.0)
    assert (low.from_s, low.to_s, low.cap_w) == (2.0, 10.0, 5.0)
    assert (low.above_s, low.settled_s) == (1.0, 1.0)
    assert low.power_w == pytest.approx((12.0 * 1 + 4.0 * 7) / 8)
    assert low.rate_hz == pytest.approx((4 + 7) / 8)
    assert (low.held_rate_hz, low.best_rate_hz) == (1.0, 1.0)
    assert low.short_of_best == 0.0
    assert stretches(machine, [(0.0, 20.0), (50.0, 1.0)])[-1].cap_w == 20.0


def test_a_geometric_mean_is_that_of_ratios():
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert geometric_mean([]) is geometric_mean([1.0, float("nan")]) is None


def test_the_low_budget_forbids_maximum_frequencies_and_allows_some_state():
    plant = jetson_tx2("lstm")
    high_w, low_w = budgets(plant)
    assert high_w > plant.power_w[plant.space.max_state] > low_w > np.nanmin(plant.power_w)


def line(name: str, **energy: float) -> Line:
    ratios = {MAX: 1.0, BEST32: 0.8, CEML_L: 0.9, CEML_E: 0.85, OURS: 0.75, **energy}
    errors = {CEML_E: 0.05, OURS: 0.02}
    return Line(
        board="b",
        name=name,
        simulated=False,
        energy=ratios,
        chosen_energy={CEML_E: 0.8, OURS: 0.7},
        best_energy=0.7,
        rate_error=errors,
        power_error=errors,
    )


def test_headlines_are_made_as_the_paper_makes_them():
    lines = (line("x"), line("y", **{OURS: 0.6}))
    pooled = Paper(settings={}, lines=lines, capped=(), left_out=()).pooled("b")
    assert pooled["saving ours"] == pytest.approx(1 - (0.75 * 0.6) ** 0.5)
    assert pooled[f"above_best32 {CEML_E}"] == pytest.approx(0.85 / 0.8 - 1)
    assert pooled["l_above_e"] == pytest.approx(0.9 / 0.85 - 1)
    assert pooled["saving chosen ours"] == pytest.approx(0.3)
    assert pooled["possible saving"] == pytest.approx(0.3)


def test_programs_are_those_of_the_simulated_board_and_of_the_tables(tmp_path: Path):
    grids = grids_of([written(tmp_path, "t.csv")])
    assert [source.name for source in sources(grids)][-2:] == ["gpu-bound", "w b8"]
    assert [source.board for source in sources(grids, ["w"])] == ["t.csv"]
    with pytest.raises(SettingsError, match="--workload x: no such program; there are vit"):
        sources(grids, ["x"])


def test_a_table_with_none_of_the_programs_asked_for_is_said_to_be_left_out(tmp_path: Path):
    grids = grids_of([written(tmp_path, "t.csv")])
    assert unasked(grids, ["vit"]) == ["left out: t.csv: --workload vit: not there; it has w"]
    assert unasked(grids, ["vit", "w"]) == unasked(grids, []) == []


def slowed(path: Path, by: float = 6.0) -> Path:
    """The same table of a slower program, so that a run of so many seconds has fewer steps."""
    head, *rows = csv.reader(path.read_text().splitlines())
    for row in rows:
        for name in ("step_s", "step_smooth_s"):
            row[head.index(name)] = str(by * float(row[head.index(name)]))
    path.write_text("\n".join(",".join(row) for row in [head, *rows]) + "\n")
    return path


def test_the_command_prints_tables_the_papers_numbers_and_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table = slowed(written(tmp_path, "t.csv"))
    words = ["bench", "paper", str(table), "--workload", "w", "--seeds", "1", "--steps", "200", "--jobs", "1"]
    pictures = find_spec("matplotlib") is not None
    more = ["--svg", str(tmp_path / "pictures")] if pictures else []
    assert main([*words, *more, "--json", str(tmp_path / "j")]) == 0
    out = capsys.readouterr().out
    for text in ("the paper", "30.8", "Figure 8", "Figure 9", "Figure 10", "What differs", "replay of measurements"):
        assert text in out
    assert "SIMULATED" not in out
    found = json.loads((tmp_path / "j").read_text())
    assert found["paper"] == PAPER
    assert found["lines"][0]["energy"].keys() == set(STRATEGIES)
    only = found["lines"][0]
    assert all(1.0 > only["chosen_energy"][s] >= only["best_energy"] - 1e-9 for s in (CEML_E, OURS))
    assert len(found["capped"]) == 2
    if pictures:
        assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
            "figure10.svg", "figure8.svg", "figure9.svg",
        ]  # fmt: skip


@pytest.mark.parametrize("strategy", [CEML_L, BEST32, OURS])
def test_the_same_seed_gives_the_same_run(tmp_path: Path, strategy: str):
    (source,) = sources(grids_of([written(tmp_path, "t.csv")]), ["w"])
    work = Work(loaded=load(None, {}, {}), steps=200)
    task = Task(source=source, strategy=strategy, seed=3)
    assert outcome(work, task) == outcome(work, task)
    assert outcome(work, task).energy is not None


def test_a_table_without_power_is_left_out_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = str(written(tmp_path, "t.csv", power=False))
    assert main(["bench", "paper", table, "--workload", "w", "--seeds", "1", "--steps", "50", "--jobs", "1"]) == 0
    assert "left out: CEML-E on t.csv w b8: power was never measured there" in capsys.readouterr().out


def test_what_is_simulated_is_called_so_wherever_it_stands():
    board = "jetson-tx2 (simulated)"
    only = Line(**{**line("vit").__dict__, "board": board, "simulated": True})
    text = paper_show.everything(Paper(settings={"steps": 1, "seeds": [0]}, lines=(only,), capped=(), left_out=()))
    assert text.count(", simulated") == 2
    assert "SIMULATED, no measurement" in text
