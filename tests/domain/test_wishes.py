"""Objective changes, pauses and resumptions as the manager takes them, and explanations of what it chose.

Not covered: who holds the machine (tests/control), the socket that the wishes come by (tests/api, test_control.py).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ceml.domain.budget import (
    Deadline,
    EnergyAllowance,
    MaxSlowdown,
    PowerCap,
    RailCap,
    Target,
    TemperatureCap,
)
from ceml.domain.events import (
    AppJoined,
    AppLeft,
    BudgetChanged,
    ControlPaused,
    ControlResumed,
    Heartbeat,
    ObjectiveChanged,
    Release,
    Try,
    Use,
    WindowClosed,
)
from ceml.domain.explanation import explain, margin
from ceml.domain.improvement import improvement
from ceml.domain.manager import Phase, RuntimeManager
from ceml.domain.response.overlap import overlap
from ceml.domain.values import Limits, Prediction, Situation
from ceml.plugins.performance import performance
from tests.domain.test_manager import SPACE, World, cheapest, mind, power_w, rate_hz, world


def decided(**changes) -> World:
    made = world(**changes)
    made.run(60)
    assert made.manager.phase is Phase.IDLE
    return made


def test_another_objective_only_searches() -> None:
    house = decided()
    before = len(house.said)
    house.give(ObjectiveChanged(at_s=house.at_s, objective="performance", made=performance()))
    assert [type(part) for part in house.said[before:] if isinstance(part, Try)] == []
    assert house.effective == cheapest(cost=lambda c: -rate_hz(c))


def test_another_objective_while_profiling_breaks_nothing_off_and_counts_in_the_end() -> None:
    house = world()
    house.run(8)
    house.give(ObjectiveChanged(at_s=house.at_s, objective="performance", made=performance()))
    assert house.manager.phase is Phase.PROFILING
    house.run(60)
    assert house.effective == cheapest(cost=lambda c: -rate_hz(c))
    assert len([part for part in house.said if isinstance(part, Try)]) == 7


def test_a_pause_gives_the_machine_back_and_asks_for_nothing_whatever_happens() -> None:
    house = decided()
    before, work = len(house.said), house.manager.reasoning.work_done
    house.give(ControlPaused(at_s=house.at_s))
    assert [part for part in house.said[before:] if not isinstance(part, WindowClosed)] == [house.said[-1]]
    assert isinstance(house.said[-1], Release)
    before = len(house.said) - 1
    house.run(300)
    house.give(BudgetChanged(at_s=house.at_s, limits=Limits(power_cap_w=5.0)))
    house.give(AppJoined(at_s=house.at_s, app="a"))
    assert len(house.said) == before + 1
    assert house.manager.reasoning.work_done == work + 300


def test_a_resumption_uses_what_is_known_under_the_limits_that_came_meanwhile() -> None:
    house = decided()
    house.give(ControlPaused(at_s=house.at_s))
    house.give(BudgetChanged(at_s=house.at_s, limits=Limits(power_cap_w=5.0)))
    before = len(house.said)
    house.give(ControlResumed(at_s=house.at_s))
    assert not any(isinstance(part, Try) for part in house.said[before:])
    assert any(isinstance(part, Use) for part in house.said[before:])
    assert house.effective == cheapest(cap_w=5.0)


@pytest.mark.parametrize("end", [ControlPaused(at_s=0.0), AppLeft(at_s=0.0, app="a")])
def test_what_the_stretch_that_was_going_on_has_shown_is_kept(end) -> None:
    house = world(sampler=improvement(), model=overlap())
    house.run(60)
    while house.manager.phase is not Phase.IDLE:
        house.run(1)
    known = sum(seen.steps for seen in house.manager.reasoning.observations)
    house.run(30)
    assert house.manager.phase is Phase.IDLE
    house.give(replace(end, at_s=house.at_s))
    assert sum(seen.steps for seen in house.manager.reasoning.observations) >= known + 20


def test_a_pause_while_profiling_keeps_what_was_measured() -> None:
    house = world()
    while len(house.manager.reasoning.observations) < 3:
        house.run(1)
    house.give(ControlPaused(at_s=house.at_s))
    house.run(50)
    assert len(house.manager.reasoning.observations) == 3
    tried = len([part for part in house.said if isinstance(part, Try)])
    house.give(ControlResumed(at_s=house.at_s))
    house.run(60)
    assert house.effective == cheapest()
    assert len([part for part in house.said if isinstance(part, Try)]) - tried == 4


def test_who_comes_and_goes_while_paused_is_tuned_from_the_resumption_on() -> None:
    joined = AppJoined(at_s=0.0, app="a")
    house = World(RuntimeManager(joined, SPACE, mind()))
    house.give(ControlPaused(at_s=0.0))
    house.give(joined)
    house.run(20)
    house.give(AppLeft(at_s=house.at_s, app="a"))
    house.give(AppJoined(at_s=house.at_s, app="a"))
    assert not any(isinstance(part, Try | Use) for part in house.said)
    house.give(ControlResumed(at_s=house.at_s))
    house.run(60)
    assert house.effective == cheapest()


def test_resuming_what_was_not_paused_changes_nothing() -> None:
    house = decided()
    before = len(house.said)
    house.give(ControlResumed(at_s=house.at_s))
    assert len(house.said) == before


# Explanations ---------------------------------------------------------------------------------------------------------


def test_the_first_candidate_is_what_the_search_chose_and_figures_are_those_of_the_model() -> None:
    house = decided(cap_w=30.0)
    told = explain(house.manager.reasoning, house.at_s, 5, [house.effective])
    first = told.candidates[0]
    assert first.configuration == house.effective == cheapest(cap_w=30.0)
    assert first.rate_hz == pytest.approx(rate_hz(first.configuration), rel=1e-6)
    assert first.power_w == pytest.approx(power_w(first.configuration), rel=1e-6)
    assert first.margins == {"power cap 30 W": pytest.approx(1 - first.power_w / 30.0)}
    assert [c.cost for c in told.candidates] == sorted(c.cost for c in told.candidates)
    assert len(told.candidates) == 5
    assert told.measured_states == 7
    assert told.states == len(SPACE)
    assert told.parameters


RAIL_CAP, WISH = {"rail_caps_w": {"total": 6.0}}, {"target_hz": 100.0}


@pytest.mark.parametrize("said", [[RAIL_CAP | WISH], [WISH, RAIL_CAP | WISH], [RAIL_CAP, RAIL_CAP | WISH]])
@pytest.mark.parametrize("parts", [{}, {"model": overlap(), "sampler": improvement()}], ids=["paper", "overlap"])
def test_a_wish_that_cannot_hold_breaks_no_cap_and_the_explanation_ranks_as_the_search_does(said, parts) -> None:
    house = world(total=2000, **parts)
    house.run(200)
    for limits in said:
        house.give(BudgetChanged(at_s=house.at_s, limits=Limits(**limits)))
        house.run(40)
        if "rail_caps_w" in limits:
            assert power_w(house.effective) <= 6.0
    told = explain(house.manager.reasoning, house.at_s, 5, [house.effective])
    if not parts:  # who looks further than the models may have seen that another state is as good
        assert told.candidates[0].configuration == house.effective
    assert all(each.margins["power cap 6 W of rail total"] >= 0.0 for each in told.candidates)


def test_what_is_in_force_is_told_even_where_it_is_the_worst() -> None:
    house = decided()
    worst = max((SPACE.configuration(int(s)) for s in SPACE.states), key=lambda c: power_w(c) / rate_hz(c))
    told = explain(house.manager.reasoning, house.at_s, 2, [worst])
    assert [c.configuration for c in told.candidates][2:] == [worst]


def test_explaining_before_anything_was_measured_is_no_error() -> None:
    house = world()
    told = explain(house.manager.reasoning, 0.0, 3)
    assert told.measured_states == 0
    assert all(c.measured is None for c in told.candidates)


def test_explaining_changes_nothing() -> None:
    one, other = decided(), decided()
    for _ in range(3):
        explain(one.manager.reasoning, one.at_s, 50)
    for house in (one, other):
        house.run(200)
        house.give(Heartbeat(at_s=house.at_s, app="a"))
    assert [str(part) for part in one.said] == [str(part) for part in other.said]


SEEN = Prediction(rate_hz=np.array([2.0]), power_w=np.array([6.0]), rail_w={"gpu": np.array([2.0])})
NOW = Situation(remaining_work=100.0, spent_s=50.0, spent_j=100.0, rate_at_max_hz=2.2, power_w=6.0, temperature_c=65.0)


@pytest.mark.parametrize(
    ("constraint", "left"),
    [
        (PowerCap(8.0), 0.25),
        (PowerCap(4.0), -0.5),
        (RailCap("gpu", 4.0), 0.5),
        (Target(1.0), 0.5),
        (Target(3.0), -0.5),
        (MaxSlowdown(0.1), 0.0),
        (Deadline(200.0), 0.5),
        (EnergyAllowance(800.0), 0.5),
        (TemperatureCap(105.0), 0.5),
    ],
)
def test_margins_are_shares_of_the_bound(constraint, left: float) -> None:
    assert float(margin(constraint, SEEN, NOW)[0]) == pytest.approx(left, abs=1e-6)


@pytest.mark.parametrize(
    "constraint", [Deadline(200.0), EnergyAllowance(800.0), TemperatureCap(80.0), MaxSlowdown(0.1)]
)
def test_a_margin_that_cannot_be_judged_is_no_number(constraint) -> None:
    assert np.isnan(margin(constraint, SEEN, Situation())).all()


class Own:
    """A constraint of a plugin, whose bound nobody knows."""

    name = "own"

    def violation(self, predicted: Prediction, now: Situation) -> np.ndarray:
        return np.maximum(predicted.power_w / 5.0 - 1.0, 0.0)


def test_of_a_plugins_own_constraint_only_the_excess_is_known() -> None:
    predicted = Prediction(rate_hz=np.ones(2), power_w=np.array([6.0, 4.0]))
    broken, kept = margin(Own(), predicted, NOW)
    assert broken == pytest.approx(-0.2)
    assert np.isnan(kept)
