"""The user's objective under our eyes. Not covered: how it is found (test_find.py), real runs (tests/test_serve.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from ceml.domain.values import Prediction, Situation
from ceml.errors import SettingsError
from ceml.plugins import find
from ceml.plugins.checked import CheckedObjective

if TYPE_CHECKING:
    from pathlib import Path

    from ceml.domain.contracts import Objective


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


@pytest.mark.parametrize("through", ["flag", "base"])
def test_who_writes_all_the_same_writes_into_a_copy(through: str):
    class Forces:
        constraints = ()

        def cost(self, predicted: Prediction, now: Situation) -> np.ndarray:
            numbers = (
                predicted.power_w if through == "flag" or predicted.power_w.base is None else predicted.power_w.base
            )
            numbers.flags.writeable = True
            numbers[:] *= 2.0
            return predicted.rate_hz

    given = Prediction(rate_hz=np.ones(3), power_w=np.ones(3))
    CheckedObjective("mine", Forces()).cost(given, Situation())  # type: ignore[arg-type]
    assert (given.power_w == 1.0).all()


def test_what_an_objective_in_a_file_raises_is_told_with_its_line(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n  def cost(self, predicted, now):\n    return 1 / 0\ndef mine(): return Mine()\n")
    made = cast("Objective", find("objectives", f"{file}:mine"))
    with pytest.raises(SettingsError, match=r"mine raised ZeroDivisionError: .* \(.*mine.py line 3\)"):
        CheckedObjective("mine", made).cost(Prediction(rate_hz=np.ones(3), power_w=np.ones(3)), Situation())


def test_an_objective_that_says_nothing_of_constraints_has_none():
    class Ratio:
        def cost(self, predicted: Prediction, now: Situation) -> np.ndarray:
            return -predicted.rate_hz / predicted.power_w

    checked = CheckedObjective("ratio", Ratio())  # type: ignore[arg-type]
    assert tuple(checked.constraints) == ()
    assert checked.cost(Prediction(rate_hz=np.ones(2), power_w=np.ones(2)), Situation()).tolist() == [-1.0, -1.0]
