"""What many runs come to: the rows that a promise was made on, the grids one by one, the rivals beside us.

Figures of one run and the ways of pooling them are defined in `score.py`; here they are only put together.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from ceml.bench.score import captured, failed, pooled
from ceml.bench.tables import OURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ceml.bench.rivals import Rival
    from ceml.bench.score import Figures
    from ceml.bench.tables import Done, Grid

MEDIAN, P95, ALL, VMRSS = "median", "95th percentile", "pooled", "VmRSS"
SIZES = {"936 states": (900, 1000), "4368 states": (4000, 5000)}  # states of the grids on which a decision is timed

Values = dict[str, "float | None"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table of promises.

    Attributes:
        name: What it says.
        unit: `%` (the numbers are bare ratios), `states`, `s`, or `B`; one for each number where they differ, with
            ` / ` between them.
        values: What was measured, by the name of the statistic; None: not measured.
        must: What is asked of each.
        aim: What is hoped for.
        at_least: Whether more is better.
        failed: Runs that chose nothing, or what a constraint forbids.
    """

    name: str
    unit: str
    values: Values
    must: Mapping[str, float] = field(default_factory=dict[str, float])
    aim: Mapping[str, float] = field(default_factory=dict[str, float])
    at_least: bool = False
    failed: int = 0

    @property
    def verdict(self) -> str | None:
        """`aim met`, `must met` or `missed`; None where nothing was asked or something was not measured."""
        if not self.must or any(self.values.get(name) is None for name in self.must):
            return None
        if self.failed or not self._meets(self.must):
            return "missed"
        return "aim met" if self.aim and self._meets(self.aim) else "must met"

    def _meets(self, bounds: Mapping[str, float]) -> bool:
        sign = 1.0 if self.at_least else -1.0
        return all(sign * (self.values[name] or 0.0) >= sign * bound for name, bound in bounds.items())

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True, kw_only=True)
class GridLine:
    """Medians over the seeds of one grid; ratios bare, None where not measured."""

    table: str
    grid: str
    objective: str
    pooled: bool
    states: int
    runs: int
    failed: int
    possible_saving: float | None
    run_excess: float | None
    regret: float | None
    captured: float | None
    states_tried: float | None
    rate_error: float | None
    power_error: float | None


@dataclass(frozen=True, kw_only=True)
class RivalLine:
    """One strategy against ours, by the whole run's energy above the best state's, as bare ratios.

    Attributes:
        name: Of the strategy; `ours` for our own line.
        about: What it does.
        offline: A line of reference that pays for nothing.
        run_excess: Median and 95th percentile over grids x seeds; this and the next two None where nothing is pooled.
        regret: Median of the chosen state's cost above the best.
        states_tried: Median.
        medians: Of `run_excess`, grid by grid; None where it could not play.
        ahead_on: On how many grids our median is lower.
        of: On how many grids both played.
        lead: Median over these grids of its median less ours; least: the smallest of them, below 0 where we are behind.
    """

    name: str
    about: str
    offline: bool
    run_excess: Values
    regret: float | None
    states_tried: float | None
    medians: dict[str, float | None]
    ahead_on: int | None = None
    of: int | None = None
    lead: Values = field(default_factory=dict[str, "float | None"])


def rows(
    runs: Mapping[str, Sequence[Figures]],
    decisions: Mapping[str, float | None],
    *,
    taught: Sequence[Figures | None] = (),
    resident: float | None = None,
) -> list[Row]:
    """The promises, held against our pooled runs.

    Args:
        runs: Objective -> its runs on grids that may be pooled.
        decisions: Seconds of one decision, by the size of the space.
        taught: Runs with objective energy that began with the board's knowledge from other workloads.
        resident: Bytes of the daemon's resident memory; None: not measured.
    """
    energy, edp = runs.get("energy", ()), runs.get("edp", ())
    found = [
        Row(
            name="energy: whole run above the best state",
            unit="%",
            values=_pair(run.run_excess for run in energy),
            must={MEDIAN: 0.018, P95: 0.05},
            aim={MEDIAN: 0.01, P95: 0.03},
        ),
        Row(
            name="energy: chosen state above the best",
            unit="%",
            values=_pair(run.regret for run in energy),
            must={MEDIAN: 0.01, P95: 0.04},
            aim={MEDIAN: 0.005, P95: 0.02},
            failed=sum(map(failed, energy)),
        ),
        Row(
            name="share of the possible saving captured",
            unit="%",
            values={ALL: captured(energy)},
            must={ALL: 0.93},
            aim={ALL: 0.97},
            at_least=True,
        ),
        Row(
            name="states tried",
            unit="states",
            values={MEDIAN: _median(run.states_tried for run in energy)},
            must={MEDIAN: 8.0},
            aim={MEDIAN: 5.0},
        ),
        Row(
            name="EDP: chosen state above the best",
            unit="%",
            values=_pair(run.regret for run in edp),
            must={MEDIAN: 0.015, P95: 0.05},
            aim={MEDIAN: 0.007, P95: 0.03},
            failed=sum(map(failed, edp)),
        ),
        _with_knowledge([run for run in taught if run is not None]),
        Row(
            name="error over all states after profiling",
            unit="%",
            values={
                "rate": _median(run.rate_error for run in energy),
                "power": _median(run.power_error for run in energy),
            },
            must={"rate": 0.05, "power": 0.05},
            aim={"rate": 0.03, "power": 0.03},
        ),
        Row(
            name="one decision (fit, uncertainty, search)",
            unit="s",
            values={size: decisions.get(size) for size in SIZES},
            must=dict(zip(SIZES, (0.005, 0.015), strict=True)),
            aim=dict(zip(SIZES, (0.002, 0.006), strict=True)),
        ),
        Row(name="resident memory", unit="B", values={VMRSS: resident}, must={VMRSS: 90e6}, aim={VMRSS: 60e6}),
    ]
    for objective in runs.keys() - {"energy", "edp"}:
        others = runs[objective]
        name = f"{objective}: chosen state above the best"
        values = _pair(run.regret for run in others)
        found.append(Row(name=name, unit="%", values=values, failed=sum(map(failed, others))))
    return found


def _with_knowledge(runs: Sequence[Figures]) -> Row:
    tried, whole = "median of states tried", "of whole run above best"
    return Row(
        name="with the board's knowledge from other workloads",
        unit="states / %",
        values={tried: _median(run.states_tried for run in runs), whole: _median(run.run_excess for run in runs)},
        must={tried: 5.0, whole: 0.015},
        aim={tried: 3.0, whole: 0.007},
    )


def grid_line(grid: Grid, objective: str, runs: Sequence[Figures]) -> GridLine:
    """One grid, our runs on it."""
    return GridLine(
        table=grid.table.name,
        grid=grid.name,
        objective=objective,
        pooled=grid.smoothed,
        states=runs[0].states,
        runs=len(runs),
        failed=sum(map(failed, runs)),
        possible_saving=_median(run.possible_saving for run in runs),
        run_excess=_median(run.run_excess for run in runs),
        regret=_median(run.regret for run in runs),
        captured=captured(runs) if objective == "energy" else None,
        states_tried=_median(run.states_tried for run in runs),
        rate_error=_median(run.rate_error for run in runs),
        power_error=_median(run.power_error for run in runs),
    )


def rival_lines(rivals: Sequence[Rival], done: Sequence[Done], grids: Sequence[Grid]) -> list[RivalLine]:
    """Ours, then each rival, over the same grids; runs with objective energy only.

    Where a grid has no smoothed columns nothing is pooled: its figures stay its own, and only who leads is counted.
    """
    runs: dict[str, dict[Grid, list[Figures]]] = {}
    for one in done:
        if one.figures is not None and one.job.objective == "energy" and one.job.grid in grids:
            runs.setdefault(one.job.strategy, {}).setdefault(one.job.grid, []).append(one.figures)
    ours = runs.get(OURS, {})
    lines = [_strategy(OURS, "this runtime, as the settings say", False, ours, grids)]
    for rival in rivals:
        theirs = runs.get(rival.name, {})
        line = _strategy(rival.name, rival.about, rival.offline, theirs, grids)
        leads = [
            lead
            for grid in grids
            if (lead := _less(line.medians[_key(grid)], lines[0].medians[_key(grid)])) is not None
        ]
        against: dict[str, Any] = {"ahead_on": sum(lead > 0.0 for lead in leads), "of": len(leads)}
        against["lead"] = {MEDIAN: median(leads) if leads else None, "least": min(leads, default=None)}
        lines.append(RivalLine(**{**vars(line), **against}))
    return lines


def _strategy(
    name: str, about: str, offline: bool, runs: Mapping[Grid, Sequence[Figures]], grids: Sequence[Grid]
) -> RivalLine:
    may_pool = all(grid.smoothed for grid in grids)
    every = [run for grid in grids for run in runs.get(grid, ())] if may_pool else []
    return RivalLine(
        name=name,
        about=about,
        offline=offline,
        run_excess=_pair(run.run_excess for run in every),
        regret=_median(run.regret for run in every),
        states_tried=_median(run.states_tried for run in every),
        medians={_key(grid): _median(run.run_excess for run in runs.get(grid, ())) for grid in grids},
    )


def _key(grid: Grid) -> str:
    return f"{grid.table.name}: {grid.name}"


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _pair(numbers: Iterable[float | None]) -> Values:
    known = pooled(numbers)
    return {MEDIAN: None, P95: None} if known is None else {MEDIAN: known.median, P95: known.p95}


def _median(numbers: Iterable[float | None]) -> float | None:
    known = pooled(numbers)
    return None if known is None else known.median
