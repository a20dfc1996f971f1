"""What runs make of budgets, changes and wrong models is counted right. Not covered: the figures themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from ceml.bench.adaptation import (
    CAPS,
    SHIFT,
    Righted,
    Shift,
    Shifted,
    Wrong,
    adaptation,
    capped,
    righted,
    shifted,
    shifts_of,
    wrongs_of,
)
from ceml.bench.moved_caps import moved_cap, moved_caps_of
from ceml.bench.tables import Grid, Work, grids_of
from ceml.sources import load
from tests.bench.small_tables import written

WORK = Work(loaded=load(None, {}, {}), steps=1000)


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return grids_of([written(tmp_path, "t.csv")])[0]


def silent(*done: int) -> None:
    """Nobody listens."""


def test_every_budget_that_some_state_keeps_is_played(grid: Grid):
    done = capped(WORK, [grid], seeds=(0,), processes=1, tell=silent)
    assert {one.job.cap for one in done} <= set(CAPS)
    for one in done:
        assert one.figures is not None
        assert one.figures.feasible
        assert one.figures.settled_short is not None
        assert one.figures.settled_short > -0.01


def test_a_budget_that_changes_half_way_is_looked_at_from_then_on(grid: Grid):
    moves = moved_caps_of(WORK, [grid], (0, 1))
    assert {move.after > move.before for move in moves} == {True, False}
    assert [move.seed for move in moves] == [0, 1, 0, 1]
    for move in moves:
        stretch = moved_cap(WORK, move)
        assert stretch is not None
        assert stretch.from_s == pytest.approx(move.at_s, abs=0.01)
        assert stretch.cap_w == move.after
        assert 0.0 <= stretch.above_s < stretch.to_s - stretch.from_s
        assert stretch == moved_cap(WORK, move)


def test_a_change_of_phase_is_found_and_what_it_was_is_known_again(grid: Grid):
    found = shifted(WORK, Shift(grid=grid, seed=0, signal="time", factor=SHIFT))
    assert found.windows is not None
    assert 1 <= found.windows <= 8
    assert found.back is not None
    assert found == shifted(WORK, Shift(grid=grid, seed=0, signal="time", factor=SHIFT))


def test_a_change_that_is_none_is_not_found(grid: Grid):
    assert shifted(WORK, Shift(grid=grid, seed=0, signal="power", factor=1.0)) == Shifted(windows=None, back=None)


def test_knowledge_that_is_wrong_is_found_out(grid: Grid):
    for wrong in (Wrong(grid=grid, seed=0, power=0.6), Wrong(grid=grid, seed=0, time=1.25)):
        right = righted(WORK, wrong)
        assert isinstance(right, Righted)
        assert right.regret is not None
        assert right.figures.seconds_above_cap is not None


def test_every_grid_meets_every_kind_of_change_and_mistake(grid: Grid):
    assert len(shifts_of([grid], (0, 1))) == 8
    assert len(wrongs_of([grid], (0, 1))) == 6


@pytest.mark.fuzz
def test_rows_say_what_was_promised_beside_what_was_measured(grid: Grid, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ceml.bench.adaptation.QUIET_WINDOWS", 50)
    told: list[tuple[int, int]] = []
    rows = adaptation(WORK, [grid], seeds=(0,), processes=1, tell=lambda done, total: told.append((done, total)))
    assert [row.name.partition(":")[0] for row in rows] == ["caps"] * 3 + ["moved caps"] * 2 + ["phases"] * 3 + [
        "wrong models"
    ] * 2
    assert all(row.verdict is not None for row in rows if row.must)
    assert told[-1][0] == told[-1][1]
