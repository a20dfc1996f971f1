"""How long a decision takes: 540 states with energy and a cap (goal 50 us), 4368 with four knobs (goal 300 us).

Run by `make bench`; timing is no verdict in `make test`. `floor_us` beside each figure is one numpy call (`np.add`) on
as many states, measured in the same minute: a decision is some thirty of them. Not covered: the quality of choices.
"""

from __future__ import annotations

import timeit

import numpy as np
import pytest

from ceml.domain.budget import PowerCap
from ceml.domain.contracts import Score
from ceml.domain.knobs import Configuration, Knob, KnobKind, KnobSpace
from ceml.domain.response.paper import PaperFit, _predict, paper
from ceml.domain.sampling import seven_states
from ceml.domain.search import exhaustive, local
from ceml.domain.values import Observation, Situation
from ceml.plugins.energy import energy

CLOCKS = ("cpu", "gpu", "mem")


def clock(device: str, low_mhz: float, high_mhz: float, levels: int) -> Knob:
    return Knob(name=f"{device}_hz", levels=tuple(1e6 * mhz for mhz in np.linspace(low_mhz, high_mhz, levels).tolist()))


SPACES = {
    540: KnobSpace([clock("cpu", 806, 2035, 9), clock("gpu", 421, 1300, 10), clock("mem", 666, 1866, 6)]),
    4368: KnobSpace(
        [
            Knob(name="cpu_cores", levels=(2, 4, 6, 8, 10, 12), kind=KnobKind.COUNT),
            clock("cpu", 420, 2200, 14),
            clock("gpu", 115, 1300, 13),
            clock("mem", 204, 3199, 4),
        ]
    ),
}
GOAL_US = {540: 50, 4368: 300}


def see(configuration: Configuration, *, rails: bool) -> Observation:
    ghz = np.array([float(configuration[f"{device}_hz"]) / 1e9 for device in CLOCKS])
    parts = np.array([0.05, 0.1, 0.08]) / ghz
    watts = np.array([0.3, 0.2, 0.4]) * ghz + np.array([1.0, 4.0, 1.2]) * ghz**3 * parts / parts.sum()
    return Observation(
        configuration=configuration,
        start_s=0,
        end_s=1,
        beats=1,
        steps=1,
        rate_hz=1 / parts.sum(),
        power_w=2 + watts.sum(),
        rail_w=dict(zip(CLOCKS, watts.tolist(), strict=True)) if rails else {},
        utilisation=dict(zip(CLOCKS, (parts / parts.sum()).tolist(), strict=True)) if rails else {},
    )


def prepared(states: int, *, rails: bool = True) -> tuple[KnobSpace, list[Observation], PaperFit, Score]:
    space = SPACES[states]
    observations = [see(space.configuration(state), rails=rails) for state in seven_states(space)]
    fit = paper().fit(space, observations)
    return space, observations, fit, Score(fit, energy(), (PowerCap(8.0),), Situation())


def floor(benchmark, states: int) -> None:
    one, other = np.ones(states), np.ones(states)
    floor_us = min(timeit.repeat(lambda: np.add(one, other), number=1000, repeat=20)) * 1000
    benchmark.extra_info.update(states=states, goal_us=GOAL_US[states], floor_us=round(floor_us, 2))
    if not benchmark.disabled:
        print(f"\n{states} states: goal {GOAL_US[states]} us, numpy call floor {floor_us:.2f} us")


@pytest.mark.parametrize("states", [540, 4368])
def test_exhaustive_search(benchmark, states: int) -> None:
    """What a change of budget costs: the fit and its predictions are there."""
    space, _, _, score = prepared(states)
    floor(benchmark, states)
    assert benchmark(exhaustive().best, space, score, space.max_state).feasible


@pytest.mark.parametrize("rails", [True, False])
@pytest.mark.parametrize("states", [540, 4368])
def test_prediction_and_exhaustive_search(benchmark, states: int, rails: bool) -> None:
    """The same with all states predicted anew, per rail or in total."""
    space, _, fit, score = prepared(states, rails=rails)
    floor(benchmark, states)

    class Anew(Score):
        def __call__(self, states):
            return self.of(_predict(fit.form, fit.coefficients, fit.power, states))

    anew = Anew(score.fit, score.objective, score.constraints, score.now)
    assert benchmark(exhaustive().best, space, anew, space.max_state).feasible


@pytest.mark.parametrize("states", [540, 4368])
def test_local_search(benchmark, states: int) -> None:
    space, _, _, score = prepared(states)
    floor(benchmark, states)
    benchmark(local().best, space, score, space.max_state)


@pytest.mark.parametrize("states", [540, 4368])
def test_fit(benchmark, states: int) -> None:
    """Seven observations, the terms of the space being known."""
    space, observations, _, _ = prepared(states)
    floor(benchmark, states)
    model = paper()
    model.fit(space, observations)
    benchmark(model.fit, space, observations)
