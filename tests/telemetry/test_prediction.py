"""What a decision was based on, in records. Not covered: pictures of it (report/test_space.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ceml.domain import events
from ceml.domain.knobs import Knob, KnobSpace
from ceml.domain.values import FitStatus, Prediction
from ceml.telemetry.prediction import FREELY, MOST_STATES, PERIOD_S, Predictions, some_states
from ceml.telemetry.record import RecordWriter, read

if TYPE_CHECKING:
    from pathlib import Path

SPACE = KnobSpace([Knob(name="cpu_hz", levels=(1e9, 2e9)), Knob(name="gpu_hz", levels=(1e9, 2e9, 3e9))])


@dataclass
class Line:
    """A model that knows its answers by heart."""

    sure: bool = True

    def predict(self, states):
        rate = np.array(states, dtype=float) + 1.23456
        spread = np.tile(np.array([[0.01, 0.0], [0.0, 0.03]]), (len(rate), 1, 1)) if self.sure else None
        return Prediction(rate_hz=rate, power_w=2 * rate, covariance=spread)


class Broken:
    """A plugin with a mistake."""

    def predict(self, states):
        raise ZeroDivisionError("oops")


def fitted(at_s: float, fit: object, space: KnobSpace | None = SPACE) -> events.ModelFitted:
    return events.ModelFitted(
        at_s=at_s, app="a", status=FitStatus.GOOD, sentence="", observations=3, fit=fit, space=space
    )


def decided(at_s: float, space: KnobSpace = SPACE, state: int = 3) -> events.Decided:
    return events.Decided(
        at_s=at_s, app="a", configuration=space.configuration(state), rate_hz=1.0, power_w=1.0, cost=1.0,
        feasible=True, violation=0.0, evaluated=6, why="",
    )  # fmt: skip


def test_a_decision_on_a_new_fit_is_followed_by_what_the_model_expected(tmp_path: Path):
    writer = RecordWriter(tmp_path / "r", "decisions")
    for event in (
        decided(0.5),
        fitted(1.0, Line()),
        decided(1.0),
        decided(2.0),
        fitted(3.0, Line(sure=False)),
        decided(3.0),
    ):
        writer.write(event)
    writer.close()
    lines = list(read(tmp_path / "r"))
    assert [line["event"] for line in lines] == [
        "decided", "model_fitted", "decided", "space_predicted",
        "decided", "model_fitted", "decided", "space_predicted",
    ]  # fmt: skip
    assert lines[3]["states"] == [0, 1, 2, 3, 4, 5]
    assert lines[3]["rate_hz"][:2] == [1.235, 2.235]
    assert lines[3]["energy_sd"] == [0.2] * 6
    assert lines[-1]["energy_sd"] == []


def test_after_the_first_ones_they_come_seldom():
    told = Predictions()
    count = 0
    for tick in range(1000):
        told.on(fitted(float(tick), Line()))
        count += told.on(decided(float(tick))) is not None
    assert count == FREELY + 1000 // PERIOD_S


def test_a_plugin_with_a_mistake_costs_the_picture_and_not_the_record():
    told = Predictions()
    told.on(fitted(1.0, Broken()))
    with capture_logs() as logs:
        assert told.on(decided(1.0)) is None
    assert logs[0]["event"] == "prediction_not_recorded"


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.data())
def test_of_large_spaces_only_some_states_are_told_the_chosen_and_the_highest_among_them(shape, data):
    knobs = [Knob(name=f"k{at}_hz", levels=tuple(float(n + 1) for n in range(count))) for at, count in enumerate(shape)]
    space = KnobSpace(knobs)
    chosen = data.draw(st.integers(0, len(space) - 1))
    states = some_states(space, decided(1.0, space, chosen))
    assert len(states) <= MOST_STATES + 2
    assert {chosen, space.max_state} <= set(states.tolist())
    assert space.present[states].all()
    if len(space) <= MOST_STATES:
        assert states.tolist() == space.states.tolist()


@pytest.mark.parametrize("event", [fitted(1.0, None), fitted(1.0, Line(), None)])
def test_without_a_fit_or_a_space_nothing_is_told(event: events.ModelFitted):
    told = Predictions()
    told.on(event)
    assert told.on(decided(1.0)) is None
