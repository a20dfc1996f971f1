"""The paper's figures 8, 9 and 10 anew: model error, energy of five strategies, a budget that falls and rises.

Hyun et al., Euro-Par 2018, on a simulated Jetson TX2 and on measured tables. What a figure means stands in `score.py`;
here runs are made and put beside what the paper reports.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ceml.bench.paper_runs import BEST32, CAPPED, CEML_E, CEML_L, OURS, STRATEGIES, Source, Task, outcome
from ceml.bench.pool import each
from ceml.bench.score import Stretch, geometric_mean
from ceml.errors import SettingsError
from ceml.plant.board import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ceml.bench.tables import Grid, Work

PAPER = {  # what the paper reports, section 5; ratios bare
    "rate_error": 0.054,
    "power_error": 0.088,
    "saving": 0.308,
    "above_best32": 0.029,
    "l_above_e": 0.026,
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One program's row of figures 8 and 9: means over seeds, by strategy."""

    board: str
    name: str
    simulated: bool
    energy: dict[str, float | None]
    chosen_energy: dict[str, float | None]
    best_energy: float | None
    rate_error: dict[str, float | None]
    power_error: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Capped:
    """One run of figure 10."""

    board: str
    name: str
    simulated: bool
    strategy: str
    stretches: tuple[Stretch, ...]
    trace: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """All three figures.

    Attributes:
        settings: What was played, and how.
        lines: Figures 8 and 9, program by program.
        capped: Figure 10.
        left_out: A sentence on each run that could not be made.
    """

    settings: dict[str, Any]
    lines: tuple[Line, ...]
    capped: tuple[Capped, ...]
    left_out: tuple[str, ...]

    def pooled(self, board: str) -> dict[str, float | None]:
        """The paper's headline numbers on one board, ours beside them; None where not known."""
        lines = [line for line in self.lines if line.board == board]

        def mean(numbers: Sequence[float | None]) -> float | None:
            known = [number for number in numbers if number is not None]
            return fmean(known) if known and len(known) == len(numbers) else None

        energy = {strategy: geometric_mean(_all(line.energy[strategy] for line in lines)) for strategy in STRATEGIES}
        found: dict[str, float | None] = {f"energy {strategy}": ratio for strategy, ratio in energy.items()}
        for strategy in (CEML_E, OURS):
            found[f"rate_error {strategy}"] = mean([line.rate_error[strategy] for line in lines])
            found[f"power_error {strategy}"] = mean([line.power_error[strategy] for line in lines])
            found[f"saving {strategy}"] = _less(1.0, energy[strategy])
            held = geometric_mean(_all(line.chosen_energy[strategy] for line in lines))
            found[f"saving chosen {strategy}"] = _less(1.0, held)
            found[f"above_best32 {strategy}"] = _above(energy[strategy], energy[BEST32])
        found["l_above_e"] = _above(energy[CEML_L], energy[CEML_E])
        best = geometric_mean(_all(line.best_energy for line in lines))
        found["possible saving"] = _less(1.0, best)
        return found

    @property
    def boards(self) -> list[str]:
        """Boards, in order."""
        return list(dict.fromkeys(line.board for line in self.lines))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        capped = [{**asdict(run), "stretches": [stretch._asdict() for stretch in run.stretches]} for run in self.capped]
        return {
            "settings": self.settings,
            "paper": PAPER,
            "boards": {board: self.pooled(board) for board in self.boards},
            "lines": [asdict(line) for line in self.lines],
            "capped": _known(capped),
            "left_out": list(self.left_out),
        }


def _known(value: Any) -> Any:
    """Without what is no number."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}  # type: ignore[misc]
    return [_known(item) for item in value] if isinstance(value, list | tuple) else value  # type: ignore[misc]


def _all(numbers: Any) -> list[float]:
    return [float("nan") if number is None else number for number in numbers]


def _less(one: float, other: float | None) -> float | None:
    return None if other is None else one - other


def _above(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole - 1.0


def sources(grids: Sequence[Grid], workloads: Sequence[str] = ()) -> list[Source]:
    """The simulated board's programs, then the grids.

    Raises:
        SettingsError: A workload that neither has.
    """
    found = [Source(workload=name) for name in PROGRAMS] + [Source(workload=g.workload, grid=g) for g in grids]
    strangers = [name for name in workloads if name not in {source.workload for source in found}]
    if strangers:
        known = ", ".join(dict.fromkeys(source.workload for source in found))
        raise SettingsError(f"--workload {', '.join(strangers)}: no such program; there are {known}")
    return [source for source in found if not workloads or source.workload in workloads]


def unasked(grids: Sequence[Grid], workloads: Sequence[str]) -> list[str]:
    """A sentence on each table that has none of the workloads asked for."""
    had: dict[str, list[str]] = {}
    for grid in grids:
        had.setdefault(grid.table.name, []).append(grid.workload)
    return [
        f"left out: {table}: --workload {', '.join(workloads)}: not there; it has {', '.join(dict.fromkeys(names))}"
        for table, names in had.items()
        if workloads and not set(names) & set(workloads)
    ]


def paper(
    work: Work,
    programs: Sequence[Source],
    *,
    seeds: Sequence[int],
    processes: int,
    tell: Callable[[int, int], None],
    settings: dict[str, Any],
    left_out: Sequence[str] = (),
) -> Paper:
    """Make all runs and put them together; what was left out beforehand is said with what could not be made."""
    tasks = [
        Task(source=s, strategy=strategy, seed=seed) for s in programs for strategy in STRATEGIES for seed in seeds
    ]
    tasks += [Task(source=s, strategy=strategy, seed=seeds[0], capped=True) for s in programs for strategy in CAPPED]
    done = each(outcome, work, tasks, processes=processes, tell=lambda count: tell(count, len(tasks)))
    results = dict(zip(tasks, done, strict=True))
    lines: list[Line] = []
    for source in programs:
        of = {s: [results[Task(source=source, strategy=s, seed=seed)] for seed in seeds] for s in STRATEGIES}
        if any(run.sentence for runs in of.values() for run in runs):
            continue
        lines.append(
            Line(
                board=source.board,
                name=source.name,
                simulated=source.grid is None,
                energy={s: _mean([run.energy for run in runs]) for s, runs in of.items()},
                chosen_energy={s: _mean([run.chosen_energy for run in of[s]]) for s in (CEML_E, OURS)},
                best_energy=_mean([run.best_energy for run in of[OURS]]),
                rate_error={s: _mean([run.rate_error for run in of[s]]) for s in (CEML_E, OURS)},
                power_error={s: _mean([run.power_error for run in of[s]]) for s in (CEML_E, OURS)},
            )
        )
    capped = [
        Capped(
            board=task.source.board,
            name=task.source.name,
            simulated=task.source.grid is None,
            strategy=task.strategy,
            stretches=result.stretches,
            trace=result.trace,
        )
        for task, result in results.items()
        if task.capped and result.stretches
    ]
    sentences = dict.fromkeys(
        f"left out: {task.strategy} on {task.source.board} {task.source.name}: {result.sentence}"
        for task, result in results.items()
        if result.sentence
    )
    return Paper(settings=settings, lines=tuple(lines), capped=tuple(capped), left_out=(*left_out, *sentences))


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return fmean(known) if len(known) == len(numbers) and known else None
