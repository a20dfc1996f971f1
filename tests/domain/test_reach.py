"""Which levels leave the space: laws. Not covered: what a manager does with them (test_manager.py)."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Configuration
from ceml.domain.reach import Reach

LEVELS = (1.0, 2.0, 3.0)
STATES = [Configuration({"a": a, "b": b}) for a, b in product(LEVELS, LEVELS)]
asked = st.lists(st.sampled_from(STATES), max_size=12)


@given(asked)
def test_a_machine_that_obeys_loses_nothing(states: list[Configuration]) -> None:
    reach = Reach()
    assert not [state for state in states if reach.learn(state, state)]
    assert all(reach.reached(state) for state in states)


@given(asked, st.sampled_from((1.0, 2.0)))
def test_a_clamp_is_known_by_the_second_state_that_meets_it_and_costs_no_other_level(states, clamp) -> None:
    reach = Reach()
    met: set[Configuration] = set()
    for state in states:
        effective = Configuration({**state, "b": min(float(state["b"]), clamp)})
        out = reach.learn(state, effective)
        met |= {state} if effective != state else set()
        same = [other for other in met if other["b"] == state["b"]]
        assert out == (Configuration({"b": state["b"]}) if effective != state and len(same) >= 2 else None)


@given(asked)
def test_a_level_that_was_ever_reached_stays(states: list[Configuration]) -> None:
    reach = Reach()
    for state in STATES:
        reach.learn(state, state)
    low = Configuration({"a": 1.0, "b": 1.0})
    assert not [state for state in states if reach.learn(state, low)]
