"""What the board's other programs teach, as runs of the bench. Not covered: how a model uses it (test_heritage)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ceml.bench.inheritance import heirs, teachers_of
from ceml.bench.tables import Job, Work, do, grids_of
from ceml.sources import load
from tests.bench.small_tables import written

WORK = Work(loaded=load(None, {}, {}), steps=150)


def silent(done: int, total: int) -> None:
    """Nobody listens."""


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_teachers_are_the_other_programs_of_the_same_board_in_order_of_name(tmp_path: Path):
    table = written(tmp_path, "t.csv", workloads=("w", "v", "a"))
    grids = grids_of([table, written(tmp_path, "blind.csv", power=False, workloads=("b",))])
    w, v, a, blind = grids
    assert teachers_of(w, grids) == (a, v)
    assert teachers_of(blind, grids) == (a, v, w)
    stranger, batch = replace(v, device="another"), replace(v, batch=2.0)
    assert teachers_of(w, [*grids, stranger, batch]) == (a, batch, v)
    assert teachers_of(stranger, grids) == ()


def test_each_run_begins_with_a_copy_of_what_the_others_taught(tmp_path: Path):
    table = written(tmp_path, "t.csv", workloads=("w", "v"))
    grids = grids_of([table])
    root = tmp_path / "root"
    root.mkdir()
    done, alone = heirs(WORK, grids[:1], grids, seeds=(0, 1), root=root, processes=1, tell=silent)
    assert alone == []
    assert [one.job.seed for one in done] == [0, 1]
    (school,) = root.iterdir()
    assert {path.name for path in school.rglob("*.json")} == {"program-v.json"}  # no run wrote into what it was taught
    before = tree(root)
    for one in done:
        again, _ = do(WORK, one.job)
        assert again == one  # nor learnt from the run before
        stranger, _ = do(WORK, replace(one.job, knowledge=None))
        assert stranger.figures != one.figures
    assert tree(root) == before


def test_any_number_of_processes_comes_to_the_same(tmp_path: Path):
    grids = grids_of([written(tmp_path, "t.csv", workloads=("w", "v", "a"))])
    told: list[tuple[int, int]] = []
    found = []
    for processes in (1, 3):
        root = tmp_path / f"{processes}"
        root.mkdir()
        done, _ = heirs(
            WORK, grids, grids, seeds=(0,), root=root, processes=processes, tell=lambda *at: told.append(at)
        )
        found.append([one.figures for one in done])
    assert found[0] == found[1]
    assert told[-1] == (6, 6)  # three directories, three runs


def test_a_program_alone_on_its_board_is_left_out_by_name(tmp_path: Path):
    grids = grids_of([written(tmp_path, "t.csv")])
    done, alone = heirs(WORK, grids, grids, seeds=(0,), root=tmp_path, processes=1, tell=silent)
    assert done == []
    assert alone == ["left out: knowledge for t.csv w b8: no other program of its board is here"]


def test_an_empty_directory_is_as_no_knowledge(tmp_path: Path):
    (grid,) = grids_of([written(tmp_path, "t.csv")])
    (tmp_path / "empty").mkdir()
    job = Job(grid=grid, objective="energy", seed=0)
    with_none, _ = do(WORK, replace(job, knowledge=tmp_path / "empty"))
    assert with_none.figures == do(WORK, job)[0].figures
