"""Windows of one application, trials and commitments. Not covered: one window (test_windows.py), stays, the manager."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ceml.domain.events import Heartbeat, Sampled
from ceml.domain.improvement import improvement
from ceml.domain.knobs import Configuration
from ceml.domain.measuring import Measuring
from ceml.domain.mind import Mind
from ceml.domain.response.overlap import overlap
from ceml.domain.search import exhaustive
from ceml.domain.values import NAN, Observation, Stay
from ceml.plugins.energy import energy

HERE, THERE = Configuration({"gpu_hz": 1e9}), Configuration({"gpu_hz": 5e8})


def measuring(**changes) -> Measuring:
    mind = Mind(
        objective=energy(),
        model=overlap(),
        sampler=improvement(),
        search=exhaustive(),
        total_rails=("total",),
        power_sensors=frozenset({"meter"}),
        **changes,
    )
    return Measuring(mind)


def live(m: Measuring, from_s: float, seconds: float, *, step_s: float = 0.1, watts: float = 5.0) -> list[Observation]:
    """Beats and samples for so long; the idle windows that closed meanwhile."""
    closed: list[Observation] = []
    for number in range(1, round(seconds / step_s) + 1):
        at_s = from_s + number * step_s
        m.beat(Heartbeat(at_s=at_s, app="a", beat=number))
        if m.window is not None:
            m.window.sample(Sampled(at_s=at_s, sensor="meter", rails_w={"total": watts}))
        seen = m.next_idle(at_s)
        closed += [] if seen is None else [seen]
    return closed


def test_idle_windows_follow_each_other_without_a_gap_and_lose_no_step():
    m = measuring()
    m.open(HERE, 0.0)
    closed = live(m, 0.0, 30.0)
    assert len(closed) > 5
    assert all(one.end_s == pytest.approx(other.start_s) for one, other in pairwise(closed))
    assert sum(seen.steps for seen in closed) == pytest.approx(m.committed_steps)
    assert m.idle == closed[-1]


def test_with_a_rhythm_windows_begin_anew_and_hold_whole_periods_without_a_gap():
    m = measuring()
    m.open(HERE, 0.0)
    at_s, closed, found_s = 0.0, [], []
    for number in range(1, 400):
        at_s += 0.2 if number % 4 == 0 else 0.1
        if m.beat(Heartbeat(at_s=at_s, app="a", beat=number)):
            found_s.append(at_s)
            closed.clear()
            assert m.committed_steps == 0.0
        m.window.sample(Sampled(at_s=at_s, sensor="meter", rails_w={"total": 5.0}))
        if (seen := m.next_idle(at_s)) is not None:
            closed.append(seen)
    assert len(found_s) == 1
    assert closed[0].start_s == found_s[0]
    assert all(one.end_s == pytest.approx(other.start_s) for one, other in pairwise(closed))
    assert all(each.beats % 4 == 0 and each.rate_hz == pytest.approx(8.0) for each in closed)
    m.forget()
    assert m.rhythm.beats == 1


def test_a_commitment_joins_the_observations_as_one():
    m, observations = measuring(), []
    m.open(HERE, 0.0)
    closed = live(m, 0.0, 30.0)
    assert m.conclude(observations)
    (whole,) = observations
    assert whole.steps == pytest.approx(sum(seen.steps for seen in closed))
    assert whole.rate_hz == pytest.approx(10.0)
    assert m.committed_steps == 0.0
    assert not m.conclude(observations)


def test_turns_join_as_one_a_state_and_the_time_of_the_other_is_in_neither():
    m, observations, at_s = measuring(), [], 0.0
    for _ in range(6):
        for configuration, step_s, watts in ((HERE, 0.1, 8.0), (THERE, 0.2, 3.0)):
            m.open(configuration, at_s)
            live(m, at_s, 0.8, step_s=step_s, watts=watts)
            at_s += 0.8
            seen = m.end_turn()
            assert seen is not None
            assert seen.configuration == configuration
            assert m.window is None
    m.conclude(observations)
    fast, slow = observations
    assert (fast.configuration, slow.configuration) == (HERE, THERE)
    assert fast.rate_hz == pytest.approx(10.0)
    assert slow.rate_hz == pytest.approx(5.0)
    assert (fast.power_w, slow.power_w) == (8.0, 3.0)
    assert fast.counted_s == pytest.approx(6 * 0.7)


def test_a_turn_without_a_step_shows_nothing():
    m = measuring()
    m.open(HERE, 0.0)
    assert m.end_turn() is None
    assert m.end_turn() is None


def test_a_trial_answers_when_it_holds_enough_or_has_lasted_too_long():
    m = measuring()
    m.open(HERE, 0.0)
    stay = Stay(state=0, steps=6, power_samples=3, longest_s=2.0)
    assert not m.answers(0.0, stay, lambda: NAN)
    for number in range(1, 4):
        m.beat(Heartbeat(at_s=number * 0.1, app="a", beat=number))
    assert not m.answers(0.3, stay, lambda: NAN)
    assert m.counts
    assert not m.answers(2.0, stay, lambda: NAN), "a sample's time: beats of the same moment may not have been read yet"
    assert m.answers(2.5, stay, lambda: NAN)
    m.beat(Heartbeat(at_s=2.0, app="a", beat=4))
    assert m.answers(2.0, stay, lambda: NAN)


def test_a_trial_that_may_hold_a_stall_alone_goes_on_until_that_shows():
    m = measuring()
    m.open(HERE, 0.0)
    stay = Stay(state=0, power_samples=0, longest_s=1.0)
    for number, at_s in enumerate((0.1, 2.1, 2.2, 2.3)):
        m.beat(Heartbeat(at_s=at_s, app="a", beat=number))
        assert m.answers(at_s, stay, lambda: 4.0) is (number == 3), "two steps in two seconds are far fewer than eight"
        assert m.answers(at_s + 5.0, stay, lambda: NAN) is (number > 0), "nobody knows better"
    assert m.close(m.window).rate_hz == pytest.approx(10.0)


def test_a_lost_sensor_makes_blind_until_it_is_back():
    m = measuring()
    assert m.powered
    m.lose("other")
    assert not m.blind
    m.lose("meter")
    assert m.blind
    assert not m.powered
    m.regain("meter")
    assert m.powered


def test_what_is_shut_counts_no_more():
    m = measuring()
    m.open(HERE, 0.0)
    live(m, 0.0, 5.0)
    m.shut()
    assert m.window is None
    assert m.committed_steps == 0.0
    assert not m.counts
    m.beat(Heartbeat(at_s=9.0, app="a", beat=99))
    assert m.next_idle(9.0) is None
