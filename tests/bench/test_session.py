"""States held on a plant without the runtime around them. Not covered: which states are asked for (test_rivals)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ceml.bench.play import play
from ceml.bench.score import score
from ceml.bench.session import HOLD_STEPS, Conditions, Session
from ceml.domain.contracts import Score
from ceml.domain.knobs import Knob, KnobSpace
from ceml.domain.values import Situation
from ceml.plant.board import jetson_tx2
from ceml.plant.machine import Plant
from ceml.platforms.played import played
from ceml.plugins.energy import energy
from ceml.sources import load

TX2 = jetson_tx2("lstm")
CPU, GPU = (Knob(name=name, levels=(1e8, 2e8, 3e8)) for name in ("cpu_hz", "gpu_hz"))  # settle at once
SPACE = KnobSpace((CPU, GPU), np.array([True, True, True, True, False, True, True, True, True]))
STEP_S = np.where(SPACE.present, np.array([0.9, 0.8, 0.7, 0.6, 1.0, 0.5, 0.4, 0.3, 0.2]), np.nan)
POWER_W = np.where(SPACE.present, np.array([1.0, 1.5, 2.5, 1.2, 1.0, 3.0, 2.0, 4.0, 8.0]), np.nan)
PLANT = Plant(space=SPACE, workload="w", machine="m", step_s=STEP_S, power_w=POWER_W, rail_w={"total": POWER_W})
QUIET = Conditions(steps=200, noise_time=0.0, noise_power=0.0)


def held(plant: Plant, states: list[int], conditions: Conditions, otherwise: int | None = None) -> Session:
    def trials():
        for state in states:  # noqa: UP028 - a list cannot be sent what was measured
            yield state

    judge = Score(None, energy(), (), Situation())  # type: ignore[arg-type]  # only measurements are scored
    session = Session(plant, trials(), score=judge, otherwise=plant.space.max_state if otherwise is None else otherwise)
    session.run(conditions)
    return session


def figures(session: Session):
    commitments = () if session.kept is None else (session.kept,)
    return score(session.machine, objective=energy(), objective_is_energy=True, commitments=commitments)


@given(st.sampled_from(SPACE.states.tolist()), st.integers(0, 99), st.integers(1, 40))
def test_staying_in_one_state_takes_its_energy_per_step_whatever_the_noise(state: int, seed: int, steps: int):
    got = figures(held(PLANT, [], Conditions(steps=steps, seed=seed), otherwise=state))
    assert got.run_energy_j == pytest.approx(steps * STEP_S[state] * POWER_W[state])
    assert got.states_tried == 1


@given(st.lists(st.sampled_from(SPACE.states.tolist()), min_size=1, max_size=9), st.integers(0, 99))
def test_each_state_is_held_for_twenty_steps_and_the_least_measured_is_kept(states: list[int], seed: int):
    session = held(PLANT, states, Conditions(steps=200, seed=seed))
    least = min(session.tried, key=lambda tried: tried.cost)
    assert session.kept == least.state
    assert [tried.state for tried in session.tried] == states
    truth = STEP_S * POWER_W
    parts = HOLD_STEPS * sum(truth[states]) + (200 - HOLD_STEPS * len(states)) * truth[least.state]
    assert figures(session).run_energy_j == pytest.approx(parts)


def test_without_noise_what_is_measured_is_true():
    session = held(PLANT, [0, 2, 8], QUIET)
    for tried in session.tried:
        assert tried.cost == pytest.approx(STEP_S[tried.state] * POWER_W[tried.state])
    assert session.kept == 0


@hypothesis_settings(max_examples=8)
@given(st.sampled_from(TX2.space.states.tolist()), st.integers(0, 99))
def test_the_program_and_its_noise_are_those_of_play(state: int, seed: int):
    """The runtime, left with one state only, does what a session that stays there does: to the last digit."""
    conditions = Conditions(steps=120, seed=seed)
    only = np.zeros(len(TX2.space.present), dtype=np.bool_)
    only[state] = True
    platform = replace(played(TX2, steps=120, seed=seed), space=KnobSpace(TX2.space.knobs, only))
    theirs = play(load(None, {"seed": seed}, {}), steps=120, platform=platform, timed=False).figures
    ours = figures(held(TX2, [], conditions, otherwise=state))
    assert (ours.run_s, ours.run_energy_j, ours.states_tried) == (
        theirs.run_s,
        theirs.run_energy_j,
        theirs.states_tried,
    )
    assert ours.run_excess == theirs.run_excess
    assert ours.regret == theirs.regret


def test_a_state_whose_power_was_never_read_is_not_kept():
    slow = replace(QUIET, sensor_period_s=1000.0)
    session = held(PLANT, [0, 1], slow)  # read once, at the very start
    assert [np.isfinite(tried.cost) for tried in session.tried] == [True, False]
    assert session.kept == 0
    assert held(PLANT, [8, 0], replace(slow, steps=100), otherwise=5).kept == 8


def test_a_program_that_ends_before_keeps_nothing():
    session = held(PLANT, [0, 1, 2], replace(QUIET, steps=50))
    assert session.kept is None
    assert len(session.tried) == 2
    assert figures(session).chosen is None


def test_a_plant_without_power_measures_no_energy():
    plant = replace(PLANT, power_w=np.full(9, np.nan), rail_w={})
    assert held(plant, [0, 1], QUIET, otherwise=7).kept == 7
