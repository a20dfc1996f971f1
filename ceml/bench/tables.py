"""Many runs over measured tables: which grids there are, which jobs that makes, and doing them on all cores."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ceml.bench.play import play
from ceml.bench.pool import each
from ceml.bench.rivals import RIVALS, platform_of, run_rival
from ceml.bench.session import Conditions
from ceml.errors import SettingsError
from ceml.parts import choose
from ceml.plant.table import Table, once, parse_fix, parse_limit
from ceml.sources import Loaded
from ceml.store.paths import PlatformContext, read_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ceml.bench.score import Figures
    from ceml.plant.machine import Plant

OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One program at one batch size on one device, in one table.

    Attributes:
        table: The file.
        device: The board; empty where the table names none.
        workload: The program.
        batch: Its batch size; None where the table has no such column.
        smoothed: Whether the table has columns without noise: only these grids are pooled.
        powered: Whether power was measured.
        several_devices: Whether the table has more than one, so that a name must tell which.
    """

    table: Path
    device: str
    workload: str
    batch: float | None
    smoothed: bool
    powered: bool
    several_devices: bool = False

    @property
    def name(self) -> str:
        """What people call it; with the table's name it is unique."""
        device = f"{self.device} " if self.several_devices else ""
        return f"{device}{self.workload}" + ("" if self.batch is None else f" b{self.batch:g}")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is the same for all runs: the settings and the length."""

    loaded: Loaded
    steps: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run to be done: by us, or by the rival of this name.

    Attributes:
        grid: Where.
        objective: What for.
        seed: Of the noise.
        strategy: Whose run.
        cap: Budget as share of the power with every knob at its highest; None: no budget.
        knowledge: Directory of what other programs taught of the board, of which the run gets a copy; None: nothing.
    """

    grid: Grid
    objective: str
    seed: int
    strategy: str = OURS
    cap: float | None = None
    knowledge: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a job: its figures, or a sentence that says why it could not run."""

    job: Job
    figures: Figures | None
    sentence: str | None = None


def grids_of(
    tables: Iterable[Path], *, workloads: Collection[str] = (), batches: Collection[str] = (), fix: Sequence[str] = ()
) -> list[Grid]:
    """The grids of some tables, in the order of the files.

    Args:
        tables: The files.
        workloads: Only these programs; empty: all.
        batches: Only these batch sizes, and grids without one; empty: all.
        fix: What is held; `device=NAME` picks the grids of one board.

    Raises:
        SettingsError: A table is no good, or nothing is left.
    """
    device = dict(map(parse_fix, fix)).get("device")
    found: list[Grid] = []
    for path in dict.fromkeys(Path(table).absolute() for table in tables):
        table = _table(path)
        several = len({row.device for row in table.rows}) > 1
        for name, workload, batch in dict.fromkeys((row.device, row.workload, row.batch) for row in table.rows):
            grid = Grid(
                table=path,
                device=name,
                workload=workload,
                batch=batch,
                smoothed=table.smoothed,
                powered="power_w" in table.columns,
                several_devices=several,
            )
            found.append(grid)
    _refuse_strangers("workload", workloads, [grid.workload for grid in found])
    _refuse_strangers("batch", batches, [f"{grid.batch:g}" for grid in found if grid.batch is not None])
    kept = [
        grid
        for grid in found
        if (not workloads or grid.workload in workloads)
        and (not batches or grid.batch is None or f"{grid.batch:g}" in batches)
        and (device is None or grid.device == device)
    ]
    if not kept:
        known = ", ".join(dict.fromkeys(f"{grid.table.name}: {grid.name}" for grid in found[:40]))
        raise SettingsError(f"no grid is left by --workload, --batch and --fix device; there are {known}")
    return kept


def _refuse_strangers(what: str, asked: Iterable[str], known: Iterable[str]) -> None:
    there = list(dict.fromkeys(known))
    strangers = [word for word in asked if word not in there]
    if strangers:
        shown = ", ".join(there) or f"none: leave --{what} away"
        raise SettingsError(f"--{what} {', '.join(strangers)} is in none of the tables; they have {shown}")


def playable(work: Work, grids: Sequence[Grid], objectives: Sequence[str]) -> tuple[list[tuple[Grid, str]], list[str]]:
    """Which grid can be played with which objective, and a sentence on each that cannot, for want of power.

    Raises:
        SettingsError: The settings are no good for any other reason.
    """
    pairs: list[tuple[Grid, str]] = []
    sentences: list[str] = []
    for grid in grids:
        for objective in objectives:
            job = Job(grid=grid, objective=objective, seed=0)
            try:
                plant, conditions, loaded = prepared(work, job)
                context = PlatformContext(runtime_dir=Path(), in_process=True)
                choose(loaded, context, platform=platform_of(plant, conditions))
            except SettingsError as error:
                if grid.powered:
                    raise
                sentences.append(f"left out: {grid.table.name} {grid.name}: {error}")
            else:
                pairs.append((grid, objective))
    return pairs, sentences


def do(work: Work, job: Job, *, timed: bool = False) -> tuple[Done, float | None]:
    """One job in this process; with the seconds of one decision where these were asked for."""
    if job.knowledge is not None:
        with TemporaryDirectory(prefix="ceml-bench-") as folder:
            fresh = shutil.copytree(job.knowledge, Path(folder) / "knowledge")
            done, seconds = _do(work, replace(job, knowledge=fresh), timed=timed)
        return replace(done, job=job), seconds
    return _do(work, job, timed=timed)


def learn(work: Work, job: Job) -> None:
    """Play a job so that its directory of knowledge, which is made where there is none, holds what it taught.

    Raises:
        SettingsError: It cannot be played.
    """
    plant, conditions, loaded = prepared(work, job)
    play(loaded, steps=work.steps, platform=platform_of(plant, conditions), timed=False)


def _do(work: Work, job: Job, *, timed: bool) -> tuple[Done, float | None]:
    try:
        plant, conditions, loaded = prepared(work, job)
        if job.strategy != OURS:
            return Done(job=job, figures=run_rival(RIVALS[job.strategy], loaded, plant, conditions)), None
        played = play(loaded, steps=work.steps, platform=platform_of(plant, conditions), timed=timed)
    except SettingsError as error:
        return Done(job=job, figures=None, sentence=str(error)), None
    return Done(job=job, figures=played.figures), played.decision_s


def do_all(work: Work, jobs: Sequence[Job], *, processes: int, tell: Callable[[int], None]) -> list[Done]:
    """All jobs, as `each` does them."""
    return each(_done, work, jobs, processes=processes, tell=tell)


def _done(work: Work, job: Job) -> Done:
    return do(work, job)[0]


def prepared(work: Work, job: Job) -> tuple[Plant, Conditions, Loaded]:
    """The grid as a plant, the conditions of the run, and its settings.

    Raises:
        SettingsError: The grid is not in its table, or cannot be narrowed as asked.
    """
    settings, grid = work.loaded.settings, job.grid
    plant = _plant(grid, settings.fix, settings.limit, settings.measured, work.steps)
    changed: dict[str, Any] = {
        "platform": "replay",
        "table": grid.table,
        "workload": grid.workload,
        "batch": grid.batch,
        "objective": job.objective,
        "seed": job.seed,
        "record": None,
        "knowledge": job.knowledge,
        "fresh": False,
    }
    if job.cap is not None:
        changed["budget"] = job.cap * float(plant.power_w[plant.space.max_state])
    loaded = Loaded(settings.model_copy(update=changed), {**work.loaded.origins, **dict.fromkeys(changed, "flag")})
    conditions = Conditions(
        steps=work.steps,
        seed=job.seed,
        noise_time=settings.noise_time,
        noise_power=settings.noise_power,
        sensor_period_s=settings.sensor_period_s,
    )
    return plant, conditions, loaded


@lru_cache(maxsize=8)
def _table(path: Path) -> Table:
    return Table.parse(read_lines(path, "table"), path.name)


@lru_cache(maxsize=256)
def _plant(grid: Grid, fix: tuple[str, ...], limit: tuple[str, ...], measured: bool, steps: int) -> Plant:
    held = once("--fix", map(parse_fix, fix))
    if grid.several_devices:
        held["device"] = grid.device
    return _table(grid.table).grid(
        grid.workload, grid.batch, held, once("--limit", map(parse_limit, limit)), measured=measured, steps=steps
    )
