"""The power cap as a constraint. Not covered: where caps come from, and guarding them while running (control)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.budget import PowerCap
from ceml.domain.values import Prediction, Situation
from ceml.errors import SettingsError


def violation(cap_w: float, power_w: list[float]) -> list[float]:
    watts = np.array(power_w)
    predicted = Prediction(rate_hz=np.ones(len(watts)), power_w=watts)
    found = PowerCap(cap_w).violation(predicted, Situation()).tolist()
    assert watts.tolist() == power_w or np.isnan(power_w).any()  # the prediction is left as it was
    return found


@given(st.floats(0.01, 1e4), st.lists(st.floats(0.01, 1e4), min_size=1, max_size=5))
def test_up_to_the_cap_nothing_is_violated_and_above_it_the_excess_counts(cap_w: float, power_w: list[float]) -> None:
    for watts, excess in zip(power_w, violation(cap_w, power_w), strict=True):
        assert (excess == 0) == (watts / cap_w <= 1)
        assert excess == pytest.approx(max(watts / cap_w - 1, 0))


def test_power_that_is_not_known_breaks_every_cap() -> None:
    assert violation(8, [np.nan, np.inf, 8.0, -1.0]) == [np.inf, np.inf, 0, 0]


def test_the_name_says_the_bound_with_its_unit() -> None:
    assert PowerCap(8.0).name == "power cap 8 W"
    assert PowerCap(7.25).name == "power cap 7.25 W"


@pytest.mark.parametrize("cap_w", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cap_must_be_a_positive_number_of_watts(cap_w: float) -> None:
    with pytest.raises(SettingsError, match=r"cap_w = .* positive number of watts"):
        PowerCap(cap_w)
