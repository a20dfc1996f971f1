"""What a run makes of limits, of programs that change, and of models that are wrong; on measured tables.

Figures of one run are those of `score.py`. Four kinds of runs, all with objective `performance` but the phases:

- **caps**: a budget of 40, 50, 60, 70 and 85 % of the power with every knob at its highest, in force from the start; a
  budget below the lowest state's power is left out;
- **moved caps**: a budget that rises from 50 to 85 % half-way, or falls so (`moved_caps.py`);
- **phases**: from a seeded step on, true time or power is multiplied by 1.15 or 1 / 1.15, and back later on; 10 000
  idle windows without any change show the false alarms;
- **wrong models**: what an earlier run "measured" is 40 % off in power, or every step takes 25 % longer from the first
  third on; under a budget of 60 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from ceml.bench.moved_caps import best_step_s, moved_cap, moved_caps_of
from ceml.bench.play import play
from ceml.bench.pool import each
from ceml.bench.rivals import platform_of
from ceml.bench.score import failed
from ceml.bench.summary import ALL, MEDIAN, P95, Row
from ceml.bench.tables import Job, do_all, prepared
from ceml.domain.events import ConfigurationApplied, Decided, PhaseChanged, WindowClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ceml.bench.score import Figures, Stretch
    from ceml.bench.tables import Done, Grid, Work
    from ceml.domain.events import Event
    from ceml.domain.knobs import Configuration
    from ceml.plant.machine import Plant

CAPS = (0.4, 0.5, 0.6, 0.7, 0.85)
SHIFT = 1.15
WRONG_CAP = 0.6
WRONG_POWER, WRONG_TIME = (0.6, 1.4), 1.25
WRONG_WINDOWS = 10  # after which the regret is looked at
QUIET_WINDOWS = 10_000
WINDOW_BEATS, WINDOW_S = 5, 1.0  # of an idle window, at least
LONGEST_OVER_S = 0.208  # two periods of the sensor and the slowest settle time
WORST = "worst"


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A program that changes phase at a seeded step, and back.

    Attributes:
        grid: Where.
        seed: Of the noise and of the step.
        signal: `time` or `power`.
        factor: What it is multiplied by.
    """

    grid: Grid
    seed: int
    signal: str
    factor: float


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """What came of it; None where it was not found, or never came back.

    Attributes:
        windows: Idle windows wholly after the change, up to the one at which it was found.
        back: Windows from finding that it is what it was, until the state committed before is in force again.
    """

    windows: int | None
    back: int | None


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A run that begins with a wrong model, or whose program turns slower unnoticed.

    Attributes:
        grid: Where.
        seed: Of the noise.
        power: What the power of the earlier run was multiplied by.
        time: What the time of each step is multiplied by after the first third.
    """

    grid: Grid
    seed: int
    power: float = 1.0
    time: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Righted:
    """What came of it.

    Attributes:
        figures: Of the run.
        regret: Of the state in force ten windows after the first commitment, or after the change; None: broken off.
    """

    figures: Figures
    regret: float | None


class _Eye:
    """What must be remembered of the events of one run."""

    def __init__(self) -> None:
        self.windows: list[WindowClosed] = []
        self.changes: list[PhaseChanged] = []
        self.decided: list[Decided] = []
        self.applied: list[ConfigurationApplied] = []

    def __call__(self, event: Event) -> None:
        match event:
            case WindowClosed():
                self.windows.append(event)
            case PhaseChanged():
                self.changes.append(event)
            case Decided():
                self.decided.append(event)
            case ConfigurationApplied():
                self.applied.append(event)
            case _:
                pass

    def in_force(self, at_s: float) -> Configuration | None:
        """The configuration in force at a moment."""
        before = [event.effective for event in self.applied if event.at_s <= at_s]
        return before[-1] if before else None


# Caps -----------------------------------------------------------------------------------------------------------------


def capped(
    work: Work, grids: Sequence[Grid], *, seeds: Sequence[int], processes: int, tell: Callable[[int], None]
) -> list[Done]:
    """Play every grid under every budget that some state keeps."""
    jobs: list[Job] = []
    for grid in grids:
        job = Job(grid=grid, objective="performance", seed=0)
        plant, _, _ = prepared(work, job)
        least_w, most_w = np.nanmin(plant.power_w), float(plant.power_w[plant.space.max_state])
        caps = [cap for cap in CAPS if cap * most_w >= least_w]
        jobs += [replace(job, cap=cap, seed=seed) for cap in caps for seed in seeds]
    return do_all(work, jobs, processes=processes, tell=tell)


# Phases ---------------------------------------------------------------------------------------------------------------


def shifts_of(grids: Sequence[Grid], seeds: Sequence[int]) -> list[Shift]:
    """Every grid, seed and kind of change."""
    kinds = [(signal, factor) for signal in ("time", "power") for factor in (SHIFT, 1.0 / SHIFT)]
    return [
        Shift(grid=grid, seed=seed, signal=signal, factor=factor)
        for grid in grids
        for seed in seeds
        for signal, factor in kinds
    ]


def shifted(work: Work, shift: Shift) -> Shifted:
    """Play one change and its way back."""
    plant, conditions, loaded = prepared(work, Job(grid=shift.grid, objective="energy", seed=shift.seed))
    rng = np.random.default_rng((shift.seed, 2))
    there = int(work.steps * rng.uniform(0.35, 0.5))
    back = there + int(work.steps * 0.3)
    other = _changed(plant, shift.signal, shift.factor)
    platform = platform_of(plant, conditions, {there: other, back: plant})
    eye = _Eye()
    played = play(loaded, steps=work.steps, platform=platform, timed=False, eyes=(eye,))
    (_, (there_s, _), (back_s, _)) = played.machine.phases
    found = next((event.at_s for event in eye.changes if there_s < event.at_s <= back_s), None)
    again = next((event.at_s for event in eye.changes if event.at_s > back_s), None)
    return Shifted(
        windows=None if found is None else _windows(eye, there_s, found),
        back=None if again is None else _until_back(eye, there_s, again),
    )


def _changed(plant: Plant, signal: str, factor: float) -> Plant:
    return plant.changed(step_time=factor) if signal == "time" else plant.changed(power=factor)


def _windows(eye: _Eye, from_s: float, to_s: float) -> int:
    return sum(w.phase == "idle" and w.observation.start_s >= from_s and w.at_s <= to_s for w in eye.windows)


def _until_back(eye: _Eye, before_s: float, again_s: float) -> int | None:
    """Windows from `again_s` until the state committed to before `before_s` is in force and decided."""
    committed = [event.configuration for event in eye.decided if event.at_s <= before_s]
    if not committed:
        return None
    decided_s = next((e.at_s for e in eye.decided if e.at_s >= again_s and e.configuration == committed[-1]), None)
    if decided_s is None:
        return None
    return sum(again_s < window.at_s <= decided_s for window in eye.windows)


def quiet(work: Work, grid: Grid) -> tuple[int, int]:
    """Play 10 000 idle windows of a program that does not change: windows, and changes found all the same."""
    plant, conditions, loaded = prepared(work, Job(grid=grid, objective="energy", seed=0))
    beats = max(WINDOW_BEATS, ceil(WINDOW_S / float(np.nanmin(plant.step_s)))) + 1
    steps = QUIET_WINDOWS * beats
    eye = _Eye()
    platform = platform_of(plant, replace(conditions, steps=steps))
    play(loaded, steps=steps, platform=platform, timed=False, eyes=(eye,))
    return sum(window.phase == "idle" for window in eye.windows), len(eye.changes)


# Wrong models ---------------------------------------------------------------------------------------------------------


def wrongs_of(grids: Sequence[Grid], seeds: Sequence[int]) -> list[Wrong]:
    """Every grid, seed and kind of mistake."""
    found: list[Wrong] = []
    for grid in grids:
        for seed in seeds:
            found += [Wrong(grid=grid, seed=seed, power=factor) for factor in WRONG_POWER]
            found.append(Wrong(grid=grid, seed=seed, time=WRONG_TIME))
    return found


def righted(work: Work, wrong: Wrong) -> Righted:
    """Play one run with a wrong model."""
    with TemporaryDirectory(prefix="ceml-bench-") as folder:
        knowledge = Path(folder) / "knowledge" if wrong.power != 1.0 else None
        job = Job(grid=wrong.grid, objective="performance", seed=wrong.seed, cap=WRONG_CAP, knowledge=knowledge)
        plant, conditions, loaded = prepared(work, job)
        if knowledge is not None:
            _, _, free = prepared(work, replace(job, cap=None))
            taught = platform_of(plant.changed(power=wrong.power), replace(conditions, seed=wrong.seed + 1))
            play(free, steps=work.steps, platform=taught, timed=False)
        at = work.steps // 3
        phases = {at: plant.changed(step_time=wrong.time)} if wrong.time != 1.0 else None
        platform, eye = platform_of(plant, conditions, phases), _Eye()
        played = play(loaded, steps=work.steps, platform=platform, timed=False, eyes=(eye,))
    figures, machine = played.figures, played.machine
    since_s = machine.phases[-1][0] if phases else (eye.decided[0].at_s if eye.decided else np.inf)
    later = [window.at_s for window in eye.windows if window.observation.start_s >= since_s]
    if len(later) < WRONG_WINDOWS:
        return Righted(figures=figures, regret=None)
    here, cap_w = eye.in_force(later[WRONG_WINDOWS - 1]), loaded.settings.budget
    return Righted(figures=figures, regret=None if cap_w is None else _regret(machine.plant, here, cap_w))


def _regret(plant: Plant, here: Configuration | None, cap_w: float) -> float | None:
    """How much slower a state is than the fastest that keeps the budget."""
    state = None if here is None else plant.space.find(here)
    if state is None:
        return None
    return max(float(plant.step_s[state]) / best_step_s(plant, cap_w) - 1.0, 0.0)


# Summed up ------------------------------------------------------------------------------------------------------------


def adaptation(
    work: Work, grids: Sequence[Grid], *, seeds: Sequence[int], processes: int, tell: Callable[[int, int], None]
) -> list[Row]:
    """Play all four kinds and hold them against what was promised."""
    shifts, wrongs, moves = shifts_of(grids, seeds), wrongs_of(grids, seeds), moved_caps_of(work, grids, seeds)
    begun = len(grids) * len(seeds) * len(CAPS)
    total = begun + len(moves) + len(shifts) + len(wrongs) + len(grids)

    def told(before: int) -> Callable[[int], None]:
        return lambda count: tell(min(before + count, total), total)

    runs = [one.figures for one in capped(work, grids, seeds=seeds, processes=processes, tell=told(0)) if one.figures]
    after = each(moved_cap, work, moves, processes=processes, tell=told(begun))
    begun += len(moves)
    found = each(shifted, work, shifts, processes=processes, tell=told(begun))
    right = each(righted, work, wrongs, processes=processes, tell=told(begun + len(shifts)))
    calm = each(quiet, work, grids, processes=processes, tell=told(total - len(grids)))
    return [*_caps(runs), *_moved(after), *_phases(found, calm), *_wrongs(right)]


def _caps(runs: Sequence[Figures]) -> list[Row]:
    over_s = [run.seconds_above_cap for run in runs if run.seconds_above_cap is not None]
    short = [run.settled_short for run in runs if run.settled_short is not None]
    above_j = sum((run.energy_above_cap or 0.0) * (run.run_energy_j or 0.0) for run in runs)
    all_j = sum(run.run_energy_j or 0.0 for run in runs)
    failures = sum(map(failed, runs))
    return [
        Row(
            name="caps: time above the cap by more than 2 %",
            unit="s",
            values=_spread(over_s),
            must={MEDIAN: 0.0, WORST: LONGEST_OVER_S},
            failed=failures,
        ),
        Row(
            name="caps: energy above the cap",
            unit="%",
            values={ALL: above_j / all_j if all_j else None},
            must={ALL: 0.0005},
        ),
        Row(
            name="caps: rate after settling below the best allowed state's",
            unit="%",
            values=_spread(short),
            must={MEDIAN: 0.015, WORST: 0.06},
            failed=failures,
        ),
    ]


def _moved(after: Sequence[Stretch | None]) -> list[Row]:
    """Of the time after the change alone."""
    known = [each for each in after if each is not None]
    short = [each.short_of_best for each in known if each.short_of_best is not None]
    return [
        Row(
            name="moved caps: time above the new cap by more than 2 %",
            unit="s",
            values=_spread([each.above_s for each in known]),
            must={MEDIAN: 0.0, WORST: LONGEST_OVER_S},
            failed=len(after) - len(known),
        ),
        Row(
            name="moved caps: rate of the state held longest below the best allowed state's",
            unit="%",
            values=_spread(short),
        ),
    ]


def _phases(found: Sequence[Shifted], calm: Sequence[tuple[int, int]]) -> list[Row]:
    windows, alarms = (sum(column) for column in zip(*calm, strict=True)) if calm else (0, 0)
    return [
        Row(
            name=f"phases: windows until a change by {SHIFT - 1:.0%} is found",
            unit="states",
            values=_spread([one.windows for one in found if one.windows is not None]),
            must={WORST: 8.0},
            failed=sum(one.windows is None for one in found),
        ),
        Row(
            name="phases: false alarms in 10 000 windows",
            unit="states",
            values={ALL: alarms * QUIET_WINDOWS / windows if windows else None},
            must={ALL: 1.0},
        ),
        Row(
            name="phases: windows until one seen before is settled again",
            unit="states",
            values=_spread([one.back for one in found if one.back is not None]),
            must={MEDIAN: 1.0},
            failed=sum(one.back is None for one in found if one.windows is not None),
        ),
    ]


def _wrongs(right: Sequence[Righted]) -> list[Row]:
    over_s = [one.figures.seconds_above_cap for one in right if one.figures.seconds_above_cap is not None]
    return [
        Row(
            name="wrong models: regret after 10 windows",
            unit="%",
            values=_spread([one.regret for one in right if one.regret is not None]),
            must={MEDIAN: 0.03},
            failed=sum(one.regret is None for one in right),
        ),
        Row(
            name="wrong models: time above the cap by more than 2 %",
            unit="s",
            values=_spread(over_s),
            must={MEDIAN: 0.0, WORST: LONGEST_OVER_S},
        ),
    ]


def _spread(numbers: Sequence[float]) -> dict[str, float | None]:
    if not numbers:
        return {MEDIAN: None, P95: None, WORST: None}
    median, p95, worst = np.percentile(numbers, (50.0, 95.0, 100.0)).tolist()
    return {MEDIAN: median, P95: p95, WORST: worst}
