"""One whole bench: jobs made, done on all cores, timed alone where time counts, and summed up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ceml.bench.inheritance import heirs
from ceml.bench.resident import resident_bytes
from ceml.bench.summary import SIZES, grid_line, rival_lines, rows
from ceml.bench.tables import OURS, Job, do, do_all, playable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ceml.bench.rivals import Rival
    from ceml.bench.score import Figures
    from ceml.bench.summary import GridLine, RivalLine, Row
    from ceml.bench.tables import Done, Grid, Work

NO_ENERGY = "left out: every rival, since they are compared by the energy of the run: add --objective energy"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a bench came to.

    Attributes:
        settings: What was played, and how.
        rows: The promises, over the grids that may be pooled; empty where there are none.
        grids: Our runs, grid by grid.
        rivals: Ours, then the rivals, over the grids that may be pooled; empty where none played.
        rivals_apart: The same over the other grids, whose figures are not pooled.
        left_out: A sentence on each thing that was not played.
    """

    settings: dict[str, Any]
    rows: tuple[Row, ...]
    grids: tuple[GridLine, ...]
    rivals: tuple[RivalLine, ...]
    rivals_apart: tuple[RivalLine, ...]
    left_out: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values; ratios bare, seconds in s."""
        return {**asdict(self), "rows": [row.as_json() for row in self.rows]}


def bench(
    work: Work,
    grids: Sequence[Grid],
    *,
    objectives: Sequence[str],
    seeds: Sequence[int],
    rivals: Sequence[Rival],
    processes: int,
    tell: Callable[[int, int], None],
    settings: dict[str, Any],
    teachers: Sequence[Grid] | None = None,
    memory: bool = False,
) -> Report:
    """Play every grid with every objective and seed, and with objective energy every rival on the same work.

    Args:
        work: Settings and length of the runs.
        grids: Where.
        objectives: What for.
        seeds: Of the noise, the same ones for each grid.
        rivals: Which strategies beside ours.
        processes: How many runs at once.
        tell: Called with the numbers of runs done and in all, after each.
        settings: What the report says was asked for.
        teachers: The grids whose programs teach of their boards before the pooled ones are played once more, with
            objective energy; None: that is not asked for.
        memory: Whether to measure the daemon's resident memory.

    Raises:
        SettingsError: The settings are no good.
        Unavailable: A process was killed from outside, or a daemon could not be measured.
    """
    pairs, left_out = playable(work, grids, objectives)
    if rivals and "energy" not in objectives:
        rivals = ()
        left_out.append(NO_ENERGY)
    jobs = [
        Job(grid=grid, objective=objective, seed=seed, strategy=strategy)
        for grid, objective in pairs
        for seed in seeds
        for strategy in (OURS, *(rival.name for rival in rivals if objective == "energy"))
    ]
    done = do_all(work, jobs, processes=processes, tell=lambda count: tell(count, len(jobs)))
    ours = _ours(done)
    pooled = {
        objective: [run for (grid, one), runs in ours.items() if one == objective and grid.smoothed for run in runs]
        for objective in objectives
    }
    taught = _taught(work, grids, teachers, seeds=seeds, processes=processes, tell=tell)
    left_out += taught[1]
    resident = resident_bytes() if memory else None
    lines = [grid_line(grid, objective, runs) for (grid, objective), runs in ours.items()]
    by_kind = [[g for g in grids if g.smoothed is smoothed and (g, "energy") in ours] for smoothed in (True, False)]
    beside = [tuple(rival_lines(rivals, done, kind)) if rivals and kind else () for kind in by_kind]
    decisions = _decisions(work, ours, seeds[0])
    promises = tuple(rows(pooled, decisions, taught=[one.figures for one in taught[0]], resident=resident))
    return Report(
        settings=settings,
        rows=promises if any(pooled.values()) or memory else (),
        grids=tuple(lines),
        rivals=beside[0],
        rivals_apart=beside[1],
        left_out=(*left_out, *_could_not((*done, *taught[0]))),
    )


def _taught(
    work: Work,
    grids: Sequence[Grid],
    teachers: Sequence[Grid] | None,
    *,
    seeds: Sequence[int],
    processes: int,
    tell: Callable[[int, int], None],
) -> tuple[list[Done], list[str]]:
    """Runs on the grids that may be pooled with their boards' knowledge, and why some were not played."""
    if teachers is None:
        return [], []
    with TemporaryDirectory(prefix="ceml-bench-") as root:
        smoothed = [grid for grid in grids if grid.smoothed and grid.powered]
        return heirs(work, smoothed, teachers, seeds=seeds, root=Path(root), processes=processes, tell=tell)


def _ours(done: Sequence[Done]) -> dict[tuple[Grid, str], list[Figures]]:
    found: dict[tuple[Grid, str], list[Figures]] = {}
    for one in done:
        if one.job.strategy == OURS and one.figures is not None:
            found.setdefault((one.job.grid, one.job.objective), []).append(one.figures)
    return found


def _decisions(work: Work, ours: dict[tuple[Grid, str], list[Figures]], seed: int) -> dict[str, float | None]:
    """Seconds of one decision on spaces of the sizes that were promised, measured alone: nothing else runs now."""
    found: dict[str, float | None] = {}
    for size, (least, most) in SIZES.items():
        fitting = [(g, o) for (g, o), runs in ours.items() if g.smoothed and least <= runs[0].states <= most]
        took_s = [
            seconds
            for grid, objective in fitting
            if objective == fitting[0][1]
            and (seconds := do(work, Job(grid=grid, objective=objective, seed=seed), timed=True)[1]) is not None
        ]
        found[size] = median(took_s) if took_s else None
    return found


def _could_not(done: Sequence[Done]) -> list[str]:
    """A sentence on each strategy and grid that refused, once for all seeds."""
    sentences = [
        f"left out: {one.job.strategy} on {one.job.grid.table.name} {one.job.grid.name}: {one.sentence}"
        for one in done
        if one.sentence is not None
    ]
    return list(dict.fromkeys(sentences))
