"""Which readings are believed: laws over random ones. How the poller loses and regains sensors is in test_watch.py."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.control.believable import Readings
from ceml.domain.values import Sample
from ceml.errors import Temporary


def sample(*watts: float) -> Sample:
    return Sample(at_s=0.0, rails_w={f"rail{at}": each for at, each in enumerate(watts)})


def told(readings: Readings, *watts: float) -> list[float] | None:
    try:
        return list(readings.believed(sample(*watts)).rails_w.values())
    except Temporary:
        return None


anything = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.lists(anything, min_size=2, max_size=2), max_size=30))
def test_what_is_believed_is_nothing_less_than_0_nothing_that_no_machine_draws_and_something(all_watts):
    readings = Readings()
    for watts in all_watts:
        said = told(readings, *watts)
        assert said is None or all(math.isnan(each) or 0.0 <= each <= 1e6 for each in said)
        assert said is None or any(each > 0.0 for each in said)


@given(st.lists(st.floats(1.0, 20.0), max_size=60))
def test_whatever_stays_within_twenty_times_as_much_is_believed_as_it_is(all_watts):
    readings = Readings()
    assert [told(readings, watts) for watts in all_watts] == [[watts] for watts in all_watts]


@given(st.floats(1.0, 100.0), st.floats(1.001, 300.0), st.integers(5, 40))
def test_a_spike_is_left_out_and_a_program_that_draws_so_much_from_now_on_is_believed_at_the_second(low_w, more, count):
    readings, high_w = Readings(), 20.0 * low_w * more
    for _ in range(count):
        assert told(readings, low_w) == [low_w]
    for _ in range(3):  # every other one, for ever
        assert told(readings, high_w) is None
        assert told(readings, low_w) == [low_w]
    assert told(readings, high_w) is None
    assert [told(readings, high_w) for _ in range(3)] == [[high_w]] * 3
    assert told(readings, low_w) == [low_w], "less is no spike"


def test_a_spike_says_what_it_was_and_what_was_usual():
    readings = Readings()
    for _ in range(5):
        readings.believed(sample(2.0, 3.0))
    with pytest.raises(Temporary, match=r"it reads rail0 2 W, rail1 300 W, and just before 5 W in all"):
        readings.believed(sample(2.0, 300.0))


def test_without_powers_there_is_nothing_to_doubt():
    readings = Readings()
    for _ in range(9):
        assert readings.believed(sample()).rails_w == {}
