"""The user's objective under our eyes. Not covered: how it is found (test_find.py), real runs (tests/test_serve.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Knob, KnobSpace
from ceml.domain.values import NAN, Choice, Prediction, Situation, Stay
from ceml.errors import SettingsError
from ceml.plugins import find
from ceml.plugins.checked import CheckedDetector, CheckedObjective, CheckedSampler, CheckedSearch

if TYPE_CHECKING:
    from pathlib import Path

    from ceml.domain.contracts import Objective, Sampler, Search


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


SPACE = KnobSpace([Knob(name="a", levels=(1.0, 2.0, 3.0))]).without([1])


class Says:
    """A sampler, and a search, that answers with what it was made with."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def next(self, *_: object) -> object:
        return self._answer

    best = next


@given(
    st.one_of(
        st.builds(Stay, state=st.integers(-9, 9)),
        st.builds(Stay, state=st.just(0), beats=st.integers(-2, 2), steps=st.floats(), longest_s=st.floats()),
        st.builds(Stay, state=st.sampled_from([0.0, "0", None, NAN, np.int64(2), np.array([0, 1])])),
        st.builds(Stay, state=st.just(0), patience=st.sampled_from(["3", None])),
        st.none(), st.integers(), st.text(), st.tuples(st.integers()),
    )
)  # fmt: skip
def test_a_sampler_stays_where_it_may_or_is_told_what_is_wrong(answer: object):
    sampler = CheckedSampler("mine", cast("Sampler", Says(answer)))
    try:
        stay = sampler.next(SPACE, *cast("Any", [None] * 5))
    except SettingsError as error:
        stay = str(error)
    if isinstance(stay, str):
        assert stay.startswith("sampler mine")
        return
    assert stay is answer
    assert stay is None or (stay.state in SPACE.states and min(stay.beats, stay.steps, stay.longest_s) >= 0)


@pytest.mark.parametrize("state", [1, 3, -1, 0.0, None, "x"])
def test_a_search_that_chooses_a_state_that_is_not_there_is_told_so(state: object):
    def chose(of: object) -> Choice:
        return Choice(state=of, cost=1.0, violation=0.0, evaluated=1)  # type: ignore[arg-type]

    search = CheckedSearch("mine", cast("Search", Says(chose(state))))
    with pytest.raises(SettingsError, match=r"search mine chose state .*none of the 2 that there are"):
        search.best(SPACE, cast("Any", None), 0)
    with pytest.raises(SettingsError, match="must give a Choice; it gave 3"):
        CheckedSearch("mine", cast("Search", Says(3))).best(SPACE, cast("Any", None), 0)
    assert CheckedSearch("mine", cast("Search", Says(chose(2)))).best(SPACE, cast("Any", None), 0).state == 2


@pytest.mark.parametrize("answer", [True, False, np.True_, "no", None, 1, np.array([True, False])])
def test_a_detector_answers_yes_or_no_or_is_told_what_it_gave(answer: object):
    class Detector:
        def update(self, *_: object, **__: object) -> object:
            return answer

        def reset(self) -> None:
            pass

    detector = CheckedDetector("mine", cast("Any", Detector()))
    detector.reset()
    if isinstance(answer, bool | np.bool_):
        assert detector.update(1.0, predicted=1.0, std=0.1) is bool(answer)
    else:
        with pytest.raises(SettingsError, match="detector mine must answer True or False; it gave"):
            detector.update(1.0, predicted=1.0, std=0.1)
