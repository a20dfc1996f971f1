"""Grid intensity as a time series. Not covered: the formula at a constant one (test_objectives.py)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.values import Prediction, Situation
from ceml.errors import SettingsError
from ceml.plugins.carbon import J_PER_KWH, Carbon, Intensity, carbon

STATES = Prediction(rate_hz=np.array([1.0, 2.0]), power_w=np.array([10.0, 22.0]))  # the slow one needs less energy


def grams(objective: Carbon, **now: float) -> list[float]:
    """Grams per kWh that each state is charged."""
    return (objective.cost(STATES, Situation(**now)) / (STATES.energy_j / J_PER_KWH)).tolist()  # type: ignore[arg-type]


def series(folder: Path, text: str, name: str = "grid.csv") -> Carbon:
    (folder / name).write_text(text)
    return carbon(intensity=str(folder / name))


def test_the_mean_runs_until_the_work_is_done(tmp_path: Path) -> None:
    grid = series(tmp_path, "at,g_per_kwh\n0,100\n50,500\n")
    assert grams(grid) == pytest.approx([100, 100])
    assert grams(grid, remaining_work=100.0) == pytest.approx([300, 100])
    assert grams(grid, remaining_work=100.0, spent_s=1000.0) == pytest.approx([500, 500])


def test_where_the_grid_gets_dirty_later_the_faster_state_is_chosen(tmp_path: Path) -> None:
    costs = series(tmp_path, "at,g_per_kwh\n0,100\n50,500\n").cost(STATES, Situation(remaining_work=100.0))
    assert int(np.argmin(costs)) == 1
    assert int(np.argmin(carbon().cost(STATES, Situation(remaining_work=100.0)))) == 0


def test_dates_are_dates_and_begin_with_a_virtual_run(tmp_path: Path) -> None:
    grid = series(
        tmp_path,
        "[[point]]\nat = 2025-01-31T14:00:00Z\ng_per_kwh = 100\n"
        '[[point]]\nat = "2025-01-31T16:00+01:00"\ng_per_kwh = 300\n',
        "grid.toml",
    )
    assert grams(grid, unix_s=1738335600.0 - 1) == pytest.approx([100, 100])
    assert grams(grid, unix_s=1738335600.0 + 1) == pytest.approx([300, 300])
    assert grams(grid, at_s=10.0) == pytest.approx([100, 100])
    assert grams(grid, at_s=4000.0) == pytest.approx([300, 300])


@given(st.lists(st.floats(0.1, 1e3), min_size=1, max_size=6), st.floats(-10, 50), st.floats(0.1, 100))
def test_a_mean_lies_between_least_and_most_and_halves_add_up(values, start_s, half_s) -> None:
    grid = Intensity(np.arange(len(values)) * 7.0, np.array(values), absolute=False)
    (whole,) = grid.mean(start_s, np.array([2 * half_s]))
    assert min(values) * (1 - 1e-6) <= whole <= max(values) * (1 + 1e-6)
    (first,), (second,) = grid.mean(start_s, np.array([half_s])), grid.mean(start_s + half_s, np.array([half_s]))
    assert whole == pytest.approx((first + second) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no good numbers"),
        ("at,g_per_kwh\n", "no good numbers"),
        ("at,g_per_kwh\n5,1\n5,2\n", "no good numbers"),
        ("at,g_per_kwh\n0,-1\n", "no good numbers"),
        ("at,g_per_kwh\n0,nan\n", "no good numbers"),
        ("at,g_per_kwh\n0,0\n", "no good numbers"),
        ("at,g\n0,1\n", "no series: there is no g_per_kwh"),
        ("when,g_per_kwh\n0,1\n", "no series: there is no at"),
        ("at,g_per_kwh\n0,1\nsoon,2\n", "no series: could not convert string to float: 'soon'"),
        ("at,g_per_kwh\n0\n", "no series: there is no g_per_kwh"),
        ("at,g_per_kwh\n" + "0,1\n" * 300_000, "longer than"),
    ],
)
def test_a_file_that_is_no_series_is_said_in_words(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        series(tmp_path, text)


def test_what_is_neither_number_nor_file_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "elf").write_bytes(b"\xff\xfe\x00")
    for wrong in ("-4", "0", "inf", "nan"):
        with pytest.raises(SettingsError, match="give grams per kWh above 0"):
            carbon(intensity=wrong)
    for wrong, says in (("nowhere.csv", "No such file"), (str(tmp_path), "is a directory: give"), ("a\0b", "no text")):
        with pytest.raises(SettingsError, match=says):
            carbon(intensity=wrong)
    with pytest.raises(SettingsError, match="no text"):
        carbon(intensity=str(tmp_path / "elf"))
    os.mkfifo(tmp_path / "grid.csv")
    with pytest.raises(SettingsError, match="is a pipe: give an ordinary file"):
        carbon(intensity=str(tmp_path / "grid.csv"))
    (tmp_path / "bad.toml").write_text("point = 3")
    with pytest.raises(SettingsError, match="no series"):
        carbon(intensity=str(tmp_path / "bad.toml"))
