"""How long a stay lasts: until rate and power are sure enough, not on the strength of two lucky beats, nor for ever.

Not covered: what errors a sampler asks for (test_improvement.py).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.domain.events import AppJoined, ConfigurationApplied, Heartbeat, Sampled, Try, WindowClosed
from ceml.domain.improvement import improvement
from ceml.domain.manager import RuntimeManager
from ceml.domain.response.overlap import overlap
from ceml.domain.stays import Looks, expected_s, is_sure, may_have_stalled, standard_error
from ceml.domain.values import Observation, Stay
from ceml.domain.windows import Window
from tests.domain.test_manager import SPACE, Script, mind, world

HERE = SPACE.configuration(0)


def seen(beats=10, *, step_cv=0.02, samples=10, power_cv=0.025, steps=None) -> Observation:
    return Observation(
        configuration=HERE,
        start_s=0.0,
        end_s=1.0,
        beats=beats,
        steps=float(beats if steps is None else steps),
        rate_hz=1.0,
        power_w=5.0,
        power_samples=samples,
        step_cv=step_cv,
        power_cv=power_cv,
    )


@given(st.integers(1, 1000), st.floats(0, 1), st.floats(0.001, 1))
def test_more_values_and_less_scatter_mean_less_error(count, cv, usual):
    error = standard_error(count, cv, usual)
    assert standard_error(count + 1, cv, usual) < error
    assert standard_error(count, cv + 0.1, usual) >= error
    assert standard_error(count, float("nan"), usual) == pytest.approx(usual / math.sqrt(count))
    assert standard_error(0, cv, usual) == math.inf


def test_two_lucky_beats_end_nothing():
    stay = Stay(state=0, steps=2, power_samples=0, rate_se=0.02 / math.sqrt(10))
    assert not is_sure(seen(2, step_cv=0.0), stay, powered=False)
    assert is_sure(seen(10, step_cv=0.02), stay, powered=False)
    assert not is_sure(seen(10, step_cv=0.05), stay, powered=False)


def test_power_is_waited_for_only_where_it_can_come():
    stay = Stay(state=0, power_samples=3, power_se=0.01)
    assert not is_sure(seen(samples=0, power_cv=float("nan")), stay, powered=True)
    assert is_sure(seen(samples=0, power_cv=float("nan")), stay, powered=False)
    assert not is_sure(seen(samples=4), stay, powered=True)
    assert is_sure(seen(samples=7), stay, powered=True)


@given(st.floats(0.3, 1.0), st.integers(1, 40), st.integers(0, 20), st.booleans())
def test_what_scatters_more_than_thought_ends_a_stay_after_its_patience_once_the_rate_is_roughly_known(
    cv, steps, samples, powered
):
    stay = Stay(state=0, steps=steps, power_samples=samples, rate_se=0.02 / math.sqrt(steps), patience=3.0)
    enough = math.ceil(max(3 * steps, (cv / 0.05) ** 2)) + 1
    assert is_sure(seen(enough, step_cv=cv, samples=3 * samples), stay, powered=powered)
    assert not is_sure(seen(3 * steps - 1, step_cv=cv, samples=3 * samples), stay, powered=powered)
    assert not is_sure(seen(enough, step_cv=0.06 * math.sqrt(enough), samples=3 * samples), stay, powered=powered)
    assert not is_sure(seen(enough, step_cv=cv, samples=3 * samples), replace(stay, patience=math.inf), powered=powered)
    if powered and samples:
        assert not is_sure(seen(enough, step_cv=cv, samples=3 * samples - 1), stay, powered=True)


def test_what_is_not_asked_is_not_waited_for():
    assert is_sure(seen(1, step_cv=float("nan"), samples=2, power_cv=9.0), Stay(state=0), powered=True)


@given(st.floats(0.01, 1e4), st.floats(0, 10), st.floats(0.001, 0.1))
@settings(deadline=None)
def test_the_expected_length_meets_its_own_errors(rate_hz, period_s, error):
    stay = Stay(state=0, steps=1, power_samples=1, rate_se=error, power_se=error)
    long_s = expected_s(stay, rate_hz, period_s)
    assert long_s * rate_hz >= (0.02 / error) ** 2
    assert long_s >= (0.025 / error) ** 2 * period_s * (1 - 1e-9)
    assert expected_s(stay, math.nan, period_s) == math.inf


def test_looks_grow_rarer_but_each_beat_of_a_short_window_and_each_sample_is_looked_at():
    looks, window, due = Looks(), Window(HERE, opens_s=0.0, total_rails=("total",), started_s=0.0), []
    for at in range(1, 5001):
        window.beat(Heartbeat(at_s=at, app="a"))
        due.append(looks.due(window, None))
    assert all(due[:32])
    assert sum(due) < 300
    window.sample(Sampled(at_s=5000.5, sensor="s", rails_w={"total": 1.0}))
    assert looks.due(window, None)


def profiled(stay: Stay, **changes) -> Observation:
    """The first window of a manager that was told to stay."""
    w = world(sampler=Script(stay, Stay(state=0, steps=1e9, commits=True)), **changes)
    w.run(400)
    return w.heard(WindowClosed)[0].observation


@pytest.mark.parametrize("asked", [0.002, 0.005, 0.01])
def test_a_trial_ends_when_its_rate_is_sure_enough(asked):
    beats = profiled(Stay(state=3, power_samples=0, rate_se=asked)).beats
    scatter = 0.02 * math.sqrt(10 / (9 + beats))  # the world's steps do not scatter at all
    assert scatter / math.sqrt(beats) <= asked
    assert 0.02 * math.sqrt(10 / (8 + beats)) / math.sqrt(beats - 1) > asked


def test_a_trial_lasts_at_most_as_long_as_it_may_but_counts_a_beat():
    assert profiled(Stay(state=3, rate_se=1e-9, longest_s=10.0)).end_s <= 11.0
    assert profiled(Stay(state=3, rate_se=1e-9, longest_s=1e-6)).beats == 1


def test_outliers_do_not_count_as_beats_of_a_trial():
    w = world(sampler=Script(Stay(state=3, steps=10, power_samples=0), Stay(state=0, steps=1e9, commits=True)))
    w.run(5)
    w.slower = 20.0
    w.run(1)
    w.slower = 1.0
    w.run(30)
    first = w.heard(WindowClosed)[0].observation
    assert (first.beats, first.outliers) == (10, 1)
    assert np.isfinite(first.power_w)


@given(st.integers(0, 50), st.floats(0.01, 1e3), st.floats(1.0, 100.0))
def test_a_handful_of_steps_far_slower_than_expected_is_not_believed_a_few_more_are(beats, rate_hz, slower):
    few = replace(seen(beats), rate_hz=rate_hz)
    assert may_have_stalled(few, rate_hz * slower) is (0 < beats < 4 and slower > 2.0)
    assert not may_have_stalled(few, float("nan")), "nothing is expected"


def test_a_bound_on_steps_is_met_to_the_step_however_long_the_stay():
    assert profiled(Stay(state=3, steps=317, power_samples=0)).steps == 317
    assert profiled(Stay(state=3, beats=317, power_samples=0)).beats == 317


@pytest.mark.parametrize("rate_hz", [1 / 60, 1.0, 10_000.0])
def test_slow_and_fast_programs_are_measured_in_sensible_time(rate_hz):
    """Power sets the length of fast ones, one counted step that of the slowest."""
    joined = AppJoined(at_s=0.0, app="a", total_work=1e6)
    manager = RuntimeManager(joined, SPACE, mind(sampler=improvement(), model=overlap()))
    tried = [part for part in manager.on(joined) if isinstance(part, Try)]
    here = tried[0].configuration
    applied = ConfigurationApplied(at_s=0.0, requested=here, effective=here, in_force_s=0.0, took_s=0.0, why="")
    assert manager.on(applied) == ()
    windows, next_s, read_s = [], 1 / rate_hz, 0.1
    while not windows:
        if read_s <= next_s:
            event = Sampled(at_s=read_s, sensor="ina", rails_w={"total": 5.0})
            read_s += 0.1
        else:
            event = Heartbeat(at_s=next_s, app="a")
            next_s += 1 / rate_hz
        windows = [part.observation for part in manager.on(event) if isinstance(part, WindowClosed)]
    assert windows[0].power_samples >= 1
    assert windows[0].beats >= 1
    assert event.at_s <= max(60.0, 2 / rate_hz) + 0.1
    if rate_hz > 1.0:
        assert event.at_s <= 1.0
