"""The score, which is the one contract with arithmetic in it. Not covered: plugins loaded by name (plugins)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ceml.domain.budget import PowerCap
from ceml.domain.contracts import Constraint, Objective, ResponseModel, Score, Search
from ceml.domain.knobs import Knob, KnobSpace
from ceml.domain.response.paper import paper
from ceml.domain.search import exhaustive, local
from ceml.domain.values import Prediction, Situation
from ceml.plugins.energy import energy
from ceml.plugins.performance import performance

anything = arrays.arrays(np.float64, 7, elements=st.floats(width=64))
SPACE = KnobSpace([Knob(name="cpu_hz", levels=(1e9, 2e9))])
FIT = paper().fit(SPACE, [])


def scored(rate_hz: object, power_w: object, *constraints: Constraint, objective: Objective | None = None):
    predicted = Prediction(rate_hz=np.array(rate_hz, dtype=float), power_w=np.array(power_w, dtype=float))
    return Score(FIT, objective or energy(), constraints, Situation()).of(predicted)


@given(anything, anything)
def test_whatever_a_model_predicts_a_score_is_a_number_or_infinite_and_never_warns(rate_hz, power_w) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = scored(rate_hz, power_w, PowerCap(8))
    assert not np.isnan(score.cost).any()
    assert not np.isnan(score.violation).any()
    assert (score.violation >= 0).all()
    assert (np.isinf(score.cost) == np.isinf(score.violation)).all()


@given(anything, anything)
def test_states_without_positive_speed_or_power_are_never_feasible(rate_hz, power_w) -> None:
    score = scored(rate_hz, power_w)
    for cost, violation, rate, power in zip(score.cost, score.violation, rate_hz, power_w, strict=True):
        if not rate > 0 or not power > 0:
            assert (cost, violation) == (np.inf, np.inf)


def test_the_largest_violation_counts() -> None:
    score = scored([1, 1, 1], [4, 9, 20], PowerCap(10), PowerCap(8))
    assert score.violation.tolist() == [0, 0.125, 1.5]


def test_unknown_power_matters_only_to_those_who_ask_for_it() -> None:
    speed = performance()
    assert scored([2.0], [np.nan], objective=speed).violation.tolist() == [0]
    assert scored([2.0], [np.nan], PowerCap(8), objective=speed).violation.tolist() == [np.inf]
    assert scored([2.0], [np.nan]).violation.tolist() == [np.inf]


def test_a_fit_that_knows_nothing_makes_every_state_infeasible() -> None:
    score = Score(FIT, energy(), (), Situation())(SPACE.states)
    assert np.isinf(score.cost).all()


def test_a_violation_below_zero_is_no_virtue() -> None:
    @dataclass(frozen=True)
    class Generous:
        name: str = "generous"

        def violation(self, predicted: Prediction, now: Situation):
            return -np.ones(len(predicted.rate_hz))

    assert scored([1.0], [1.0], Generous()).violation.tolist() == [0]


def test_what_the_house_ships_keeps_the_contracts() -> None:
    assert isinstance(energy(), Objective)
    assert isinstance(PowerCap(8), Constraint)
    assert isinstance(paper(), ResponseModel)
    assert isinstance(exhaustive(), Search)
    assert isinstance(local(), Search)


def test_constraints_can_be_judged_on_the_pessimistic_side() -> None:
    sure = np.zeros((2, 2, 2))
    sure[1, 1, 1] = 0.1**2
    predicted = Prediction(rate_hz=np.ones(2), power_w=np.array([7.5, 7.5]), covariance=sure)
    expected = Score(FIT, energy(), (PowerCap(8),), Situation())
    assert expected.of(predicted).violation.tolist() == [0.0, 0.0]
    surely = Score(FIT, energy(), (PowerCap(8),), Situation(), surely=0.95).of(predicted)
    assert surely.violation.tolist() == [0.0, pytest.approx(7.5 * np.exp(0.1 * 1.6449) / 8 - 1, abs=1e-4)]
    assert surely.cost.tolist() == expected.of(predicted).cost.tolist()
