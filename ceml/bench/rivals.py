"""Strategies to be held against: the same work, the same noise, scored by the same definitions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ceml.bench.peers import gaussian_process, missing, tpe
from ceml.bench.play import play
from ceml.bench.score import score
from ceml.bench.session import HOLD_STEPS, Session
from ceml.domain.budget import constraints_of
from ceml.domain.contracts import Score
from ceml.domain.knobs import KnobSpace
from ceml.domain.values import Situation
from ceml.errors import SettingsError
from ceml.parts import SAMPLER_OPTIONS, choose
from ceml.platforms.played import played
from ceml.sources import Loaded
from ceml.store.paths import PlatformContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ceml.bench.score import Figures
    from ceml.bench.session import Conditions, Strategy, Trials
    from ceml.control.ports import Platform
    from ceml.plant.machine import Plant

NARROW = {"cpu_hz": 0.39, "gpu_hz": 0.32, "mem_hz": 0.35}  # the paper's range, as shares of each device's maximum
_SLACK = 1e-9
COUNTS = (7, 15, 30)
OFFLINE = 32


@dataclass(frozen=True, kw_only=True)
class Rival:
    """One strategy.

    Attributes:
        name: What it is called.
        about: What it does, in words.
        trials: Which states it holds, 20 steps each; None: the paper's own runtime.
        search: Of the paper.
        narrow: Whether it may only use the paper's range.
        offline: Whether what it found was known before the run, at no cost: a line of reference, no rival.
        needs: Package (as imported) and distribution that it is made of.
    """

    name: str
    about: str
    trials: Strategy | None = None
    search: str = "exhaustive"
    narrow: bool = False
    offline: bool = False
    needs: tuple[str, str] | None = None


def nothing(space: KnobSpace, seed: int) -> Trials:
    """No state at all."""
    yield from ()


def at_random(space: KnobSpace, seed: int, count: int) -> Trials:
    """Different states, drawn at random; all of them where there are no more."""
    rng = np.random.default_rng((seed, 2))  # (seed, 0) and (seed, 1) are the program's and the sensor's
    for state in rng.permutation(space.states)[:count]:
        yield int(state)


def _all() -> list[Rival]:
    best_of = partial(at_random, count=OFFLINE)
    rivals = [Rival(name="max", about="maximum frequencies", trials=nothing)]
    for search in ("exhaustive", "local"):
        for range_ in ("full", "narrow"):
            about = f"the paper, {search} search, {range_} range"
            name = f"paper-{search}-{range_}"
            rivals.append(Rival(name=name, about=about, search=search, narrow=range_ == "narrow"))
    about = f"best of {OFFLINE} random states"
    rivals.append(Rival(name="best32-offline", about=f"{about}, known before", trials=best_of, offline=True))
    rivals.append(Rival(name="best32", about=f"{about}, paying for them", trials=best_of))
    for count in COUNTS:
        about, trials = f"{count} random states", partial(at_random, count=count)
        rivals.append(Rival(name=f"random-{count}", about=about, trials=trials))
    for count in COUNTS:
        about, trials = f"Optuna TPE, {count} states", partial(tpe, count=count)
        rivals.append(Rival(name=f"tpe-{count}", about=about, trials=trials, needs=("optuna", "optuna")))
    for count in COUNTS:
        about, trials = f"Gaussian process, {count} states", partial(gaussian_process, count=count)
        rivals.append(Rival(name=f"gp-{count}", about=about, trials=trials, needs=("sklearn", "scikit-learn")))
    return rivals


RIVALS = {rival.name: rival for rival in _all()}


def chosen(words: str) -> tuple[list[Rival], list[str]]:
    """The rivals that were asked for: `all`, `none`, or names and families (`tpe`) between commas.

    Returns:
        Those that can play, and a sentence on each family that cannot.

    Raises:
        SettingsError: No such rival.
    """
    named = [word.strip() for word in words.split(",") if word.strip()]
    asked: dict[str, Rival] = {}
    for word in named if named != ["none"] else ():
        found = {n: r for n, r in RIVALS.items() if word in ("all", n) or n.startswith(f"{word}-")}
        if not found:
            raise SettingsError(f"--rivals {word}: no such strategy; give all, none or some of {', '.join(RIVALS)}")
        asked.update(found)
    absent = {r.needs for r in asked.values() if r.needs and missing(r.needs[0])}
    sentences = [
        f"left out: {', '.join(r.name for r in asked.values() if r.needs == needs)}, since {needs[1]} is not "
        f"installed (make rivals, or pip install {needs[1]})"
        for needs in sorted(absent)
    ]
    return [rival for name, rival in RIVALS.items() if name in asked and rival.needs not in absent], sentences


def narrowed(space: KnobSpace) -> KnobSpace:
    """The states in the paper's range of the knobs that the paper knows."""
    shares = space.shares(np.arange(len(space.present)))
    least = np.array([NARROW.get(knob.name, -np.inf) for knob in space.knobs])
    return KnobSpace(space.knobs, space.present & (shares >= least - _SLACK).all(axis=1))


def run_rival(rival: Rival, loaded: Loaded, plant: Plant, conditions: Conditions) -> Figures:
    """One run of one rival.

    Args:
        rival: Which.
        loaded: Settings of the run; what concerns only our own sampler, model and search is not its.
        plant: The grid.
        conditions: Length, seed and noise.

    Raises:
        SettingsError: It cannot play this grid.
    """
    platform = platform_of(plant, conditions)
    if rival.trials is None:
        if rival.narrow:
            platform = replace(platform, space=narrowed(plant.space))
        return play(papers(loaded, rival.search), steps=conditions.steps, platform=platform, timed=False).figures
    parts = choose(loaded, PlatformContext(runtime_dir=Path(), in_process=True), platform=platform)
    objective = parts.mind.objective
    limits = constraints_of(parts.limits)
    known = parts.mind.model.fit(plant.space, ())
    judge = Score(known, objective, (*objective.constraints, *limits), Situation())
    otherwise, trials = plant.space.max_state, rival.trials(plant.space, conditions.seed)
    if rival.offline:
        before = Session(plant, trials, score=judge, otherwise=otherwise)
        before.run(replace(conditions, steps=OFFLINE * HOLD_STEPS))
        otherwise, trials = otherwise if before.kept is None else before.kept, nothing(plant.space, 0)
    session = Session(plant, trials, score=judge, otherwise=otherwise)
    session.run(conditions)
    return score(
        session.machine,
        objective=objective,
        objective_is_energy=loaded.settings.objective == "energy",
        constraints=limits,
        steps=conditions.steps,
        commitments=() if session.kept is None else (session.kept,),
        caps=((0.0, parts.limits.power_cap_w),),
    )


def platform_of(plant: Plant, conditions: Conditions, phases: Mapping[int, Plant] | None = None) -> Platform:
    """The grid as a platform that brings its own program; `phases`: what it becomes with its nth step."""
    return played(
        plant,
        steps=conditions.steps,
        seed=conditions.seed,
        noise_time=conditions.noise_time,
        noise_power=conditions.noise_power,
        sensor_period_s=conditions.sensor_period_s,
        phases=phases,
    )


def papers(loaded: Loaded, search: str) -> Loaded:
    """The settings with the paper's model, sampler, detector and one of its searches."""
    changed = {"model": "paper", "sampler": "paper", "detector": "difference", "search": search}
    fresh = dict.fromkeys(SAMPLER_OPTIONS, "default")
    settings = loaded.settings.model_copy(update=changed)
    return Loaded(settings, {**loaded.origins, **fresh, **dict.fromkeys(changed, "flag")})
