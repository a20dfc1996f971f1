"""Grids, jobs, and doing them in processes. Not covered: what a run is (test_play, test_rivals), summing up."""

from __future__ import annotations

from pathlib import Path

import pytest

from ceml.bench.tables import OURS, Job, Work, do, do_all, grids_of, playable
from ceml.errors import SettingsError
from ceml.sources import load
from tests.bench.small_tables import written

WORK = Work(loaded=load(None, {}, {}), steps=150)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return written(tmp_path, "t.csv", workloads=("w", "v"))


def silent(done: int) -> None:
    """Nobody listens."""


def test_a_grid_is_a_device_a_workload_and_a_batch_size(tmp_path: Path, table: Path):
    assert [(g.name, g.smoothed, g.powered) for g in grids_of([table])] == [("w b8", True, True), ("v b8", True, True)]
    rough = written(tmp_path, "rough.csv", smoothed=False, power=False)
    assert [(g.name, g.smoothed, g.powered) for g in grids_of([rough, rough])] == [("w b8", False, False)]
    lines = table.read_text().splitlines()
    two = tmp_path / "two.csv"
    two.write_text("\n".join([*lines, *(line.replace("board,", "other,") for line in lines[1:])]))
    assert [g.name for g in grids_of([two])] == ["board w b8", "board v b8", "other w b8", "other v b8"]
    assert [g.name for g in grids_of([two], fix=["device=other"])] == ["other w b8", "other v b8"]
    job = Job(grid=grids_of([two])[2], objective="energy", seed=0)
    assert do(WORK, job)[0].figures is not None


def test_filters_pick_grids_and_strangers_are_refused_with_what_is_there(table: Path):
    assert [g.name for g in grids_of([table], workloads=["v"], batches=["8"])] == ["v b8"]
    for options, text in (
        ({"workloads": ["x"]}, "--workload x is in none of the tables; they have w, v"),
        ({"batches": ["9"]}, "--batch 9 is in none of the tables; they have 8"),
        ({"fix": ["device=x"]}, "no grid is left by --workload, --batch and --fix device; there are t.csv: w b8"),
    ):
        with pytest.raises(SettingsError, match=text):
            grids_of([table], **options)


def test_a_grid_without_power_is_left_out_by_name_but_for_an_objective_that_needs_none(tmp_path: Path, table: Path):
    rough = written(tmp_path, "rough.csv", power=False)
    fast = tmp_path / "fast.py"
    fast.write_text(
        "class Fast:\n    constraints = ()\n    def cost(self, predicted, now):\n        return -predicted.rate_hz\n"
        "def fast():\n    return Fast()\n"
    )
    grids = grids_of([table, rough])
    pairs, sentences = playable(WORK, grids, ["energy", f"{fast}:fast"])
    assert [(grid.table.name, objective[-4:]) for grid, objective in pairs] == [
        *[("t.csv", "ergy"), ("t.csv", "fast")] * 2,
        ("rough.csv", "fast"),
    ]
    (sentence,) = sentences
    assert sentence.startswith("left out: rough.csv w b8: objective energy needs power")
    with pytest.raises(SettingsError, match="nonsense"):
        playable(WORK, grids, ["nonsense"])
    assert do(WORK, Job(grid=grids[2], objective=f"{fast}:fast", seed=0))[0].figures.regret == pytest.approx(0, abs=0.2)


def test_any_number_of_processes_comes_to_the_same_in_the_same_order(table: Path):
    jobs = [
        Job(grid=grid, objective="energy", seed=seed, strategy=name)
        for grid in grids_of([table])
        for seed in (0, 1)
        for name in (OURS, "random-7", "paper-local-narrow")
    ]
    told: list[int] = []
    alone = do_all(WORK, jobs, processes=1, tell=silent)
    together = do_all(WORK, jobs, processes=3, tell=told.append)
    assert together == alone
    assert [one.job for one in alone] == jobs
    assert told == list(range(1, len(jobs) + 1))
    assert all(one.figures is not None for one in alone)


def test_a_record_asked_for_in_the_environment_is_not_written_by_every_run(table: Path, tmp_path: Path):
    work = Work(loaded=load(None, {"record": str(tmp_path / "r.jsonl")}, {}), steps=60)
    do(work, Job(grid=grids_of([table])[0], objective="energy", seed=0))
    assert not (tmp_path / "r.jsonl").exists()


def test_what_cannot_play_a_grid_says_why(table: Path):
    work = Work(loaded=load(None, {"sampler": "improvement", "model": "paper"}, {}), steps=60)
    done, took_s = do(work, Job(grid=grids_of([table])[0], objective="energy", seed=0))
    assert (done.figures, took_s) == (None, None)
    assert "states its uncertainty" in done.sentence


def test_the_measured_tables_have_eight_grids_that_are_pooled(tables: Path):
    grids = grids_of(sorted(tables.glob("*.csv")))
    assert sum(grid.smoothed for grid in grids) == 8
    assert sum(grid.table.name == "gpu-power-limit-train.csv" for grid in grids) == 121
    assert len({(grid.table, grid.name) for grid in grids}) == len(grids)
    assert {grid.table.name for grid in grids if not grid.powered} == {"jetson-tx2-infer-time-only.csv"}
