"""Laws that all shipped objectives share, and each one's formula; hence one file for all.

Not covered: finding plugins by name (plugins/__init__).
"""

from __future__ import annotations

from importlib.metadata import entry_points
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import validate_call

from ceml.domain.contracts import Objective
from ceml.domain.values import Prediction, Situation
from ceml.errors import SettingsError
from ceml.plugins.carbon import Carbon, Intensity, carbon
from ceml.plugins.ed2p import ed2p
from ceml.plugins.edp import edp
from ceml.plugins.energy import energy
from ceml.plugins.min_energy import min_energy
from ceml.plugins.perf_per_watt import perf_per_watt
from ceml.plugins.performance import performance, power_cap

FACTORIES = [energy, edp, ed2p, performance, power_cap, perf_per_watt, min_energy, carbon]
EVERY = [factory() for factory in FACTORIES]
NOW = Situation()
positive = arrays.arrays(np.float64, 6, elements=st.floats(1e-3, 1e3))


def cost(objective: Objective, rate_hz, power_w) -> np.ndarray:
    return objective.cost(Prediction(rate_hz=np.array(rate_hz), power_w=np.array(power_w)), NOW)


@pytest.mark.parametrize("objective", EVERY)
@given(positive, positive)
def test_costs_are_elementwise_and_of_one_sign(objective: Objective, rate_hz, power_w) -> None:
    together = cost(objective, rate_hz, power_w)
    assert together.shape == (6,)
    alone = [cost(objective, [rate], [power])[0] for rate, power in zip(rate_hz, power_w, strict=True)]
    assert together.tolist() == alone
    assert len(set(np.sign(together))) == 1


@pytest.mark.parametrize("objective", EVERY)
@given(positive, positive)
def test_faster_at_the_same_power_is_better_and_more_power_at_the_same_speed_never_is(objective, rate_hz, power_w):
    assert (cost(objective, rate_hz * 1.01, power_w) < cost(objective, rate_hz, power_w)).all()
    assert (cost(objective, rate_hz, power_w * 1.01) >= cost(objective, rate_hz, power_w)).all()


def test_each_is_its_formula() -> None:
    assert cost(energy(), [2.0], [10.0]).tolist() == [5]
    assert cost(edp(), [2.0], [10.0]).tolist() == [2.5]
    assert cost(ed2p(), [2.0], [10.0]).tolist() == [1.25]
    assert cost(performance(), [2.0], [10.0]).tolist() == [-2]
    assert cost(perf_per_watt(), [2.0], [10.0]).tolist() == [-0.2]
    assert cost(min_energy(), [2.0], [10.0]).tolist() == [5]
    assert cost(carbon(intensity="720"), [2.0], [10.0]).tolist() == [pytest.approx(5 / 3.6e6 * 720)]


@given(positive, positive)
def test_energy_steps_per_joule_and_carbon_of_a_constant_grid_choose_alike(rate_hz, power_w) -> None:
    order = np.argsort(cost(energy(), rate_hz, power_w))
    for objective in (perf_per_watt(), carbon(intensity="80")):
        costs = cost(objective, rate_hz, power_w)[order]
        assert (costs[1:] >= costs[:-1] - 1e-12 * np.abs(costs[:-1])).all()


def test_only_min_energy_brings_a_constraint() -> None:
    assert not any(factory().constraints for factory in FACTORIES if factory is not min_energy)
    (slowdown,) = min_energy(max_slowdown=0.25).constraints
    assert slowdown.name == "max slowdown 25 %"
    with pytest.raises(SettingsError, match="max_slowdown = -1"):
        min_energy(max_slowdown=-1)


@pytest.mark.parametrize("factory", FACTORIES)
def test_factories_have_one_line_of_help_and_their_options_can_be_checked(factory) -> None:
    first, *_ = factory.__doc__.splitlines()
    assert first.endswith((".", ")", "`energy`.", "them."))
    assert isinstance(validate_call(factory)(), Objective)
    with pytest.raises(ValueError, match="cap_watts"):
        validate_call(factory)(cap_watts=8)


@pytest.mark.parametrize("name", [factory.__name__ for factory in FACTORIES])
def test_they_are_found_under_their_names(name: str) -> None:
    (found,) = entry_points(group="ceml.objectives", name=name)
    assert found.load().__name__ == name


RISKS = st.floats(0.5, 0.99)
variances = arrays.arrays(np.float64, (6, 2), elements=st.floats(0.0, 1.0))


def uncertain(rate_hz, power_w, variance) -> Prediction:
    return Prediction(rate_hz=rate_hz, power_w=power_w, covariance=np.stack([np.diag(each) for each in variance]))


@pytest.mark.parametrize("factory", FACTORIES)
@given(positive, positive, RISKS)
def test_where_no_uncertainty_is_stated_risk_changes_nothing(factory, rate_hz, power_w, risk: float) -> None:
    assert cost(factory(risk=risk), rate_hz, power_w).tolist() == cost(factory(), rate_hz, power_w).tolist()


@pytest.mark.parametrize("factory", FACTORIES)
@given(positive, positive, variances, RISKS, RISKS)
def test_the_cost_never_falls_as_risk_grows(factory, rate_hz, power_w, variance, one: float, other: float) -> None:
    predicted = uncertain(rate_hz, power_w, variance)
    costs = [factory(risk=risk).cost(predicted, NOW) for risk in (None, 0.5, min(one, other), max(one, other))]
    assert costs[0].tolist() == costs[1].tolist()  # the median of each is what is expected
    for less, more in pairwise(costs):
        assert (more >= less - 1e-12 * np.abs(less)).all()


@given(positive, positive, RISKS, RISKS)
def test_carbon_of_a_grid_that_gets_cleaner_does_not_fall_with_risk_either(rate_hz, power_w, one, other) -> None:
    """The longer a run the cleaner its mean hour; its sum grows all the same."""
    grid = Intensity(np.array([0.0, 50.0, 60.0]), np.array([500.0, 100.0, 0.0]), absolute=False)
    predicted, now = uncertain(rate_hz, power_w, np.full((6, 2), 0.04)), Situation(remaining_work=100.0)
    costs = [Carbon(grid, risk=risk).cost(predicted, now) for risk in sorted((one, other))]
    assert (costs[1] >= costs[0] - 1e-9 * costs[0]).all()


@pytest.mark.parametrize("factory", FACTORIES)
def test_of_two_equals_the_better_known_one_is_chosen(factory) -> None:
    rate_hz, power_w = np.array([2.0, 2.0]), np.array([9.0, 9.0])
    covariance = np.stack([np.eye(2) * 0.01, np.eye(2) * 0.0001])
    costs = factory(risk=0.9).cost(Prediction(rate_hz=rate_hz, power_w=power_w, covariance=covariance), NOW)
    assert costs[1] < costs[0]


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("risk", [0.49, 0.995, 1.0, 0.0, -1.0, float("nan")])
def test_a_risk_that_is_none_is_refused_with_what_is_allowed(factory, risk: float) -> None:
    with pytest.raises(SettingsError, match=f"of objective {factory.__name__}: give a quantile from 0.5 .* to 0.99"):
        factory(risk=risk)
