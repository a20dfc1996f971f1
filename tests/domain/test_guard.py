"""Laws of the guard. Not covered: what is done when it fires (test_manager_guard), whole runs (bench/test_caps)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.events import Sampled
from ceml.domain.guard import (
    BOARD,
    COOLED_C,
    COOLING_S,
    HEAT,
    MOST_RETURNS,
    PROVEN,
    RISEN_C,
    STEP_TIME,
    Alarm,
    Bound,
    PowerGuard,
    Scatter,
    Violators,
)
from ceml.domain.knobs import Configuration

CAP = Bound(name="power cap 8 W", signal=BOARD, most=8.0)
GPU_CAP = Bound(name="power cap 3 W of rail gpu", signal="gpu", most=3.0)
HOT = Bound(name="temperature cap 80 C", signal=HEAT, most=80.0)
HERE, THERE = (Configuration({"gpu_hz": hz}) for hz in (1e9, 2e9))
NOISE = 0.025


def guard(*bounds: Bound) -> PowerGuard:
    made = PowerGuard(("total",))
    made.limit(bounds or (CAP,))
    made.open(0.0)
    return made


def alarms(watched: PowerGuard, watts: list[float], rail: str = "total", from_s: float = 0.1) -> list[int]:
    """At which samples it fired; it goes on looking all the same."""
    polls = (Sampled(at_s=from_s + 0.1 * at, sensor="ina", rails_w={rail: each}) for at, each in enumerate(watts))
    return [at for at, poll in enumerate(polls) if watched.sampled(poll) is not None]


def noisy(share: float, count: int, seed: int) -> list[float]:
    return (8.0 * share * np.random.default_rng(seed).normal(1.0, NOISE, count)).tolist()


@given(st.lists(st.floats(0.01, 8.0), max_size=60))
def test_what_never_exceeds_the_cap_never_fires(watts: list[float]):
    assert alarms(guard(), watts) == []


@given(st.lists(st.floats(0.01, 1e6), max_size=60))
def test_without_a_cap_nothing_fires(watts: list[float]):
    watched = guard()
    watched.limit(())
    assert alarms(watched, watts) == []


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=60), st.integers(-30, 30))
def test_watts_and_kilowatts_are_the_same(watts: list[float], exponent: int):
    factor = 2.0**exponent
    scaled = Bound(name="cap", signal=BOARD, most=8.0 * factor)
    assert alarms(guard(), watts) == alarms(guard(scaled), [factor * each for each in watts])


@given(st.floats(1.3, 1e3))
def test_a_large_excess_fires_on_the_first_sample(factor: float):
    assert alarms(guard(), [8.0 * factor])[:1] == [0]


@given(st.floats(1.05, 1e3))
def test_an_excess_of_five_percent_fires_on_the_second_sample_at_the_latest(factor: float):
    assert alarms(guard(), [8.0 * factor] * 2)[0] <= 1


def test_a_long_quiet_past_does_not_slow_it_down():
    quiet = noisy(0.9, 2000, 0)
    assert alarms(guard(), [*quiet, 8.8, 8.8])[0] <= 2001


@pytest.mark.parametrize("seed", range(3))
def test_at_98_percent_of_the_cap_an_hour_passes_without_an_alarm_in_the_sensors_usual_noise(seed: int):
    assert alarms(guard(), noisy(0.98, 36_000, seed)) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_proven_state_half_a_percent_below_the_cap_is_not_driven_away_by_noise(seed: int):
    proven = noisy(0.9, PROVEN, seed)
    assert len(alarms(guard(), [*proven, *noisy(0.995, 36_000, seed)])) <= 1  # some ten an hour without the lenience
    assert alarms(guard(), [*proven, *noisy(1.05, 100, seed)])[0] <= PROVEN + 20


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_a_first_reading_far_above_the_cap_is_suspect_and_so_is_the_mean_of_all(share: float):
    watched = guard()
    for at, watts in enumerate([8.0 * share, 8.0 * (2.05 - share), 8.0 * 1.02]):
        watched.sampled(Sampled(at_s=0.1 * (at + 1), sensor="ina", rails_w={"total": watts}))
        assert watched.suspects(lambda bound: (0.0, 0)) is (at > 0 or share > 1.0)


def test_where_a_state_was_looked_at_before_the_mean_of_all_looks_must_be_clearly_above_the_cap():
    watched = guard()
    watched.sampled(Sampled(at_s=0.1, sensor="ina", rails_w={"total": 8.0 * 1.015}))
    assert watched.suspects(lambda bound: (0.0, 0))
    assert not watched.suspects(lambda bound: (0.0, 1)), "a mean of 0.75 % of two readings is half a standard error"
    assert watched.suspects(lambda bound: (0.01, 1))
    assert not watched.suspects(lambda bound: (-0.02, 3))


@pytest.mark.parametrize(("share", "samples"), [(1.10, 2), (1.05, 6), (1.03, 20)])
def test_in_noise_an_excess_is_found_soon(share: float, samples: int):
    late = [alarms(guard(), noisy(share, 200, seed))[0] + 1 for seed in range(200)]
    assert np.percentile(late, 95) <= samples


def test_samples_of_before_the_state_was_in_force_do_not_count():
    watched = PowerGuard(("total",), lag_s=0.2)
    watched.limit((CAP,))
    watched.open(1.0)
    assert watched.sampled(Sampled(at_s=1.1, sensor="ina", rails_w={"total": 80.0})) is None
    assert watched.sampled(Sampled(at_s=1.25, sensor="ina", rails_w={"total": 80.0}, covers_s=0.1)) is None
    assert watched.sampled(Sampled(at_s=1.3, sensor="ina", rails_w={"total": 80.0})) is not None
    watched.shut()
    assert watched.sampled(Sampled(at_s=9.9, sensor="ina", rails_w={"total": 80.0})) is None


def test_a_cap_on_a_rail_is_watched_on_that_rail():
    watched = guard(CAP, GPU_CAP)
    alarm = watched.sampled(Sampled(at_s=0.1, sensor="ina", rails_w={"total": 7.0, "gpu": 4.0}))
    assert alarm is not None
    assert alarm == Alarm(bound=GPU_CAP, measured=4.0)


def test_rails_of_several_sensors_are_added_up():
    watched = PowerGuard(("cpu", "gpu"))
    watched.limit((CAP,))
    watched.open(0.0)
    assert watched.sampled(Sampled(at_s=0.1, sensor="a", rails_w={"cpu": 6.0})) is None
    alarm = watched.sampled(Sampled(at_s=0.1, sensor="b", rails_w={"gpu": 6.0}))
    assert alarm == Alarm(bound=CAP, measured=12.0)


@given(st.lists(st.sampled_from([float("nan"), float("inf"), -3.0, 0.0]), max_size=20))
def test_what_is_no_measurement_never_fires(rubbish: list[float]):
    assert alarms(guard(), rubbish) == []


def test_what_was_below_the_cap_for_a_while_is_an_excess_at_once_when_it_rises_above():
    calm = round(10 * COOLING_S)
    assert heated(guard(HOT), [79.0, 81.0, 81.0, *[79.5] * (calm + 5), 80.2, 80.2]) == [2, calm + 9]
    assert heated(guard(HOT), [79.0, 81.0, 81.0, *[79.5] * (calm - 5), 80.2, 80.2]) == [2]


@pytest.mark.parametrize("sd", [0.005, 0.02, 0.05])
def test_the_scatter_is_learnt_whatever_steps_lie_between_states(sd: float):
    scatter, rng = Scatter(), np.random.default_rng(0)
    for level in (5.0, 9.0, 2.0, 7.0):
        scatter.open()
        for value in level * rng.normal(1.0, sd, 150):
            scatter.update(float(value))
    assert scatter.sd == pytest.approx(sd, rel=0.2)


# Violators ------------------------------------------------------------------------------------------------------------

NEVER = 1e9


def left(times: int = 1, measured: float = 8.5) -> Violators:
    known = Violators()
    for _ in range(times):
        known.add(HERE, Alarm(bound=CAP, measured=measured))
    return known


def cap(watts: float) -> list[Bound]:
    return [Bound(name="", signal=BOARD, most=watts)]


@given(st.floats(0.1, 8.5))
def test_a_violator_is_one_for_this_cap_and_all_below_and_up_to_what_was_measured(watts: float):
    assert left().forbidden(cap(watts), lambda *_: NEVER) == {HERE}


@given(st.floats(8.6, 100.0))
def test_a_looser_cap_allows_it_again(watts: float):
    assert left().forbidden(cap(watts), lambda *_: NEVER) == frozenset()


def test_it_comes_back_by_evidence_and_each_time_for_more_of_it():
    for times, margin in ((1, 1.01), (2, 1.02), (3, 1.04)):
        known = left(times)
        assert known.forbidden(cap(8.0), lambda *_, m=margin: 8.0 / m * 1.001) == {HERE}
        assert known.forbidden(cap(8.0), lambda *_, m=margin: 8.0 / m * 0.999) == frozenset()
    assert left(MOST_RETURNS + 1).forbidden(cap(8.0), lambda *_: 0.1) == {HERE}


def test_what_nobody_knows_is_no_evidence():
    assert left().forbidden(cap(8.0), lambda *_: float("nan")) == {HERE}


def test_kinds_of_bounds_are_kept_apart():
    assert left().forbidden([Bound(name="", signal=STEP_TIME, most=1.0)], lambda *_: NEVER) == frozenset()
    assert left().forbidden([GPU_CAP], lambda *_: NEVER) == frozenset()


def test_another_program_has_no_violators():
    known = left()
    known.forget()
    assert len(known) == 0
    assert known.forbidden(cap(1.0), lambda *_: NEVER) == frozenset()


# Temperature ----------------------------------------------------------------------------------------------------------


def heated(watched: PowerGuard, degrees: list[float], from_s: float = 0.1, sensor: str = "zones") -> list[int]:
    """At which readings, ten a second, it fired."""
    polls = (
        Sampled(at_s=from_s + 0.1 * at, sensor=sensor, rails_w={}, temperatures_c={"cpu": 30.0, "gpu": each})
        for at, each in enumerate(degrees)
    )
    return [at for at, poll in enumerate(polls) if watched.sampled(poll) is not None]


@given(st.lists(st.floats(-40.0, 80.0) | st.just(float("nan")), max_size=60))
def test_what_is_never_hotter_than_the_cap_never_fires(degrees: list[float]):
    assert heated(guard(HOT), degrees) == []


@given(st.lists(st.floats(20.0, 80.0), min_size=1, max_size=20), st.floats(80.01, 150.0), st.floats(80.01, 150.0))
def test_two_hot_readings_in_a_row_fire_and_one_does_not(cool: list[float], hot: float, hotter: float):
    assert heated(guard(HOT), [*cool, hot, *cool, hotter]) == []
    watched = guard(HOT)
    assert heated(watched, [*cool, hot, hotter]) == [len(cool) + 1]


def test_two_sensors_at_the_same_time_are_not_two_readings_in_a_row():
    watched = guard(HOT)
    for sensor in ("zones", "gpu"):
        assert heated(watched, [70.0, 81.0], sensor=sensor) == []
    assert heated(watched, [81.0], from_s=0.3) == [0]


@given(st.floats(5.0, 60.0), st.floats(40.0, 78.0), st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0]))
def test_while_the_board_cools_nobody_is_blamed(tau_s: float, to_c: float, seed: int, step_c: float):
    seconds = np.arange(0.0, 6 * tau_s, 0.1)
    true = to_c + (84.0 - to_c) * np.exp(-seconds / tau_s) + np.random.default_rng(seed).normal(0.0, 0.1, len(seconds))
    read = np.round(true / step_c) * step_c if step_c else true
    watched = guard(HOT)
    assert heated(watched, [79.0, 84.0, 84.0]) == [2]
    watched.open(0.4)
    assert heated(watched, read.tolist(), from_s=0.5) == []
    assert heated(watched, [80.5, 80.5], from_s=500.0) == [1]


@given(st.floats(80.1, 120.0))
def test_a_board_that_does_not_cool_is_an_excess_again(degrees: float):
    watched = guard(HOT)
    assert heated(watched, [79.0, *[degrees] * 400])[:2] == [2, pytest.approx(2 + 20 * COOLING_S, abs=5)]


@given(st.floats(0.01, 1.0))
def test_a_board_that_gets_still_hotter_is_not_given_time(step_c: float):
    fired = heated(guard(HOT), [79.0, *(82.0 + np.arange(0.0, 8.0, step_c)).tolist()])
    assert fired[0] == 2
    assert fired[1] - 2 <= max(RISEN_C / step_c, 1.0) + 3


def test_a_cap_that_is_new_to_a_hot_board_gives_it_time_to_cool():
    falling = np.linspace(95.0, 81.0, 300).tolist()
    assert heated(guard(HOT), falling) == []
    assert heated(guard(HOT), [*falling, 80.0 - COOLED_C, 81.0, 81.0]) == [len(falling) + 2]
