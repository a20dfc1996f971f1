"""Whose turn it is: shares of time are kept whatever the delays. Not covered: what a schedule is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Configuration
from ceml.domain.turns import Turns
from ceml.domain.values import Observation

MAIN, OTHER = Configuration({"gpu_hz": 1e9}), Configuration({"gpu_hz": 5e8})


def lived(share: float, period_s: float, until_s: float, gaps: list[float], settle_s: float = 0.0):
    """Seconds in each state, and turns, of a program whose events are so far apart, over and over."""
    turns, at_s, number = Turns(MAIN, OTHER, share, period_s), 0.0, 0
    spent = {MAIN: 0.0, OTHER: 0.0}
    turns.begin(0.0)
    began_s, changes = 0.0, 0
    while at_s < until_s:
        at_s += gaps[number % len(gaps)]
        number += 1
        to = turns.due(at_s)
        if to is not None:
            spent[turns.here] += at_s - began_s
            turns.turn()
            assert turns.here == to
            began_s = at_s + settle_s
            turns.begin(began_s)
            changes += 1
    return spent, changes


@given(st.floats(0.5, 0.95), st.floats(1.0, 10.0), st.lists(st.floats(0.01, 0.5), min_size=1, max_size=5))
def test_each_has_its_share_of_the_time_however_far_apart_events_are(share, period_s, gaps):
    spent, _ = lived(share, period_s, 400.0, gaps)
    whole = spent[MAIN] + spent[OTHER]
    assert spent[MAIN] / whole == pytest.approx(share, abs=2 * (period_s + 1.0) / 400.0)


@given(st.floats(0.5, 0.95), st.floats(2.0, 10.0))
def test_a_period_holds_one_turn_of_each(share, period_s):
    _, changes = lived(share, period_s, 200.0, [0.01])
    assert changes == pytest.approx(2 * 200.0 / period_s, rel=0.1, abs=3)


def test_time_while_knobs_settle_belongs_to_nobody():
    turns = Turns(MAIN, OTHER, 0.5, 2.0)
    turns.begin(0.0)
    assert turns.due(0.6) == OTHER
    turns.turn()
    assert turns.due(100.0) is None
    turns.begin(100.0)
    assert turns.due(100.5) is None
    assert turns.due(102.0) == MAIN


def test_the_mean_of_a_round_weighs_each_state_by_its_share():
    def seen(configuration, rate_hz, power_w):
        return Observation(
            configuration=configuration,
            start_s=0.0,
            end_s=1.0,
            beats=5,
            steps=5.0,
            rate_hz=rate_hz,
            power_w=power_w,
        )

    mean = Turns(MAIN, OTHER, 0.75, 2.0).mean(seen(MAIN, 4.0, 8.0), seen(OTHER, 2.0, 4.0))
    assert (mean.rate_hz, mean.power_w, mean.beats) == (3.5, 7.0, 10)
