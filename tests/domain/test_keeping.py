"""What a measurement proves of a bound. Not covered: who asks (test_manager_guard.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.guard import BOARD, STEP_TIME, USUAL_SD, Bound
from ceml.domain.keeping import SURELY_Z, amount, error, keeps, least
from ceml.domain.knobs import Configuration
from ceml.domain.values import NAN, Observation

SEEN = Observation(
    configuration=Configuration({"gpu_hz": 1e9}),
    start_s=0.0,
    end_s=10.0,
    beats=25,
    steps=25.0,
    rate_hz=2.5,
    power_w=8.0,
    rail_w={"gpu": 3.0},
    power_samples=100,
    step_cv=0.02,
    power_cv=0.03,
)


def cap(watts: float, signal: str = BOARD) -> Bound:
    return Bound(name="cap", signal=signal, most=watts)


def test_amounts_are_watts_of_a_rail_and_seconds_per_step():
    assert (amount(SEEN, BOARD), amount(SEEN, "gpu"), amount(SEEN, STEP_TIME)) == (8.0, 3.0, 0.4)
    assert amount(SEEN, "cpu") != amount(SEEN, "cpu")


@given(st.integers(1, 1000), st.floats(0.001, 0.3))
def test_more_readings_are_surer_and_no_noise_is_less_than_usual(count, cv):
    one = error(replace(SEEN, power_samples=count, power_cv=cv), BOARD)
    more = error(replace(SEEN, power_samples=4 * count, power_cv=cv), BOARD)
    assert more == pytest.approx(one / 2)
    assert one >= USUAL_SD / count**0.5


@given(st.floats(1.0, 20.0))
def test_a_bound_is_kept_only_with_room_for_the_error(watts):
    surely = 8.0 * (1 + SURELY_Z * 0.03 / 10)
    assert keeps(SEEN, cap(watts)) is (surely <= watts)


def test_what_a_program_draws_more_counts_for_power_and_not_for_time():
    assert keeps(SEEN, cap(9.0))
    assert not keeps(SEEN, cap(9.0), times=1.2)
    assert keeps(SEEN, cap(0.41, STEP_TIME), times=1.2)


def test_what_was_not_measured_keeps_nothing():
    assert not keeps(SEEN, cap(9.0, "cpu"))
    assert not keeps(replace(SEEN, power_w=NAN), cap(9.0))


def test_the_least_of_a_signal_is_what_the_surest_measurement_leaves_no_doubt_of():
    assert least([], BOARD) == 0.0
    assert least([SEEN, replace(SEEN, power_w=4.0)], BOARD) == pytest.approx(8.0 * (1 - SURELY_Z * 0.003))
