"""The clock that a power limit leaves. Not covered: the model around it (test_overlap), choices on it (tests/bench)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Knob, KnobKind, KnobSpace
from ceml.domain.response.limiter import limited
from ceml.domain.response.solving import Board

LIMITS = np.log(np.linspace(0.1, 1.0, 60))
logits = st.floats(-3.0, 3.0)
demands = st.floats(-1.5, 0.5)


def moving(clock: np.ndarray, voltage: float) -> np.ndarray:
    """The share of the moving watts at a clock."""
    v, x = 1.0 / (1.0 + np.exp(-voltage)), np.exp(clock)
    return x * (1.0 - v + v * x**3)


@given(demands, logits, logits)
def test_a_higher_limit_never_lowers_the_clock_and_no_limit_overclocks(demand: float, floor: float, voltage: float):
    clock = limited(LIMITS, demand, floor, voltage).clock
    assert np.isfinite(clock).all()
    assert (np.diff(clock) >= -1e-9).all()
    assert (clock <= 1e-9).all()


@given(st.floats(-1.5, -0.7), st.floats(-3.0, 0.0), logits)
def test_a_limit_well_above_the_demand_does_nothing(demand: float, floor: float, voltage: float):
    assert limited(np.zeros(1), demand, floor, voltage).clock == pytest.approx(0.0, abs=0.01)


@given(demands, logits, logits)
def test_drawn_watts_are_never_above_the_limit_but_at_the_floor(demand: float, floor: float, voltage: float):
    most, share = np.exp(demand), 1.0 / (1.0 + np.exp(-floor))
    drawn = most * (share + (1.0 - share) * moving(limited(LIMITS, demand, floor, voltage).clock, voltage))
    assert (drawn <= most + 1e-9).all()
    clear = np.exp(LIMITS) > most * share + 0.15  # three times and more what rounds the corner at the floor
    assert (drawn[clear] <= np.exp(LIMITS)[clear] + 0.005).all()
    deep = clear & (np.exp(LIMITS) < 0.6 * most)  # far from both corners the limit is what is drawn
    assert drawn[deep] == pytest.approx(np.exp(LIMITS)[deep], rel=0.05)


def spaces() -> list[KnobSpace]:
    limit = Knob(name="power_limit_w", kind=KnobKind.POWER_LIMIT, levels=tuple(float(w) for w in range(100, 325, 25)))
    clock = Knob(name="cpu_hz", kind=KnobKind.FREQUENCY, levels=(1e9, 1.5e9, 2e9))
    other = Knob(name="gpu1_power_limit_w", kind=KnobKind.POWER_LIMIT, levels=(50.0, 80.0, 90.0))
    return [KnobSpace((limit,)), KnobSpace((clock, limit)), KnobSpace((clock, limit, other))]


@given(st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_the_slopes_of_the_physics_are_those_of_its_values(which: int, seed: int):
    board = Board(spaces()[which])
    physics, inputs, nudge = board.physics, board.everywhere.inputs, 1e-6
    theta = physics.mean + np.sqrt(physics.variance) * np.random.default_rng(seed).uniform(-2.0, 2.0, len(physics.mean))
    theta[:2] = 0.0
    _, slopes = physics.evaluate(theta, inputs)
    for at, name in enumerate(physics.names):
        step = np.zeros(len(theta))
        step[at] = nudge
        above, below = (physics.evaluate(theta + sign * step, inputs, slopes=False)[0] for sign in (1.0, -1.0))
        assert slopes[:, at] == pytest.approx((above - below) / (2.0 * nudge), abs=1e-5), name


def test_its_numbers_are_told_as_shares():
    physics = Board(spaces()[0]).physics
    told = {parameter.name: parameter.value for parameter in physics.parameters(physics.mean)}
    assert 0.0 < told["power_limit.demand"] < 1.5
    assert 0.0 < told["power_limit.floor"] < 1.0
