"""Single runs for the paper's figures: a program, a strategy, a seed; in the paper's range of frequencies."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ceml.bench.play import play
from ceml.bench.rivals import RIVALS, narrowed, papers, platform_of, run_rival
from ceml.bench.score import Stretch, held_out_errors, stretches
from ceml.bench.session import Conditions
from ceml.bench.tables import Job, prepared
from ceml.errors import SettingsError
from ceml.plant.board import calibration, jetson_tx2
from ceml.sources import Loaded

if TYPE_CHECKING:
    from ceml.bench.play import Played
    from ceml.bench.tables import Grid, Work
    from ceml.control.ports import Platform
    from ceml.plant.machine import Plant

SIMULATED = "jetson-tx2 (simulated)"
MAX, BEST32, CEML_L, CEML_E, OURS = "maximum", "best of 32", "CEML-L", "CEML-E", "ours"
STRATEGIES = (MAX, BEST32, CEML_L, CEML_E, OURS)
ABOUT = {
    MAX: "maximum frequencies all the time",
    BEST32: "the best of 32 random states, known beforehand at no cost",
    CEML_L: "the paper's method, local search",
    CEML_E: "the paper's method, exhaustive search",
    OURS: "the default model and sampler",
}
_RIVALS = {MAX: "max", BEST32: "best32-offline"}
FALL_S, RISE_S = 600.1, 760.1  # of the budget, in the paper's figure 10
LAST_S = 1000.0  # how long the run of figure 10 lasts at least
CAPPED = (CEML_E, OURS)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One program on one board: of the simulated TX2 where there is no grid."""

    workload: str
    grid: Grid | None = None

    @property
    def name(self) -> str:
        """What it is called in tables and pictures."""
        return self.workload if self.grid is None else self.grid.name

    @property
    def board(self) -> str:
        """Where it ran."""
        return SIMULATED if self.grid is None else self.grid.table.name


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run: of figures 8 and 9, or with the budget of figure 10."""

    source: Source
    strategy: str
    seed: int
    capped: bool = False


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        energy: Energy of the whole run, profiling included, as a share of that at maximum frequencies.
        best_energy: That of the true best state.
        chosen_energy: That of the state chosen in the end, as if in force all the time; None where nothing chooses.
        rate_error: Of the model over states it was not shown; None where there is no model.
        power_error: The same.
        stretches: With the budget of figure 10: what became of it under each cap.
        trace: `(from, to, watts, steps/s)` of the whole run in truth, where it was capped.
        sentence: Why there is nothing of all this.
    """

    energy: float | None = None
    best_energy: float | None = None
    chosen_energy: float | None = None
    rate_error: float | None = None
    power_error: float | None = None
    stretches: tuple[Stretch, ...] = ()
    trace: tuple[tuple[float, float, float, float], ...] = ()
    sentence: str = ""


def outcome(work: Work, task: Task) -> Outcome:
    """One run, in this process."""
    try:
        plant, conditions, loaded = _prepared(work, task)
        if task.capped:
            return _capped(plant, conditions, loaded, task)
        if task.strategy in _RIVALS:
            figures = run_rival(RIVALS[_RIVALS[task.strategy]], loaded, plant, conditions)
            return Outcome(_rest(figures.saving), _rest(figures.possible_saving))
        played = _play(loaded, task, plant, conditions)
        errors = held_out_errors(played.machine, played.fit)
        figures = played.figures
        chosen = _share(figures.chosen_energy_j, figures.max_state_energy_j)
        return Outcome(_rest(figures.saving), _rest(figures.possible_saving), chosen, *errors)
    except SettingsError as error:
        return Outcome(sentence=str(error))


def _prepared(work: Work, task: Task) -> tuple[Plant, Conditions, Loaded]:
    """The program as a plant in the paper's range of frequencies."""
    source, settings = task.source, work.loaded.settings
    if source.grid is not None:
        plant, conditions, loaded = prepared(
            work, Job(grid=source.grid, objective="energy", seed=task.seed, strategy=task.strategy)
        )
        if not source.grid.powered:
            raise SettingsError("power was never measured there")
        return replace(plant, space=narrowed(plant.space)), conditions, loaded
    changed: dict[str, Any] = {
        "platform": "simulated", "workload": source.workload, "objective": "energy", "seed": task.seed,
        "record": None, "knowledge": None, "fresh": False,
    }  # fmt: skip
    conditions = Conditions(
        steps=work.steps, seed=task.seed, noise_time=settings.noise_time, noise_power=settings.noise_power,
        sensor_period_s=settings.sensor_period_s,
    )  # fmt: skip
    loaded = Loaded(settings.model_copy(update=changed), {**work.loaded.origins, **dict.fromkeys(changed, "flag")})
    return jetson_tx2(source.workload), conditions, loaded


def _platform(task: Task, plant: Plant, conditions: Conditions) -> Platform:
    platform = platform_of(plant, conditions)
    return replace(platform, knowledge=calibration()) if task.source.grid is None else platform


def _play(loaded: Loaded, task: Task, plant: Plant, conditions: Conditions) -> Played:
    if task.strategy in (CEML_L, CEML_E):
        loaded = papers(loaded, "local" if task.strategy == CEML_L else "exhaustive")
    return play(loaded, steps=conditions.steps, platform=_platform(task, plant, conditions), timed=False)


def _capped(plant: Plant, conditions: Conditions, loaded: Loaded, task: Task) -> Outcome:
    """The most steps per second under a budget that falls and rises when the paper's does."""
    high_w, low_w = budgets(plant)
    steps = ceil(LAST_S / float(plant.step_s[plant.space.max_state]))
    with tempfile.TemporaryDirectory(prefix="ceml-paper-") as folder:
        scenario = Path(folder) / "scenario.toml"
        moments = ((0.0, high_w), (FALL_S, low_w), (RISE_S, high_w))
        scenario.write_text("\n".join(f'[[step]]\nat = "{at:g}s"\nbudget = "{watts:.6g}W"' for at, watts in moments))
        changed = {"scenario": scenario, "objective": "performance"}
        settings = loaded.settings.model_copy(update=changed)
        capped = Loaded(settings, {**loaded.origins, **dict.fromkeys(changed, "flag")})
        played = _play(capped, task, plant, replace(conditions, steps=steps))
    trace = [
        (from_s, to_s, float(plant.power_w[state]), 1.0 / float(plant.step_s[state]))
        for from_s, to_s, state in played.machine.timeline()
    ]
    return Outcome(stretches=tuple(stretches(played.machine, played.caps)), trace=tuple(trace))


def budgets(plant: Plant) -> tuple[float, float]:
    """A budget that maximum frequencies just keep, and one halfway down to the least power of any state, watts."""
    watts = plant.power_w[plant.space.states]
    most_w, least_w = float(plant.power_w[plant.space.max_state]), float(watts[watts > 0.0].min())
    return 1.02 * most_w, (most_w + least_w) / 2


def _rest(share: float | None) -> float | None:
    return None if share is None else 1.0 - share


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
