"""Laws of a manager whose objective needs power that no sensor measures: the machine stays as it was found.

Not covered: who tells a manager of sensors that were lost before its program came (tests/control/test_controller.py);
a cap on power, whose best guess is kept (test_manager_guard.py).
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.domain.events import (
    AppJoined,
    AppLeft,
    BudgetChanged,
    ControlPaused,
    ControlResumed,
    ObjectiveChanged,
    Release,
    SensorLost,
    SensorRecovered,
    Try,
    Use,
)
from ceml.domain.improvement import improvement
from ceml.domain.manager import Phase, RuntimeManager
from ceml.domain.response.overlap import overlap
from ceml.domain.unpowered import WHY, unpowered
from ceml.domain.values import Limits, Observation, Situation
from ceml.plugins.energy import energy
from ceml.plugins.performance import performance
from tests.domain.test_manager import SPACE, World, mind

DEFAULTS = {"model": overlap(), "sampler": improvement()}


def dark(**changes) -> World:
    """A program has come, and nothing reads power any more before its first step is over."""
    joined = AppJoined(at_s=0.0, app="a", total_work=2000.0)
    w = World(RuntimeManager(joined, SPACE, mind(**{**DEFAULTS, **changes})), samples=False)
    w.give(joined)
    lose(w)
    return w


def lose(w: World) -> None:
    w.give(SensorLost(at_s=w.at_s, sensor="ina", reason="gone"))


def said_of_power(w: World) -> int:
    return [part.why for part in w.heard(Release)].count(WHY)


def turned(w: World) -> int:
    return len(w.heard(Try)) + len(w.heard(Use))


def test_power_lost_before_it_was_ever_measured_gives_the_machine_back_and_says_so_once() -> None:
    w = dark()
    w.run(200)
    assert said_of_power(w) == 1
    assert isinstance(w.said[-1], Release)
    assert turned(w) == 1  # the trial that was going on


def test_when_power_is_measured_at_last_profiling_begins() -> None:
    w = dark()
    w.run(20)
    w.samples = True
    w.give(SensorRecovered(at_s=w.at_s, sensor="ina"))
    w.run(400)
    assert w.manager.decided is not None
    assert w.manager.phase is Phase.IDLE


@pytest.mark.parametrize("objective", [energy(), performance()])
def test_another_objective_goes_on_where_it_needs_the_rate_alone(objective) -> None:
    w = dark()
    w.run(20)
    w.give(ObjectiveChanged(at_s=w.at_s, objective="x", source="test", made=objective))
    w.run(400)
    assert (w.manager.decided is None) == isinstance(objective, type(energy()))
    assert said_of_power(w) == 1


def test_an_objective_that_needs_the_rate_alone_never_stops() -> None:
    w = dark(objective=performance())
    w.run(400)
    assert said_of_power(w) == 0
    assert w.manager.decided is not None


def test_power_that_was_measured_before_is_enough() -> None:
    joined = AppJoined(at_s=0.0, app="a", total_work=2000.0)
    w = World(RuntimeManager(joined, SPACE, mind(**DEFAULTS)))
    w.give(joined)
    w.run(100)
    w.samples = False
    lose(w)
    w.run(200)
    assert said_of_power(w) == 0
    assert w.manager.decided is not None


WISHES = {
    "pause": lambda at_s: ControlPaused(at_s=at_s, source="test"),
    "resume": lambda at_s: ControlResumed(at_s=at_s, source="test"),
    "limits": lambda at_s: BudgetChanged(at_s=at_s, limits=Limits(target_hz=0.1), source="test"),
    "lost": lambda at_s: SensorLost(at_s=at_s, sensor="ina", reason="gone"),
    "leaves": lambda at_s: AppLeft(at_s=at_s, app="a", reason="left"),
    "comes": lambda at_s: AppJoined(at_s=at_s, app="a"),
}


@settings(max_examples=40)
@given(st.lists(st.sampled_from([*WISHES, "beats"]), max_size=12))
def test_whatever_happens_nothing_is_turned_in_the_dark(story: list[str]) -> None:
    w = dark()
    before = turned(w)
    for part in story:
        w.run(5) if part == "beats" else w.give(WISHES[part](w.at_s))
    assert turned(w) == before
    assert said_of_power(w) <= 1 + story.count("resume") + story.count("comes")


@given(st.floats(-1.0, 50.0) | st.just(float("nan")))
def test_one_measurement_of_power_is_enough_and_nonsense_is_none(watts: float) -> None:
    seen = Observation(
        configuration=SPACE.configuration(0), start_s=0.0, end_s=1.0, beats=1, steps=1.0, rate_hz=1.0, power_w=watts
    )
    assert unpowered(energy(), [], Situation())
    assert unpowered(energy(), [seen], Situation()) == (not watts > 0.0)
    assert not unpowered(performance(), [seen], Situation())


def test_costs_are_asked_for_two_states_without_power() -> None:
    class Fixed:
        constraints = ()

        def cost(self, predicted, now):
            assert np.isnan(predicted.power_w).all()
            return np.zeros(len(predicted.rate_hz))

    assert not unpowered(Fixed(), [], Situation())
