"""What many runs come to, and how it is shown. Not covered: the runs (test_tables), the definitions (test_score)."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.bench.rivals import RIVALS
from ceml.bench.score import Figures
from ceml.bench.show import Progress, grids, promises, rivals
from ceml.bench.summary import MEDIAN, P95, Row, grid_line, rival_lines, rows
from ceml.bench.tables import OURS, Done, Grid, Job

RUN = Figures(
    states=936,
    states_tried=7,
    chosen={"cpu_hz": 1e9},
    chosen_energy_j=8.0,
    feasible=True,
    best={"cpu_hz": 2e9},
    best_energy_j=7.0,
    regret=0.004,
    max_state_energy_j=10.0,
    saving=0.2,
    possible_saving=0.3,
    run_energy_j=100.0,
    run_excess=0.009,
    run_s=9.0,
    seconds_above_cap=0.0,
    max_over_cap_w=0.0,
    energy_above_cap=0.0,
    schedule=None,
    settled_short=None,
    rate_error=0.04,
    power_error=0.02,
    rate_coverage=0.94,
    power_coverage=0.9,
)
ONE, TWO = (
    Grid(table=Path(f"/x/{name}.csv"), device="d", workload="w", batch=8.0, smoothed=True, powered=True)
    for name in ("one", "two")
)


KNOWING = ("with the board's knowledge from other workloads", "resident memory")


def by_name(found: list[Row]) -> dict[str, Row]:
    return {row.name.partition(":")[0] + row.name.partition(":")[2][:7]: row for row in found}


def test_the_rows_are_those_promised_with_the_figures_of_the_runs():
    found = by_name(rows({"energy": [RUN] * 3, "edp": [replace(RUN, regret=0.02)]}, {"936 states": 0.003}))
    assert found["energy whole "].values == {MEDIAN: 0.009, P95: 0.009}
    assert found["energy whole "].verdict == "aim met"
    assert found["energy chosen"].verdict == "aim met"
    assert found["EDP chosen"].verdict == "missed"
    assert found["share of the possible saving captured"].values == {"pooled": pytest.approx(0.2 / 0.3)}
    assert found["share of the possible saving captured"].verdict == "missed"
    assert found["states tried"].verdict == "must met"
    assert found["error over all states after profiling"].verdict == "must met"
    decision = found["one decision (fit, uncertainty, search)"]
    assert decision.verdict is None  # no large space was played
    assert "3 / - ms" in promises([decision])


def test_what_costs_runs_has_rows_with_numbers_only_where_it_was_asked_for():
    asked = rows({"energy": [RUN]}, {}, taught=[RUN, None, replace(RUN, states_tried=2)], resident=70.2e6)
    knowledge, memory = (by_name(asked)[name] for name in KNOWING)
    assert list(knowledge.values.values()) == [4.5, 0.009]
    assert (knowledge.verdict, memory.verdict) == ("must met", "must met")
    text = promises([knowledge, memory])
    assert "4.5 / 0.90 %" in text
    assert "5 / 1.50 %" in text
    assert "70.2 MB" in text
    for row in (by_name(rows({"energy": [RUN]}, {}))[name] for name in KNOWING):
        assert row.verdict is None
        assert row.must
        assert "not all measured" in promises([row])


def test_a_run_that_failed_spoils_the_row_and_is_counted():
    bad = replace(RUN, feasible=False)
    row = by_name(rows({"energy": [RUN, bad, RUN]}, {}))["energy chosen"]
    assert (row.failed, row.verdict) == (1, "missed")
    assert "missed, 1 runs failed" in promises([row])
    assert row.as_json()["verdict"] == "missed"


def test_other_objectives_have_a_row_without_a_promise():
    row = rows({"power_cap": [RUN]}, {})[-1]
    assert (row.name, row.values[MEDIAN], row.verdict) == ("power_cap: chosen state above the best", 0.004, None)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_verdict_is_never_better_for_a_worse_figure(value: float, worse: float, bound: float, at_least: bool):
    value, worse = (max(value, worse), min(value, worse)) if at_least else (min(value, worse), max(value, worse))
    aim = min(1.0, bound * 1.5) if at_least else bound / 2
    ranks = {"aim met": 2, "must met": 1, "missed": 0}
    one, other = (
        Row(name="x", unit="%", values={"a": v}, must={"a": bound}, aim={"a": aim}, at_least=at_least)
        for v in (value, worse)
    )
    assert ranks[one.verdict] >= ranks[other.verdict]


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_what_breaks_a_must_is_missed_also_where_there_is_no_aim(value: float, bound: float, at_least: bool):
    row = Row(name="x", unit="%", values={"a": value}, must={"a": bound}, at_least=at_least)
    broken = value < bound if at_least else value > bound
    assert row.verdict == ("missed" if broken else "must met")


def done(grid: Grid, strategy: str, *excess: float) -> list[Done]:
    return [
        Done(
            job=Job(grid=grid, objective="energy", seed=seed, strategy=strategy),
            figures=replace(RUN, run_excess=value),
        )
        for seed, value in enumerate(excess)
    ]


def test_rivals_are_compared_on_every_grids_median():
    played = [
        *done(ONE, OURS, 0.01, 0.02, 0.09),
        *done(TWO, OURS, 0.03, 0.03, 0.03),
        *done(ONE, "max", 0.5, 0.6, 0.7),
        *done(TWO, "max", 0.0, 0.01, 0.02),
        *done(ONE, "tpe-7", 0.1),
    ]
    ours, most, tpe = rival_lines([RIVALS["max"], RIVALS["tpe-7"]], played, [ONE, TWO])
    assert ours.medians == {"one.csv: w b8": 0.02, "two.csv: w b8": 0.03}
    assert ours.of is None
    assert (most.ahead_on, most.of) == (1, 2)
    assert most.lead == {MEDIAN: pytest.approx((0.58 - 0.02) / 2), "least": pytest.approx(-0.02)}
    assert (tpe.ahead_on, tpe.of, tpe.medians["two.csv: w b8"]) == (1, 1, None)
    text = rivals([ours, most, tpe]).splitlines()
    assert "on 1 of 2" in text[2]
    assert "28.00 (-2.00)" in text[2]
    assert text[3].split()[-2:] == ["10.00", "-"]


def test_grids_without_smoothed_columns_are_compared_but_never_pooled():
    rough = replace(ONE, smoothed=False)
    ours, most = rival_lines([RIVALS["max"]], [*done(rough, OURS, 0.01), *done(rough, "max", 0.5)], [rough])
    for line in (ours, most):
        assert (line.run_excess, line.regret, line.states_tried) == ({MEDIAN: None, P95: None}, None, None)
    assert (ours.medians["one.csv: w b8"], most.medians["one.csv: w b8"]) == (0.01, 0.5)
    assert (most.ahead_on, most.of, most.lead["least"]) == (1, 1, pytest.approx(0.49))


def test_grids_are_shown_with_their_medians():
    lines = [
        grid_line(ONE, "energy", [RUN, RUN]),
        grid_line(TWO, "edp", [replace(RUN, run_excess=None, feasible=None)]),
    ]
    assert (lines[0].captured, lines[1].captured) == (pytest.approx(2 / 3), None)
    assert (lines[0].failed, lines[1].failed) == (0, 1)
    first, second = grids(lines).splitlines()[1:]
    assert first.split()[:6] == ["1", "one", "w", "b8", "energy", "936"]
    assert second.split()[:5] == ["2", "two", "w", "b8", "edp"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_few_lines_elsewhere():
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        with Progress(stream) as progress:
            for count in range(1, 201):
                progress(count, 200)
    assert terminal.getvalue().endswith("\n")
    assert "[" + "#" * 30 + "] 200/200 runs" in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 1
    assert len(log.getvalue().splitlines()) == 10
    assert "200 of 200 runs" in log.getvalue()
