"""Budgets that change while a program runs: how soon and how well the new one is kept; on measured tables.

Objective `performance`. The budget is a share of the power with every knob at its highest, and another from the moment
on at which the fastest state allowed would be half through; both ways, since a lower one is another search over what is
known, and a higher one allows states that nobody had reason to look at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from ceml.bench.play import play
from ceml.bench.rivals import platform_of
from ceml.bench.score import stretches
from ceml.bench.tables import Job, prepared
from ceml.sources import Loaded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ceml.bench.score import Stretch
    from ceml.bench.tables import Grid, Work
    from ceml.plant.machine import Plant

SHARES = ((0.5, 0.85), (0.85, 0.5))


@dataclass(frozen=True, kw_only=True)
class MovedCap:
    """A run under one budget and then another.

    Attributes:
        grid: Where.
        seed: Of the noise.
        before: Watts until the change.
        after: Watts from then on.
        at_s: When.
    """

    grid: Grid
    seed: int
    before: float
    after: float
    at_s: float


def moved_caps_of(work: Work, grids: Sequence[Grid], seeds: Sequence[int]) -> list[MovedCap]:
    """Every grid and seed, up and down; a budget below the lowest state's power is left out."""
    return [replace(one, seed=seed) for grid in grids for one in _both_ways(work, grid) for seed in seeds]


def _both_ways(work: Work, grid: Grid) -> Iterator[MovedCap]:
    plant, _, _ = prepared(work, Job(grid=grid, objective="performance", seed=0))
    most_w = float(plant.power_w[plant.space.max_state])
    for before, after in (tuple(share * most_w for share in shares) for shares in SHARES):
        if min(before, after) >= np.nanmin(plant.power_w):
            at_s = work.steps / 2 * best_step_s(plant, before)
            yield MovedCap(grid=grid, seed=0, before=before, after=after, at_s=at_s)


def best_step_s(plant: Plant, cap_w: float) -> float:
    """Seconds of a step in the fastest state that keeps a cap."""
    return float(np.nanmin(np.where(plant.power_w <= cap_w, plant.step_s, np.nan)))


def moved_cap(work: Work, moved: MovedCap) -> Stretch | None:
    """Play one; what became of it after the change, None where the program was over before."""
    plant, conditions, loaded = prepared(work, Job(grid=moved.grid, objective="performance", seed=moved.seed))
    with TemporaryDirectory(prefix="ceml-bench-") as folder:
        scenario = Path(folder) / "budget.toml"
        steps = ((0.0, moved.before), (moved.at_s, moved.after))
        scenario.write_text(
            "".join(f'[[step]]\nat = "{at_s:.6f}s"\nbudget = "{watts!r}W"\n' for at_s, watts in steps), encoding="utf-8"
        )
        settings = loaded.settings.model_copy(update={"scenario": scenario})
        loaded = Loaded(settings, {**loaded.origins, "scenario": "flag"})
        played = play(loaded, steps=work.steps, platform=platform_of(plant, conditions), timed=False)
    found = [each for each in stretches(played.machine, played.caps) if each.cap_w == moved.after]
    return found[-1] if found else None
