"""The user's objective under our eyes. Not covered: how it is found (test_find.py), real runs (tests/test_serve.py)."""

from __future__ import annotations

import numpy as np
import pytest

from ceml.domain.values import Prediction, Situation
from ceml.errors import SettingsError
from ceml.plugins.checked import CheckedObjective


class InPlace:
    """Changes what it is given."""

    constraints = ()

    def __init__(self, name: str) -> None:
        self._name = name

    def cost(self, predicted: Prediction, now: Situation) -> np.ndarray:
        numbers = predicted.rail_w["gpu"] if self._name == "gpu" else getattr(predicted, self._name)
        numbers /= 2.0
        return predicted.rate_hz


@pytest.mark.parametrize("name", ["rate_hz", "power_w", "covariance", "gpu"])
def test_an_objective_that_changes_its_input_is_told_so_and_changes_nothing(name: str):
    given = Prediction(
        rate_hz=np.ones(3), power_w=np.ones(3), rail_w={"gpu": np.ones(3)}, covariance=np.ones((3, 2, 2))
    )
    with pytest.raises(SettingsError, match=r"objective mine raised ValueError: .*read-only.*copy"):
        CheckedObjective("mine", InPlace(name)).cost(given, Situation())
    assert (given.rate_hz == 1.0).all()
    given.rate_hz[0] = 2.0  # ours stays ours


def test_an_objective_that_says_nothing_of_constraints_has_none():
    class Ratio:
        def cost(self, predicted: Prediction, now: Situation) -> np.ndarray:
            return -predicted.rate_hz / predicted.power_w

    checked = CheckedObjective("ratio", Ratio())  # type: ignore[arg-type]
    assert tuple(checked.constraints) == ()
    assert checked.cost(Prediction(rate_hz=np.ones(2), power_w=np.ones(2)), Situation()).tolist() == [-1.0, -1.0]
