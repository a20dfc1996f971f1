"""Two states in turn, against brute force over all pairs and shares. Not covered: whose turn it is (test_turns.py)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.budget import Deadline, EnergyAllowance, MaxSlowdown, PowerCap, Target, TemperatureCap
from ceml.domain.contracts import Score
from ceml.domain.knobs import Knob, KnobSpace
from ceml.domain.schedule import GAIN, LOST, SHARES, better, mixed, of_mean
from ceml.domain.search import exhaustive
from ceml.domain.values import FitStatus, Prediction, Situation
from ceml.plugins.energy import energy
from ceml.plugins.performance import performance

rates = st.floats(0.5, 20.0)
watts = st.floats(1.0, 30.0)
boards = st.lists(st.tuples(rates, watts), min_size=2, max_size=6)


@dataclass(frozen=True)
class Known:
    """A model that knows rate and power of every state, all to the same standard deviation."""

    rate_hz: np.ndarray
    power_w: np.ndarray
    sd: float | None = None
    status: FitStatus = FitStatus.GOOD
    sentence: str = "known"

    def predict(self, states) -> Prediction:
        covariance = None if self.sd is None else np.tile(np.eye(2) * self.sd**2, (len(states), 1, 1))
        return Prediction(rate_hz=self.rate_hz[states], power_w=self.power_w[states], covariance=covariance)

    def parameters(self) -> tuple[()]:
        return ()


def asked(board, *constraints, objective=None, left=None, sd=None, surely=0.5, settle_s=0.0):
    knob = Knob(name="gpu_hz", levels=tuple(1e8 * (1 + at) for at in range(len(board))), settle_s=settle_s)
    space = KnobSpace([knob])
    fit = Known(np.array([rate for rate, _ in board]), np.array([power for _, power in board]), sd)
    now = Situation(remaining_work=left, spent_j=0.0, rate_at_max_hz=board[-1][0])
    score = Score(fit, objective or energy(), constraints, now, surely)
    return space, score, exhaustive().best(space, score, space.max_state)


def brute_force(board, target_hz: float, kept) -> float:
    """Least energy per step over all pairs of states and 2000 shares of the time, at a rate of at least the target."""
    shares, least = np.linspace(0.0, 1.0, 2001), np.inf
    for (rate_1, power_1), (rate_2, power_2) in product(board, repeat=2):
        if kept(power_1) and kept(power_2):
            rate = shares * rate_1 + (1 - shares) * rate_2
            cost = (shares * power_1 + (1 - shares) * power_2) / rate
            least = min(least, float(np.min(cost[rate >= target_hz], initial=np.inf)))
    return least


@given(boards, st.floats(0.5, 20.0))
def test_no_pair_of_states_meets_a_target_for_less(board, target_hz):
    space, score, choice = asked(board, Target(target_hz))
    mix = better(space, score, choice)
    constant = choice.cost if choice.feasible else np.inf
    found = constant if mix is None else float(mix.scored.cost[0])
    least = brute_force(board, target_hz, lambda power: True)
    assert found <= least * (1 + GAIN + 2 / SHARES**2) or not np.isfinite(least)


@given(boards, st.floats(0.5, 20.0), st.floats(1.0, 30.0))
def test_a_power_cap_is_kept_by_both_states_at_each_instant(board, target_hz, cap_w):
    space, score, choice = asked(board, Target(target_hz), PowerCap(cap_w))
    mix = better(space, score, choice)
    if mix is not None:
        assert max(board[mix.state][1], board[mix.other][1]) <= cap_w
        least = brute_force(board, target_hz, lambda power: power <= cap_w)
        assert float(mix.scored.cost[0]) == pytest.approx(least, rel=GAIN)


@given(boards, st.floats(0.5, 20.0))
def test_what_is_chosen_keeps_every_limit_and_is_worth_its_turns(board, target_hz):
    space, score, choice = asked(board, Target(target_hz), settle_s=0.05)
    mix = better(space, score, choice)
    if mix is not None:
        assert mix.scored.violation[0] == 0.0
        assert mix.scored.predicted.rate_hz[0] >= target_hz * (1 - 1e-12)
        assert 0.5 <= mix.share < 1.0
        assert mix.state != mix.other
        assert 2 * 0.05 <= LOST * mix.period_s * (1 + 1e-9)
        assert not choice.feasible or mix.scored.cost[0] < choice.cost


@given(boards, st.floats(1.0, 100.0))
def test_under_a_cap_alone_no_schedule_is_made(board, cap_w):
    space, score, choice = asked(board, PowerCap(cap_w), TemperatureCap(80.0), objective=performance())
    assert better(space, score, choice) is None


def test_scaling_watts_changes_no_schedule():
    board = [(1.0, 2.0), (2.0, 3.0), (4.0, 9.0)]
    one = better(*asked(board, Target(3.0)))
    other = better(*asked([(rate, 10 * power) for rate, power in board], Target(3.0)))
    assert one is not None
    assert other is not None
    assert one[:4] == other[:4]


def test_a_target_between_two_states_is_met_exactly():
    mix = better(*asked([(1.0, 2.0), (2.0, 3.0), (4.0, 9.0)], Target(2.5)))
    assert mix is not None
    assert (mix.state, mix.other) == (1, 2)
    assert mix.share == pytest.approx(0.75, abs=1e-3)
    assert mix.scored.predicted.rate_hz[0] == pytest.approx(2.5, rel=1e-3)
    assert mix.scored.cost[0] == pytest.approx((0.75 * 3 + 0.25 * 9) / 2.5, rel=1e-3)


@pytest.mark.parametrize(
    ("limit", "objective", "rate_hz"),
    [
        (MaxSlowdown(0.6), energy(), 2.5),
        (Deadline(40.0), energy(), 2.5),
        (EnergyAllowance(165.0), performance(), 2.222),  # 1.65 J a step: s 3 + (1 - s) 9 W at 4 - 2 s steps/s
    ],
)
def test_each_limit_on_a_mean_may_lie_between_two_states(limit, objective, rate_hz):
    mix = better(*asked([(1.0, 2.0), (2.0, 3.0), (4.0, 9.0)], limit, objective=objective, left=100.0))
    assert of_mean(limit)
    assert mix is not None
    assert mix.scored.predicted.rate_hz[0] == pytest.approx(rate_hz, rel=2e-3)


def test_two_limits_that_no_single_state_keeps_are_kept_in_turns():
    slow_and_frugal, fast_and_hungry = (1.0, 1.0), (3.0, 9.0)
    asking = asked([slow_and_frugal, fast_and_hungry], Deadline(60.0), EnergyAllowance(250.0), left=100.0)
    assert not asking[2].feasible
    mix = better(*asking)
    assert mix is not None
    assert mix.scored.violation[0] == 0.0


def test_a_state_that_nobody_knows_takes_no_turns():
    board = [(1.0, 2.0), (2.0, 3.0), (4.0, 9.0)]
    assert better(*asked(board, Target(2.5), sd=0.02, surely=0.95)) is not None
    assert better(*asked(board, Target(2.5), sd=0.2, surely=0.95)) is None


def test_the_less_is_known_the_further_the_mean_keeps_from_its_limit():
    board = [(1.0, 2.0), (2.0, 3.0), (4.0, 9.0)]
    rates = [
        float(mix.scored.predicted.rate_hz[0])
        for sd in (0.0, 0.01, 0.03)
        if (mix := better(*asked(board, Target(2.5), sd=sd, surely=0.95))) is not None
    ]
    assert len(rates) == 3
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(2.5, rel=1e-3)
    assert rates[2] == pytest.approx(2.5 * np.exp(1.645 * 0.03), rel=5e-3)


def test_too_short_a_rest_of_the_run_is_not_worth_turns():
    board = [(1.0, 2.0), (2.0, 3.0), (4.0, 9.0)]
    assert better(*asked(board, Target(2.5), left=1000.0)) is not None
    assert better(*asked(board, Target(2.5), left=10.0)) is None


def test_slow_knobs_make_long_turns_and_too_slow_ones_none():
    board = [(1.0, 2.0), (2.0, 3.0), (4.0, 9.0)]
    quick, slow = (better(*asked(board, Target(2.5), settle_s=settle_s)) for settle_s in (0.001, 0.1))
    assert quick is not None
    assert slow is not None
    assert slow.period_s > quick.period_s


def test_without_power_there_is_no_schedule():
    space, score, choice = asked([(1.0, 2.0), (2.0, 3.0)], Target(1.5), objective=performance())
    blind = Score(Known(np.array([1.0, 2.0]), np.array([np.nan, np.nan])), performance(), score.constraints, score.now)
    assert better(space, blind, choice) is None


@given(rates, watts, rates, watts, st.floats(0.0, 1.0))
def test_a_mean_lies_between_its_states(rate_1, power_1, rate_2, power_2, share):
    def one(rate, power):
        covariance = np.array([[[1e-4, 0.0], [0.0, 4e-4]]])
        return Prediction(
            rate_hz=np.array([rate]),
            power_w=np.array([power]),
            rail_w={"gpu": np.array([power / 2])},
            covariance=covariance,
        )

    mean = mixed(one(rate_1, power_1), one(rate_2, power_2), np.array([share]))
    assert min(rate_1, rate_2) * (1 - 1e-9) <= mean.rate_hz[0] <= max(rate_1, rate_2) * (1 + 1e-9)
    assert mean.rail_w["gpu"][0] == pytest.approx(mean.power_w[0] / 2)
    assert mean.covariance is not None
    assert np.linalg.eigvalsh(mean.covariance[0]).min() > 0.0
