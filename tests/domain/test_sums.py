"""Batch means: what a step's scatter does to the mean of many; against the definition, and where steps are no chance.

Not covered: areas and the scatter of single values (test_windows.py).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.domain.sums import BATCH_BEATS, MOST_BATCHES, Batches

FEWEST = BATCH_BEATS * MOST_BATCHES // 2


def batches(times, steps=1.0) -> Batches:
    made = Batches()
    for seconds in times:
        made.add(float(seconds), steps)
    return made


@given(st.floats(0.01, 2.0), st.integers(FEWEST, 20_000), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_where_steps_are_chance_batches_say_what_single_steps_say(cv, count, seed):
    variance = math.log1p(cv**2)
    times = np.random.default_rng(seed).lognormal(-variance / 2, math.sqrt(variance), count)
    assert batches(times).cv == pytest.approx(np.std(times, ddof=1) / np.mean(times), rel=1.0)


def test_on_average_too() -> None:
    rng = np.random.default_rng(0)
    found = [batches(rng.exponential(1.0, 500)).cv ** 2 for _ in range(300)]
    assert np.mean(found) == pytest.approx(1.0, rel=0.1)


@given(st.integers(2, 64), st.floats(2.0, 1000.0), st.integers(64, 1000))
@settings(deadline=None, max_examples=50)
def test_a_regular_slow_step_leaves_no_more_doubt_than_one_round(period, slower, rounds):
    times = ([1.0] * (period - 1) + [slower]) * rounds
    error = batches(times).cv / math.sqrt(len(times))
    assert error <= 2.0 / (rounds - MOST_BATCHES), "a batch may cut a round: by one in as many as it holds"


def test_fewer_than_eight_batches_say_nothing() -> None:
    assert math.isnan(batches([1.0, 2.0] * (FEWEST // 2 - 1)).cv)
    assert not math.isnan(batches([1.0, 2.0] * (FEWEST // 2)).cv)


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=2000), st.floats(0.001, 1000.0))
@settings(deadline=None)
def test_time_and_steps_have_no_unit(times, unit):
    assert batches([unit * each for each in times]).cv == pytest.approx(
        batches(times).cv, rel=1e-6, abs=1e-6, nan_ok=True
    )
    assert batches(times, steps=unit).cv == pytest.approx(batches(times).cv, rel=1e-6, abs=1e-6, nan_ok=True)


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 9))
@settings(deadline=None)
def test_merged_windows_say_what_one_of_their_length_says_and_stay_small(one, two, seed):
    times = np.random.default_rng(seed).exponential(1.0, one + two)
    made, later = batches(times[:one]), batches(times[one:])
    made.merge(later)
    assert len(made._full) < MOST_BATCHES
    if one + two >= 4 * FEWEST and min(one, two) >= FEWEST:
        assert made.cv == pytest.approx(batches(times).cv, rel=1.0)
