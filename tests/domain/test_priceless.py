"""An objective that has no cost for anything measured: what was decided stays, it is said once, and asked again.

Not covered: what an objective must answer at the start (test_parts.py).
"""

from __future__ import annotations

import numpy as np
import pytest

from ceml.domain.events import BudgetChanged, Decided, Try, Undecided, Use
from ceml.domain.improvement import improvement
from ceml.domain.manager import Phase
from ceml.domain.response.overlap import overlap
from ceml.domain.values import Limits
from tests.domain.test_manager import Script, World, commitment, trial, world


class Moody:
    """Joules per step, as long as it is in the mood."""

    constraints = ()

    def __init__(self) -> None:
        self.sulks = False

    def cost(self, predicted, now):
        return predicted.power_w / predicted.rate_hz * (np.nan if self.sulks else 1.0)


def moody(**changes) -> tuple[World, Moody]:
    objective = Moody()
    parts = {"objective": objective, "model": overlap(), "sampler": improvement(), "exploration_budget": 0.05}
    return world(total=4000.0, **{**parts, **changes}), objective


@pytest.mark.parametrize("changes", [{}, {"sampler": improvement(state_cost_steps=0.0)}])
def test_what_was_decided_stays_and_it_is_said_once_and_decided_again_when_there_is_a_cost(changes) -> None:
    w, objective = moody(**changes)
    w.run(400)
    decided, decisions = w.manager.decided, len(w.heard(Decided))
    assert decided is not None
    objective.sulks = True
    w.run(800)
    assert len(w.heard(Undecided)) == 1
    assert "no finite cost" in w.heard(Undecided)[0].why
    assert len(w.heard(Decided)) == decisions
    assert w.manager.phase is Phase.IDLE
    assert w.effective == decided.configuration
    w.give(BudgetChanged(at_s=w.at_s, limits=Limits(power_cap_w=100.0)))
    assert w.effective == decided.configuration
    objective.sulks = False
    w.give(BudgetChanged(at_s=w.at_s, limits=Limits()))
    assert len(w.heard(Decided)) == decisions + 1
    objective.sulks = True
    w.give(BudgetChanged(at_s=w.at_s, limits=Limits(power_cap_w=100.0)))
    assert len(w.heard(Undecided)) == 2


@pytest.mark.parametrize("then", [None, commitment(9, 1e9)])
def test_a_trial_that_was_going_on_is_over_and_the_decision_in_force_again(then) -> None:
    w, objective = moody(sampler=Script(trial(0), commitment(5, 30), trial(9), then), exploration_budget=1.0)
    while len(w.heard(Try)) < 2:
        w.run(1)
    decided = w.manager.decided.configuration
    assert w.effective != decided
    objective.sulks = True
    w.run(100)
    assert w.effective == decided
    assert w.manager.phase is Phase.IDLE
    assert len(w.heard(Undecided)) == 1


def test_without_any_cost_from_the_start_nothing_is_decided_until_there_is_one() -> None:
    w, objective = moody()
    objective.sulks = True
    w.run(300)
    assert w.heard(Decided) == w.heard(Use) == []
    assert len(w.heard(Try)) == 1
    assert len(w.heard(Undecided)) == 1
    objective.sulks = False
    w.run(300)
    assert w.manager.decided is not None
