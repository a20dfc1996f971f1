"""The exploration budget: what trials may take while idle, held against the true energy of a little world.

Not covered: which trials pay (test_improvement.py), the setting's way to the manager (test_parts.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.domain.events import AppJoined, AppLeft, BudgetChanged, Heartbeat, PhaseChanged, Sampled, Try, WindowClosed
from ceml.domain.improvement import improvement
from ceml.domain.manager import Phase, RuntimeManager
from ceml.domain.purse import Purse
from ceml.domain.response.overlap import overlap
from ceml.domain.values import Limits, Observation, Stay
from ceml.plugins.performance import performance
from tests.domain.test_manager import SPACE, World, mind, power_w, rate_hz, world


class Restless:
    """Two trials, a commitment, and then nothing but trials, as long as it is told."""

    def __init__(self, steps: float, commitment: float = 20.0) -> None:
        self.steps, self.commitment, self.asked = steps, commitment, 0

    def next(self, space, fit, score, observations, remaining_work, total_work) -> Stay:
        self.asked += 1
        if self.asked == 3 or (remaining_work == 0 and self.asked % 2):  # at times it has an answer that costs nothing
            return Stay(state=5, steps=self.commitment, commits=True, why="best measured")
        return Stay(state=(37 * self.asked) % 540, steps=self.steps, why="restless")


@dataclass
class Counted(World):
    """Keeps true joules and seconds between events since the first decision: in all, and on trial."""

    joules: list[float] = field(default_factory=lambda: [0.0, 0.0])
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    since_s: float = 0.0

    def give(self, event) -> None:
        manager = self.manager
        if isinstance(event, Sampled | Heartbeat):
            passed_s, self.since_s = event.at_s - self.since_s, event.at_s
            for sums, amount in ((self.joules, power_w(self.effective) * passed_s), (self.seconds, passed_s)):
                sums[0] += amount * (manager.decided is not None)
                sums[1] += amount * (manager.decided is not None and manager.phase is Phase.PROFILING)
        super().give(event)

    def share(self, sums: list[float]) -> float:
        return sums[1] / sums[0] if sums[0] else 0.0


def counted(*, total: float | None = None, **changes) -> Counted:
    joined = AppJoined(at_s=0.0, app="a", total_work=total)
    w = Counted(RuntimeManager(joined, SPACE, mind(**changes)))
    w.give(joined)
    return w


few = settings(max_examples=12, deadline=None)


@few
@given(st.sampled_from([0.01, 0.05, 0.3]), st.integers(1, 30))
def test_without_a_known_end_the_share_holds_at_every_moment(share, steps):
    w = counted(sampler=Restless(steps), exploration_budget=share)
    for _ in range(600):
        w.run(1)
        assert w.share(w.joules) <= share + 1e-9
    if steps + 1 < 0.5 * share * 500:
        assert len(w.heard(Try)) > 2  # what may be spent is spent


@few
@given(st.sampled_from([0.01, 0.05, 0.3]), st.integers(1, 30))
def test_with_a_known_end_the_share_holds_for_the_whole_run(share, steps):
    w = counted(sampler=Restless(steps), exploration_budget=share, total=1500)
    w.run(1500)
    assert w.share(w.joules) <= 1.02 * share  # the rest of the run was expected, not known
    assert len(w.heard(Try)) > 2 or steps + 1 > 0.5 * share * 1400


@few
@given(st.sampled_from([0.01, 0.05]), st.lists(st.sampled_from([4.0, 5.0, 6.0, 12.0]), min_size=1, max_size=8))
def test_only_a_budget_above_all_before_gives_the_rest_of_the_run_a_share_of_its_own(share, budgets):
    joined = AppJoined(at_s=0.0, app="a", total_work=1500)
    w = Counted(
        RuntimeManager(joined, SPACE, mind(sampler=Restless(5), exploration_budget=share), Limits(power_cap_w=4.0))
    )
    w.give(joined)
    wider = sum(cap_w > max([4.0, *budgets[:at]]) for at, cap_w in enumerate(budgets))
    w.run(300)
    for cap_w in budgets:
        w.give(BudgetChanged(at_s=w.at_s, limits=Limits(power_cap_w=cap_w)))
        w.run(1200 // len(budgets))
    assert w.share(w.joules) <= 1.05 * share * (1 + wider)


def test_without_power_it_is_a_share_of_time():
    w = counted(
        sampler=Restless(3),
        exploration_budget=0.05,
        total_rails=(),
        power_sensors=frozenset(),
        objective=performance(),  # one that needs no power: where no state has a cost nothing is tried
    )
    w.samples = False
    w.run(1500)
    assert 0.0 < w.share(w.seconds) <= 0.05


@pytest.mark.parametrize("total", [None, 1500])
def test_a_budget_of_zero_never_tries_again(total):
    w = world(sampler=Restless(1), exploration_budget=0.0, total=total)
    w.run(1500)
    assert len(w.heard(Try)) == 2
    assert w.manager.phase is Phase.IDLE
    assert w.effective == SPACE.configuration(5)


def test_the_first_profiling_is_not_bounded_and_another_program_has_another_first():
    sampler = Restless(30)
    w = world(sampler=sampler, exploration_budget=0.0)
    w.run(200)
    assert len(w.heard(Try)) == 2
    sampler.asked = 0
    w.slower = 3.0
    w.give(PhaseChanged(at_s=w.at_s, app="a", signal="rate", before=1.0, after=0.33))
    w.run(200)
    assert len(w.heard(Try)) == 5, "two, one that asks whether the old phase goes on, two"


def test_a_trial_in_which_steps_take_ever_longer_ends_when_the_budget_does():
    w = counted(sampler=Restless(5), exploration_budget=0.02)
    for slower in (1.0, 8.0, 64.0):
        w.slower = slower
        w.run(300)
        assert 0.0 < w.share(w.joules) <= 0.02 + 1e-9


@pytest.mark.parametrize("faster", [20, 500])
def test_each_trial_of_a_program_faster_than_its_sensor_holds_a_reading(faster):
    """While little was spent so far, little may be: half of a trial would end before any power is read."""
    w = counted(sampler=Restless(1), exploration_budget=0.01)
    read_s = 0.0
    for _ in range(40 * faster):
        w.at_s += 1.0 / rate_hz(w.effective) / faster
        if w.at_s >= read_s:
            read_s = 0.1 * (w.at_s // 0.1 + 1)
            w.give(Sampled(at_s=w.at_s, sensor="ina", rails_w={"total": power_w(w.effective)}))
        w.give(Heartbeat(at_s=w.at_s, app="a"))
    trials = [closed for closed in w.heard(WindowClosed) if closed.phase == "profiling"][2:]
    assert len(trials) >= 1
    assert min(closed.observation.power_samples for closed in trials) >= 1
    assert 0.0 < w.share(w.joules) <= 0.01 + 1e-9


def test_time_away_costs_nothing():
    purse = Purse(0.1, ())
    purse.open()
    purse.passed(0.0, trying=True)
    purse.passed(1.0, trying=True)
    purse.pause()
    purse.passed(1000.0, trying=True)
    purse.passed(1001.0, trying=False)
    assert (purse.spent, purse.on_trials) == (2.0, 1.0)


def test_coming_back_goes_on_where_it_was():
    w = world(sampler=Restless(3), exploration_budget=0.0)
    w.run(100)
    w.give(AppLeft(at_s=w.at_s, app="a"))
    assert w.manager.phase is Phase.RELEASED


@pytest.mark.parametrize("total", [None, 3000])
def test_idle_windows_sharpen_the_model_whether_or_not_the_end_is_known(total):
    w = world(sampler=improvement(assumed_steps=600.0), model=overlap(), total=total, exploration_budget=0.01)
    w.run(2500)
    long = [seen for seen in w.manager.reasoning.observations if seen.steps >= 50]
    assert len(long) >= 3
    assert all(isinstance(seen, Observation) for seen in long)
    assert w.effective in {seen.configuration for seen in w.manager.reasoning.observations}
    best = min((SPACE.configuration(s) for s in SPACE.states), key=lambda c: power_w(c) / rate_hz(c))
    assert power_w(w.effective) / rate_hz(w.effective) <= 1.10 * power_w(best) / rate_hz(best)
