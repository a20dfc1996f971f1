"""How long one decision takes, and how much memory, from 4368 to five million states with the default model.

Run by `make bench`; timing is no verdict in `make test`. The goal up to 100 000 states, where all are looked at, is
300 ms and 150 MB. Memory is the peak of what Python and numpy hold beyond the empty house, by tracemalloc, in a run
of its own. The daemon keeps linear algebra to one thread: OPENBLAS_NUM_THREADS=1 in front of the command tells how long
it takes there. Not covered: what several threads of a linear algebra library make of a busy machine.
"""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ceml.domain.budget import PowerCap
from ceml.domain.contracts import Score
from ceml.domain.improvement import improvement
from ceml.domain.knobs import Configuration, Knob, KnobKind, KnobSpace
from ceml.domain.response.overlap import overlap
from ceml.domain.search import exhaustive, initial_state
from ceml.domain.values import Observation, Situation
from ceml.plugins.energy import energy

if TYPE_CHECKING:
    from ceml.domain.values import Choice, Stay

SHAPES = {
    4368: (6, 14, 13, 4),
    20_000: (8, 25, 20, 5),
    100_000: (8, 50, 50, 5),
    1_000_000: (8, 125, 100, 10),
    5_000_000: (10, 250, 200, 10),
}
DEVICES = ("cpu", "gpu", "mem")
TOP_HZ = np.array([2.2e9, 1.3e9, 3.2e9])
GOAL_MS, GOAL_MB = 300, 150


def space_of(states: int) -> KnobSpace:
    cores, *counts = SHAPES[states]
    clocks = [
        Knob(name=f"{device}_hz", levels=tuple(np.linspace(top_hz / 8.0, top_hz, count).tolist()))
        for device, top_hz, count in zip(DEVICES, TOP_HZ, counts, strict=True)
    ]
    return KnobSpace([Knob(name="cpu_cores", levels=tuple(range(1, cores + 1)), kind=KnobKind.COUNT), *clocks])


def see(configuration: Configuration) -> Observation:
    share = np.array([float(configuration[f"{device}_hz"]) for device in DEVICES]) / TOP_HZ
    parts_s = np.array([0.05 / min(float(configuration["cpu_cores"]) / 5.0, 1.0), 0.1, 0.08]) / share
    step_s = float((parts_s**2.5).sum() ** 0.4 + 0.02)
    busy = np.minimum(parts_s / step_s, 1.0)
    watts = 3.0 + (np.array([0.3, 0.2, 0.4]) * share + np.array([4.0, 9.0, 3.0]) * share**2.2 * busy).sum()
    return Observation(
        configuration=configuration,
        start_s=0.0,
        end_s=20.0 * step_s,
        beats=20,
        steps=20.0,
        rate_hz=1.0 / step_s,
        power_w=float(watts),
        power_samples=20,
        step_cv=0.02,
        power_cv=0.025,
    )


def decide(space: KnobSpace, seen: list[Observation], cap_w: float | None) -> tuple[Stay | None, Score]:
    fit = overlap().fit(space, seen)
    score = Score(fit, energy(), () if cap_w is None else (PowerCap(cap_w),), Situation())
    return improvement().next(space, fit, score, seen, 1500.0, 2000.0), score


def eight(space: KnobSpace) -> list[Observation]:
    rng = np.random.default_rng(0)
    return [see(space.configuration(int(state))) for state in rng.integers(len(space), size=8)]


def note(benchmark, what, *args: object) -> None:
    benchmark.extra_info.update(goal_ms=GOAL_MS, goal_mb=GOAL_MB)
    tracemalloc.start()
    what(*args)
    benchmark.extra_info["peak_mb"] = round(tracemalloc.get_traced_memory()[1] / 1e6, 1)
    tracemalloc.stop()


@pytest.mark.parametrize("states", SHAPES)
def test_first_decision(benchmark, states: int) -> None:
    """With the space itself and what the model makes of it."""

    def first() -> Stay | None:
        return decide(space_of(states), [], None)[0]

    note(benchmark, first)
    assert benchmark.pedantic(first, rounds=5)


@pytest.mark.parametrize("cap_w", [None, 9.0])
@pytest.mark.parametrize("states", SHAPES)
def test_decision_of_the_sampler(benchmark, states: int, cap_w: float | None) -> None:
    """Fit, uncertainty and the worth of every trial, after eight states."""
    space = space_of(states)
    seen = eight(space)
    note(benchmark, decide, space, seen, cap_w)
    assert benchmark.pedantic(decide, args=(space, seen, cap_w), rounds=5)[0]


@pytest.mark.parametrize("states", SHAPES)
def test_search(benchmark, states: int) -> None:
    """The best state of a model that is fitted already, as after a change of budget."""
    space = space_of(states)
    _, score = decide(space, eight(space), None)

    def search() -> Choice:
        return exhaustive().best(space, score, initial_state(space, score, ()))

    note(benchmark, search)
    assert benchmark.pedantic(search, rounds=5).feasible
