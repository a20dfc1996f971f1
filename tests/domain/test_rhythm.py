"""Rhythm: periods that are there are found, whatever the pace, stalls and changes of configuration; others are not.

Not covered: windows of whole periods (test_windows.py), what a run makes of them (test_commitments.py).
"""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.rhythm import LONGEST, TIMES, Rhythm, period


def repeats(factors: list[float]) -> bool:
    return any(factors == factors[:n] * (len(factors) // n) for n in range(1, len(factors)) if len(factors) % n == 0)


any_patterns = st.lists(st.sampled_from([1.0, 1.5, 2.0, 3.0]), min_size=2, max_size=8).filter(
    lambda factors: not repeats(factors)
)
patterns = st.builds(  # those of which no shorter period tells most
    lambda slow, fast: [slow] + [1.0] * fast, st.sampled_from([1.5, 2.0, 3.0]), st.integers(1, 7)
) | st.sampled_from([[1.0, 1.5, 2.0], [1.0, 1.5, 2.0, 3.0], [3.0, 2.0, 1.0, 1.0, 1.0]])
seeds = st.integers(0, 2**16)


def heard(rhythm: Rhythm, seconds, *, work: float = 1.0, from_s: float = 0.0) -> tuple[int, float]:
    """Beats until the period was found, 0 if never; and when the last one was."""
    at_s = from_s
    for beat, step_s in enumerate(seconds, start=1):
        at_s += step_s * work
        if rhythm.beat(at_s, work):
            return beat, at_s
    return 0, at_s


def steps(factors: list[float], count: int, rng: np.random.Generator, *, noise: float = 0.02, stalls: float = 0.0):
    times = np.resize(factors, count) * rng.lognormal(0.0, noise, count)
    return times * np.where(rng.random(count) < stalls, 10.0, 1.0)


@given(patterns, seeds, st.sampled_from([1e-3, 0.1, 30.0]), st.sampled_from([1.0, 0.5, 8.0]))
def test_a_period_is_found_at_any_pace_and_once(factors, seed, pace, work):
    rhythm = Rhythm()
    rhythm.change(0.0)
    found, at_s = heard(rhythm, pace * steps(factors, 200, np.random.default_rng(seed)), work=work)
    assert found > TIMES * len(factors)
    assert (rhythm.beats, rhythm.work) == (len(factors), len(factors) * work)
    assert heard(rhythm, [1.0] * 50, from_s=at_s)[0] == 0


@given(any_patterns, seeds)
def test_whole_periods_scatter_less_than_as_many_steps_drawn_at_random_would(factors, seed):
    """What is found first may be a part of the period that tells most of it: [1, 1, 1.5, 1, 1, 2] is nearly of 3."""
    rhythm = Rhythm()
    rhythm.change(0.0)
    assert heard(rhythm, steps(factors, 200, np.random.default_rng(seed)))[0]
    single = np.resize(factors, 840 * rhythm.beats)
    whole = np.sum(np.reshape(single, (-1, rhythm.beats)), axis=1)
    assert np.std(whole) / np.mean(whole) < np.std(single) / np.mean(single) / np.sqrt(rhythm.beats)


@given(patterns, seeds)
def test_stalls_now_and_then_hide_no_period(factors, seed):
    rhythm = Rhythm()
    rhythm.change(0.0)
    heard(rhythm, steps(factors, 200, np.random.default_rng(seed), stalls=0.01))
    assert rhythm.beats % len(factors) == 0


@given(seeds, st.lists(st.floats(0.2, 5.0), min_size=4, max_size=12))
def test_a_period_is_found_across_configurations_each_at_its_pace(seed, paces):
    rhythm, at_s, rng = Rhythm(), 0.0, np.random.default_rng(seed)
    times = iter(steps([1.0, 1.0, 1.0, 2.0], 400, rng))
    for pace in paces:
        rhythm.change()
        at_s = heard(rhythm, [next(times) * pace], from_s=at_s)[1]  # while the knobs are being turned
        rhythm.change(at_s + 1e-4)
        beats = int(rng.integers(5, 9))
        at_s = heard(rhythm, [next(times) * pace for _ in range(beats)], from_s=at_s)[1]
        if rhythm.work:
            break
    assert rhythm.beats in (1, 4, 8)
    assert rhythm.beats > 1 or len(paces) < 8


@pytest.mark.parametrize("spread", [0.02, 0.3, 1.0])
def test_what_repeats_nothing_has_no_period(spread):
    found = 0
    for seed in range(100):
        rhythm = Rhythm()
        rhythm.change(0.0)
        heard(rhythm, np.random.default_rng(seed).lognormal(0.0, spread, 300))
        found += rhythm.beats > 1
    assert found <= 1


def test_rare_stalls_are_no_period():
    found = 0
    for seed in range(100):
        rhythm = Rhythm()
        rhythm.change(0.0)
        heard(rhythm, steps([1.0], 300, np.random.default_rng(seed), stalls=0.03))
        found += rhythm.beats > 1
    assert found <= 2


@pytest.mark.parametrize("values", [[0.0] * 64, [n / 32 for n in range(128)], [0.0] * 32 + [1.0] * 32])
def test_what_stays_drifts_or_jumps_has_no_period(values):
    assert period(values) == 1


def test_steps_that_hardly_differ_are_left_to_averaging():
    assert period([0.0, 0.0, 0.0, 0.1] * 16) == 1
    assert period([0.0, 0.0, 0.0, 0.2] * 16) == 4


def test_too_long_a_period_is_none():
    assert period(([0.0] * (LONGEST - 1) + [3.0]) * 4) == LONGEST
    assert period(([0.0] * LONGEST + [3.0]) * 4) == 1


def test_values_that_nobody_knows_count_for_nothing():
    row = [0.0, 0.0, 0.0, 1.0] * 8
    row[4:8] = [float("nan")] * 4
    assert period(row) == 4
    assert period([float("nan")] * 50) == 1


def test_before_a_configuration_is_in_force_nothing_counts():
    rhythm = Rhythm()
    heard(rhythm, [1.0, 2.0] * 50)
    assert rhythm.beats == 1
    rhythm.change(inf)
    heard(rhythm, [1.0, 2.0] * 50, from_s=1000.0)
    assert rhythm.beats == 1


def test_after_a_row_without_a_period_it_is_looked_for_anew_in_the_next_configuration():
    rhythm = Rhythm()
    rhythm.change(0.0)
    _, at_s = heard(rhythm, [1.0] * 200)
    assert heard(rhythm, [1.0, 2.0] * 50, from_s=at_s)[0] == 0
    rhythm.change(at_s)
    heard(rhythm, [1.0, 2.0] * 50, from_s=at_s)
    assert rhythm.beats == 2


@given(st.integers(LONGEST + 1, 400), st.floats(0.1, 10.0), st.integers(0, 31))
def test_bursts_of_many_beats_are_a_period_however_many(beats, silence_s, begins):
    rhythm = Rhythm()
    rhythm.change(0.0)
    found, _ = heard(rhythm, [1e-5] * (begins + 20) + ([silence_s] + [1e-5] * (beats - 1)) * (TIMES + 2))
    assert found
    assert rhythm.beats == beats


def test_a_slow_step_that_is_little_of_the_time_and_pauses_that_come_when_they_like_are_no_period():
    rhythm = Rhythm()
    rhythm.change(0.0)
    heard(rhythm, ([0.02] * 39 + [0.2]) * 20)
    assert rhythm.beats == 1
    rng = np.random.default_rng(0)
    heard(rhythm, [s for _ in range(50) for s in [1e-4] * int(rng.integers(40, 80)) + [1.0]], from_s=1000.0)
    assert rhythm.beats == 1


def test_work_that_was_carried_over_shifts_no_place():
    rng, rhythm, at_s, found = np.random.default_rng(0), Rhythm(), 0.0, 0
    rhythm.change(0.0)
    carried = 0.0
    for beat, step_s in enumerate(steps([1.0, 1.0, 1.0, 2.0], 300, rng), start=1):
        at_s += step_s
        if rng.random() < 0.07:
            carried += 1.0
            continue
        if rhythm.beat(at_s, 1.0 + carried):
            found = beat
            break
        carried = 0.0
    assert 0 < found < 100
    assert (rhythm.beats, rhythm.work) == (4, 4.0)


def test_it_is_looked_for_again_though_no_configuration_changes_but_ever_more_rarely():
    rhythm, at_s = Rhythm(), 0.0
    rhythm.change(0.0)
    _, at_s = heard(rhythm, np.random.default_rng(0).lognormal(0.0, 0.3, 1000))
    assert rhythm.beats == 1
    found, _ = heard(rhythm, steps([1.0, 2.0], 3000, np.random.default_rng(1)), from_s=at_s)
    assert found


extreme = st.floats(min_value=5e-324, max_value=1e9) | st.sampled_from([5e-324, 1e-320, 1e-9, 1.0, 1e9])


@given(st.lists(st.tuples(st.floats(0.0, 1e12), extreme), max_size=200), st.sets(st.integers(0, 199), max_size=5))
def test_nothing_that_programs_may_write_breaks_it(beats, changes):
    """Any process may write any work above 0, and times that go back."""
    rhythm = Rhythm()
    rhythm.change(0.0)
    for number, (at_s, work) in enumerate(beats):
        if number in changes:
            rhythm.change(at_s)
        known = rhythm.work > 0.0
        found = rhythm.beat(at_s, work)
        assert found == (rhythm.work > 0.0 and not known), "said once, with the beat that shows it"


@pytest.mark.parametrize("begins", range(60))
def test_bursts_are_found_wherever_rows_begin_anew(begins):
    rhythm = Rhythm()
    rhythm.change(0.0)
    found, _ = heard(rhythm, [1e-5] * (200 + begins) + ([0.5] + [1e-5] * 39) * (TIMES + 2))
    assert (found > 0, rhythm.beats, rhythm.work) == (True, 40, 40.0)


def test_carried_over_work_after_a_look_leaves_what_is_usual():
    rhythm, at_s = Rhythm(), 0.0
    rhythm.change(0.0)
    for _ in range(17):
        at_s += 1e-5
        rhythm.beat(at_s, 1.0)
    usual = rhythm._slow.usual
    rhythm.beat(at_s + 2e-5, 2.0)
    assert rhythm._slow.usual == usual
    assert usual == usual
