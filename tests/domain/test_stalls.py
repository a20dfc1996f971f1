"""Stalls: far slower and rare steps are left out of rate and power, everything else counts.

Not covered: who asks for how many clean beats (test_stays.py, test_manager.py), joules of a run (test_ledger.py).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.domain.events import Heartbeat, Sampled
from ceml.domain.knobs import Configuration
from ceml.domain.stays import Lessons
from ceml.domain.windows import Window

HERE = Configuration({"cpu_hz": 1e9})


def window(steps_s, *, period_s=0.1, watts=lambda at_s: 10.0, opens_s=0.0):
    """A window over steps of these lengths; power is read at its own period."""
    w = Window(HERE, opens_s=opens_s, total_rails=("total",))
    at_s, read_s = opens_s + 1e-9, opens_s + period_s
    w.beat(Heartbeat(at_s=at_s, app="a"))
    for step_s in steps_s:
        at_s += float(step_s)
        while read_s < at_s:
            w.sample(Sampled(at_s=read_s, sensor="s", rails_w={"total": watts(read_s)}))
            read_s += period_s
        w.beat(Heartbeat(at_s=at_s, app="a"))
    return w


def noisy(count, cv, seed, mean_s=1.0):
    variance = math.log1p(cv**2)
    return mean_s * np.random.default_rng(seed).lognormal(-variance / 2, math.sqrt(variance), count)


@pytest.mark.parametrize("cv", [0.003, 0.02, 0.14])
@pytest.mark.parametrize("length", [3, 6, 12, 25, 400])
def test_ordinary_noise_is_no_stall_and_the_mean_is_unbiased(cv, length):
    lessons, out, total = Lessons(), 0, 0
    clean_s = clean = 0.0
    whole = noisy(24_000, cv, seed=length)
    for at in range(0, len(whole), length):
        seen = lessons.close(window(whole[at : at + length], period_s=1e9))
        out, total = out + seen.outliers, total + seen.beats + seen.outliers
        clean_s, clean = clean_s + seen.counted_s, clean + seen.steps
    assert total == len(whole)
    assert out < 0.001 * total
    assert clean_s / clean == pytest.approx(whole.mean(), rel=0.002)


@pytest.mark.parametrize("cv", [0.003, 0.02, 0.05])
@pytest.mark.parametrize(
    ("length", "stall"), [(6, [10.0]), (12, [10.0]), (25, [3.0] * 5), (25, [50.0]), (6, [2.5] * 2)]
)
def test_one_slow_step_or_a_burst_of_them_does_not_move_the_rate(cv, length, stall):
    for seed in range(20):
        steps_s = noisy(length, cv, seed)
        at = seed % (length - 1)
        seen = window([*steps_s[:at], *stall, *steps_s[at:]]).observe()
        assert (seen.beats, seen.outliers) == (length, len(stall))
        assert seen.outlier_s == pytest.approx(sum(stall))
        assert seen.rate_hz == pytest.approx(1.0 / steps_s.mean())
        assert seen.step_cv == pytest.approx(steps_s.std(ddof=1) / steps_s.mean())


@pytest.mark.parametrize("step_s", [0.001, 0.012, 0.7])
def test_power_during_a_pause_is_left_out(step_s):
    """Idle watts between steps 100 and 101, pieces that touch the pause included."""
    pause_s = 100 * step_s + 7.003
    start_s, end_s = 100 * step_s, 100 * step_s + pause_s
    steps_s = [*[step_s] * 100, pause_s, *[step_s] * 100]
    w = window(steps_s, period_s=0.05, watts=lambda at_s: 1.0 if start_s + 0.001 < at_s < end_s else 10.0)
    seen = w.observe()
    assert (seen.outliers, seen.rate_hz) == (1, pytest.approx(1.0 / step_s))
    assert seen.power_w == pytest.approx(10.0)
    assert seen.rail_w["total"] == pytest.approx(10.0)
    assert seen.power_cv == pytest.approx(0.0, abs=1e-9)
    assert seen.power_samples < w.power_samples


@pytest.mark.parametrize("ahead", [0, 1, 4, 8, 12])
def test_a_hiccup_at_each_sample_costs_no_power(ahead):
    """As of a program that shares its processor with whoever samples; the hiccup begins before or after the sample."""
    w = window([0.0005] * ahead + ([0.0005] * 192 + [0.004]) * 20)
    seen = w.observe()
    assert (seen.outliers, seen.rate_hz) == (20, pytest.approx(2000.0))
    assert seen.power_samples == w.power_samples >= 19


@pytest.mark.parametrize("slow_s", [0.013, 0.031, 0.107])
def test_a_stall_of_a_tenth_of_a_sample_or_more_claims_its_power(slow_s):
    round_s = 0.2 + slow_s
    read_w = []

    def watts(at_s):
        read_w.append(1.0 if at_s % round_s > 0.2 + 1e-6 else 10.0)
        return read_w[-1]

    w = window(([0.0005] * 400 + [slow_s]) * 30, watts=watts)
    seen = w.observe()
    assert min(read_w) == 1.0
    assert (seen.outliers, seen.rate_hz) == (30, pytest.approx(2000.0))
    assert seen.power_w == pytest.approx(10.0)
    assert 0 < seen.power_samples < w.power_samples


def test_samples_of_a_pause_that_goes_on_are_not_counted_yet():
    w = window([0.1] * 10, period_s=0.05)
    before = w.observe().power_samples
    for at_s in np.arange(1.1, 5.0, 0.1):
        w.sample(Sampled(at_s=float(at_s), sensor="s", rails_w={"total": 1.0}))
    assert w.observe().power_samples == before
    assert w.observe().power_w == pytest.approx(10.0)


@pytest.mark.parametrize(("every", "slower"), [(2, 3.0), (4, 1.6), (10, 3.0), (10, 10.0)])
def test_regular_slow_steps_are_part_of_the_program(every, slower):
    steps_s = [slower if at % every == every - 1 else 1.0 for at in range(100)]
    seen = window(steps_s).observe()
    assert (seen.outliers, seen.beats) == (0, 100)
    assert seen.rate_hz == pytest.approx(100 / sum(steps_s))


def test_a_step_in_fifty_is_a_stall_however_regular():
    seen = window([5.0 if at % 50 == 49 else 1.0 for at in range(200)]).observe()
    assert (seen.outliers, seen.rate_hz) == (4, pytest.approx(1.0))


def test_a_pause_is_a_stall_also_where_every_tenth_step_is_slow():
    regular = [3.0 if at % 10 == 9 else 1.0 for at in range(60)]
    seen = window([*regular[:33], 500.0, *regular[33:]]).observe()
    assert (seen.outliers, seen.outlier_s) == (1, pytest.approx(500.0))
    assert seen.rate_hz == pytest.approx(60 / sum(regular))


def test_silence_between_bursts_is_no_stall_once_it_came_four_times_and_takes_most_of_the_time():
    lessons = Lessons()
    burst = [1e-5] * 63 + [0.64]
    assert lessons.read(window(burst * 3)).outliers == 3, "so far it may be chance"
    seen = lessons.close(window(burst * 20))
    assert seen.outliers == 0
    assert seen.rate_hz == pytest.approx(100.0, rel=0.01)
    assert seen.power_samples > 100


@pytest.mark.parametrize(("every", "times"), [(50, 40), (100, 40), (200, 60)])
def test_slow_steps_that_claim_nearly_all_power_samples_are_part_of_the_program(every, times):
    """A fast program that logs every so often: there is no tenth of a second without it."""
    round_s = [0.0003] * (every - 1) + [0.0003 * times]
    lessons = Lessons()
    seen = lessons.close(window(round_s * 200))
    assert seen.outliers == 0
    assert seen.rate_hz == pytest.approx(every / sum(round_s))
    assert seen.power_samples >= 10
    assert seen.step_cv / math.sqrt(seen.beats) < 0.01, "that its steps come in rounds leaves no doubt of the rate"
    assert lessons.read(window(round_s * 200)).outliers == 0
    rare = window([0.0003] * 20000 + [0.0003 * times] + [0.0003] * 2000)
    assert Lessons().read(rare).outliers == 1


@given(st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_pauses_of_random_length_are_all_counted_or_none(seed):
    """A server that waits for requests: if only the longest waits were left out, it would look busier than it is."""
    rng = np.random.default_rng(seed)
    steps_s = np.where(rng.random(3000) < 1 / 12, rng.exponential(0.05, 3000), 0.002)
    lessons = Lessons()
    seen = lessons.close(window(steps_s))
    assert seen.rate_hz == pytest.approx(3000 / steps_s.sum(), rel=0.02)
    paused = [*steps_s, 30.0, *steps_s]
    assert Lessons().close(window(paused)).outliers >= 1


@pytest.mark.parametrize("share", [0.03, 0.044, 0.045])
@pytest.mark.parametrize("seed", range(8))
def test_what_was_once_found_to_be_the_programs_own_stays_so(seed, share):
    """Hiccups at the edge: in some windows they claim a little more than two thirds of the samples, in some less."""
    lessons, rng, outliers = Lessons(), np.random.default_rng(seed), []
    for _ in range(40):
        steps_s = np.where(rng.random(500) < share, 0.010, 0.002)
        outliers.append(lessons.close(window(steps_s)).outliers)
    since = next((at for at, out in enumerate(outliers) if not out), len(outliers))
    assert not any(outliers[since:])


@pytest.mark.parametrize("pause", [20, 60, 400])
@pytest.mark.parametrize("cv", [0.0, 0.05])
def test_a_pause_that_is_caught_up_with_is_no_stall(pause, cv):
    """A program that keeps to a clock: as many steps of next to no time as the pause was long."""
    quick = [1e-5] * (pause - 1)
    steps_s = [*noisy(800, cv, 1, 1e-3), pause * 1e-3, *quick, *noisy(800, cv, 2, 1e-3)]
    seen = Lessons().close(window(steps_s))
    assert seen.outliers == 0
    assert seen.rate_hz == pytest.approx(len(steps_s) / sum(steps_s))
    alone = Lessons().close(window([*steps_s[:800], pause * 1e-3, *steps_s[-800:]]))
    assert alone.outliers == 1


def test_what_proves_regular_later_mends_the_windows_before():
    lessons, observations = Lessons(), []
    for _ in range(6):
        w = window([1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0])
        lessons.close(w)
        lessons.keep(w, observations)
        if len(observations) == 1:
            assert observations[0].outliers == 1
    assert [seen.outliers for seen in observations] == [0] * 6
    assert [seen.rate_hz for seen in observations] == [pytest.approx(0.8)] * 6


def test_rare_stalls_stay_stalls_over_many_windows():
    lessons, rates, rng = Lessons(), [], np.random.default_rng(3)
    for seed in range(200):
        steps_s = noisy(20, 0.02, seed)
        if rng.random() < 0.3:  # 1.5 % of the steps
            steps_s[rng.integers(20)] *= 10.0
        w = window(steps_s)
        rates.append(lessons.close(w).rate_hz)
    assert np.mean(rates) == pytest.approx(1.0, rel=0.002)
    assert max(abs(np.array(rates) - 1.0)) < 0.03


def test_a_change_of_pace_is_not_a_stall():
    """Twice as slow for good: soon the slow steps are what the window shows, and a detector can see it."""
    lessons = Lessons()
    for _ in range(50):
        lessons.close(window(noisy(20, 0.02, 0)))
    seen = lessons.close(window([*noisy(5, 0.02, 1), *(2.0 * noisy(6, 0.02, 2))]))
    assert seen.outliers == 0
    assert lessons.close(window(2.0 * noisy(20, 0.02, 3))).rate_hz == pytest.approx(0.5, rel=0.02)


def test_two_steps_accuse_nobody():
    seen = window([1.0, 100.0]).observe()
    assert (seen.beats, seen.outliers, seen.rate_hz) == (2, 0, pytest.approx(2 / 101))


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=60), st.floats(0.01, 10))
@settings(deadline=None)
def test_nothing_gets_lost_and_time_has_no_unit(steps_s, unit):
    seen = window(steps_s, period_s=1e9).observe()
    assert seen.beats + seen.outliers == len(steps_s)
    assert seen.outlier_s <= seen.duration_s * (1 + 1e-9)
    assert 0 < seen.beats
    assert seen.rate_hz == pytest.approx(seen.beats / seen.counted_s)


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=40), st.integers(1, 39))
@settings(deadline=None)
def test_windows_that_follow_each_other_add_up(steps_s, cut):
    cut = min(cut, len(steps_s) - 1)
    whole = window(steps_s, period_s=1e9)
    first = window(steps_s[:cut], period_s=1e9)
    second = Window(HERE, opens_s=first.end_s, total_rails=("total",), started_s=first.end_s)
    at_s = first.end_s
    for step_s in steps_s[cut:]:
        at_s += step_s
        second.beat(Heartbeat(at_s=at_s, app="a"))
    first.extend(second)
    ours, theirs = first.observe(), whole.observe()
    assert (ours.beats + ours.outliers, ours.duration_s) == (len(steps_s), pytest.approx(theirs.duration_s))


def test_memory_is_bounded_however_long_a_window_lasts():
    w = window(noisy(30_000, 0.14, 0, mean_s=0.01))
    assert len(w.bins) < 100
