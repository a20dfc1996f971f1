"""Laws that all shipped objectives share, and each one's formula; hence one file for all.

Not covered: finding plugins by name (plugins/__init__).
"""

from __future__ import annotations

from importlib.metadata import entry_points

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import validate_call

from ceml.domain.contracts import Objective
from ceml.domain.values import Prediction, Situation
from ceml.errors import SettingsError
from ceml.plugins.carbon import carbon
from ceml.plugins.ed2p import ed2p
from ceml.plugins.edp import edp
from ceml.plugins.energy import energy
from ceml.plugins.min_energy import min_energy
from ceml.plugins.perf_per_watt import perf_per_watt
from ceml.plugins.performance import performance

FACTORIES = [energy, edp, ed2p, performance, perf_per_watt, min_energy, carbon]
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
