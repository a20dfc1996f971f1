"""Laws that all shipped objectives share, and each one's formula; hence one file for three.

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
from ceml.plugins.edp import edp
from ceml.plugins.energy import energy
from ceml.plugins.power_cap import power_cap

EVERY = [energy(), edp(), power_cap(), power_cap(cap_w=8)]
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
    assert cost(power_cap(), [2.0], [10.0]).tolist() == [-2]


def test_only_the_power_cap_brings_a_constraint_and_only_when_given_one() -> None:
    assert not energy().constraints
    assert not edp().constraints
    assert not power_cap().constraints
    (cap,) = power_cap(cap_w=7.5).constraints
    assert cap.name == "power cap 7.5 W"
    with pytest.raises(SettingsError, match="cap_w = -1"):
        power_cap(cap_w=-1)


@pytest.mark.parametrize("factory", [energy, edp, power_cap])
def test_factories_have_one_line_of_help_and_their_options_can_be_checked(factory) -> None:
    first, *_ = factory.__doc__.splitlines()
    assert first.endswith((".", ")", "`energy`."))
    assert isinstance(validate_call(factory)(), Objective)
    with pytest.raises(ValueError, match=r"cap_watts|nothing"):
        validate_call(factory)(cap_watts=8)


@pytest.mark.parametrize("name", ["energy", "edp", "power_cap"])
def test_they_are_found_under_their_names(name: str) -> None:
    (found,) = entry_points(group="ceml.objectives", name=name)
    assert found.load().__name__ == name
