"""What other programs taught of a board, as a directory for each program that is to begin from it.

One replay (seed 0, energy) of every grid of the same device with another workload, in order of name, writes one
directory; each run with the board's knowledge reads a fresh copy of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ceml.bench.pool import each
from ceml.bench.tables import Job, do_all, learn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ceml.bench.tables import Done, Grid, Work

OBJECTIVE, SEED = "energy", 0


@dataclass(frozen=True, kw_only=True)
class School:
    """What is played, one after the other, so that one directory holds what it taught.

    Attributes:
        directory: Where the knowledge goes.
        teachers: The grids, in order.
    """

    directory: Path
    teachers: tuple[Grid, ...]


def teachers_of(grid: Grid, grids: Sequence[Grid]) -> tuple[Grid, ...]:
    """The grids of the same device with another workload and with power, by name, then batch size, then table."""
    others = {one for one in grids if one.device == grid.device and one.workload != grid.workload and one.powered}
    return tuple(sorted(others, key=lambda one: (one.workload, one.batch or 0.0, one.table.name)))


def heirs(
    work: Work,
    grids: Sequence[Grid],
    everything: Sequence[Grid],
    *,
    seeds: Sequence[int],
    root: Path,
    processes: int,
    tell: Callable[[int, int], None],
) -> tuple[list[Done], list[str]]:
    """Play every grid with every seed, each run with what the board's other programs taught.

    Args:
        work: Settings and length of the runs, those of the teachers included.
        grids: Which are to be played.
        everything: Which may teach.
        seeds: Of the noise.
        root: An empty directory, for what is learnt.
        processes: How many runs at once.
        tell: Called with the numbers of tasks done and in all, after each.

    Returns:
        What came of the runs, and a sentence on each grid whose board has no other program.

    Raises:
        SettingsError: A teacher cannot be played.
        Unavailable: A process was killed from outside.
    """
    schools: dict[tuple[Grid, ...], School] = {}
    jobs: list[Job] = []
    alone: list[str] = []
    for grid in grids:
        teachers = teachers_of(grid, everything)
        if not teachers:
            alone.append(
                f"left out: knowledge for {grid.table.name} {grid.name}: no other program of its board is here"
            )
            continue
        school = schools.setdefault(teachers, School(directory=root / f"{len(schools)}", teachers=teachers))
        jobs += [Job(grid=grid, objective=OBJECTIVE, seed=seed, knowledge=school.directory) for seed in seeds]
    total = len(schools) + len(jobs)
    each(_teach, work, list(schools.values()), processes=processes, tell=lambda count: tell(count, total))
    done = do_all(work, jobs, processes=processes, tell=lambda count: tell(len(schools) + count, total))
    return done, alone


def _teach(work: Work, school: School) -> None:
    school.directory.mkdir()
    for grid in school.teachers:
        learn(work, Job(grid=grid, objective=OBJECTIVE, seed=SEED, knowledge=school.directory))
