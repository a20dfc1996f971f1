"""Which states a decision looks at: all of a small space, of a large one those that matter.

Not covered: how long it takes (benchmarks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from ceml.domain import candidates as room
from ceml.domain import trials
from ceml.domain.budget import PowerCap
from ceml.domain.candidates import candidates, sampled
from ceml.domain.contracts import Score
from ceml.domain.improvement import improvement
from ceml.domain.knobs import MOST_STATES, Knob, KnobKind, KnobSpace
from ceml.domain.response.overlap import overlap
from ceml.domain.search import exhaustive
from ceml.domain.values import FitStatus, Knowledge, Observation, Prediction, Remembered, Situation
from ceml.errors import SettingsError
from ceml.plugins.edp import edp
from ceml.plugins.energy import energy

CAP_W = 10.0


@dataclass
class Smooth:
    """A smooth program: overlapping device times, watts by clocks; every number drawn from a seed."""

    space: KnobSpace
    seed: int
    status: FitStatus = FitStatus.GOOD
    sentence: str = "known"
    asked: list[int] = field(default_factory=list)

    def predict(self, states) -> Prediction:
        self.asked.append(len(states))
        rng, shares = np.random.default_rng(self.seed), {}
        values = self.space.shares(states)
        for axis in np.argsort([knob.name for knob in self.space.knobs]).tolist():
            shares[axis] = values[:, axis]
        p, fixed, overlapped, watts = rng.uniform(1.2, 6.0), rng.uniform(0.01, 0.1), 0.0, rng.uniform(1.0, 4.0)
        for share in shares.values():
            overlapped = overlapped + (rng.uniform(0.05, 1.0) / share ** rng.uniform(0.5, 1.2)) ** p
            watts = watts + rng.uniform(0.1, 1.0) * share + rng.uniform(0.5, 5.0) * share ** rng.uniform(1.5, 3.0)
        return Prediction(rate_hz=1.0 / (fixed + overlapped ** (1.0 / p)), power_w=watts)

    def parameters(self) -> tuple[()]:
        return ()


def clock(device: str, levels: int) -> Knob:
    return Knob(name=f"{device}_hz", levels=tuple((1e8 * np.linspace(2, 20, levels)).tolist()))


def space_of(*levels: int, present=None) -> KnobSpace:
    return KnobSpace([clock(f"d{number}", count) for number, count in enumerate(levels)], present)


def test_up_to_the_bound_these_are_the_very_states_of_the_space() -> None:
    space = space_of(10, 100, 100)
    fit = Smooth(space, 0)
    assert candidates(space, Score(fit, energy(), (), Situation())) is space.states
    assert sampled(space) is space.states
    assert not fit.asked


@pytest.mark.parametrize("seed", range(50))
def test_search_of_candidates_is_as_good_as_exhaustive_where_both_run(seed: int, monkeypatch: pytest.MonkeyPatch):
    """Never worse than 0.5 %: smooth problems of 3 to 5 knobs, every other one under a cap, every third with holes."""
    rng = np.random.default_rng(seed)
    levels = [(40, 25, 30), (12, 14, 13, 10), (200, 15, 10), (8, 6, 9, 7, 8)][seed % 4]
    present = rng.random(math.prod(levels)) > 0.2 if seed % 3 == 0 else None
    space = space_of(*levels, present=present)
    limits = (PowerCap(float(np.median(Smooth(space, seed).predict(space.states).power_w))),) if seed % 2 else ()
    score = Score(Smooth(space, seed), (energy, edp)[seed % 2](), limits, Situation())
    best = exhaustive().best(space, score, space.max_state)
    assert best.evaluated == len(space)
    monkeypatch.setattr(room, "EXACT", 1000)
    monkeypatch.setattr(room, "SAMPLE", 500)
    near = exhaustive().best(space, score, space.max_state)
    assert near.evaluated < best.evaluated
    assert near.feasible == best.feasible
    assert near.cost <= best.cost * 1.005


def test_of_a_million_states_few_are_looked_at_and_the_best_is_among_them() -> None:
    space = space_of(100, 100, 100)
    fit = Smooth(space, 3)
    score = Score(fit, energy(), (), Situation())
    found = candidates(space, score, (5,))
    assert 5 in found
    assert (np.diff(found) > 0).all()
    assert sum(fit.asked) < len(space) / 5
    assert score(found).cost.min() <= score(np.arange(len(space))).cost.min() * 1.005


def test_the_same_seed_gives_the_same_candidates_and_another_one_others() -> None:
    space = space_of(60, 50, 40)
    score = Score(Smooth(space, 1), energy(), (), Situation())
    one, same, other = (candidates(space, score, seed=seed) for seed in (0, 0, 1))
    assert one.tolist() == same.tolist()
    assert one.tolist() != other.tolist()


def test_the_order_of_knobs_changes_no_choice() -> None:
    knobs = [clock("a", 60), clock("b", 50), clock("c", 40)]
    chosen = []
    for order in ((0, 1, 2), (2, 0, 1)):
        space = KnobSpace([knobs[at] for at in order])
        score = Score(Smooth(space, 7), energy(), (), Situation())
        chosen.append(space.configuration(exhaustive().best(space, score, space.max_state).state))
    assert chosen[0] == chosen[1]


def test_absent_states_are_never_candidates() -> None:
    present = np.random.default_rng(0).random(200 * 50 * 40) > 0.5
    space = space_of(200, 50, 40, present=present)
    assert len(space) > room.EXACT
    found = candidates(space, Score(Smooth(space, 2), energy(), (), Situation()), (int(np.flatnonzero(~present)[0]),))
    assert present[found].all()
    assert {space.max_state, space.min_state} <= set(found.tolist())


def test_where_nothing_is_feasible_the_least_violation_is_found() -> None:
    space = space_of(60, 50, 40)
    fit = Smooth(space, 4)
    least_w = fit.predict(space.states).power_w.min()
    score = Score(fit, energy(), (PowerCap(float(least_w) / 2.0),), Situation())
    choice = exhaustive().best(space, score, space.max_state)
    assert choice.state == space.min_state
    assert not choice.feasible


def test_a_product_that_cannot_be_held_is_refused_with_the_remedy() -> None:
    knobs = [clock(name, 1000) for name in "abcdefgh"]  # 10^24: does not even fit into a machine word
    with pytest.raises(SettingsError, match=r"a_hz 1000.*10{24} configurations.*at most 5000000 .*--limit KNOB="):
        KnobSpace(knobs)
    assert len(KnobSpace([clock("a", 1000), clock("b", 1000), clock("c", MOST_STATES // 10**6)])) == MOST_STATES


def see(space: KnobSpace, truth: Smooth, state: int) -> Observation:
    told = truth.predict(np.array([state]))
    rate_hz, power_w = float(told.rate_hz[0]), float(told.power_w[0])
    return Observation(
        configuration=space.configuration(state),
        start_s=0.0,
        end_s=20.0 / rate_hz,
        beats=20,
        steps=20.0,
        rate_hz=rate_hz,
        power_w=power_w,
        power_samples=20,
        step_cv=0.02,
        power_cv=0.025,
    )


@pytest.mark.parametrize("cap_w", [None, CAP_W])
def test_leaving_out_early_what_cannot_pay_changes_no_trial(cap_w: float | None, monkeypatch: pytest.MonkeyPatch):
    """In 24 000 states: with the bound on a trial's worth, and without."""
    space = space_of(40, 30, 20)
    truth, model, sampler = Smooth(space, 6), overlap(), improvement()
    limits = () if cap_w is None else (PowerCap(cap_w),)
    seen: list[Observation] = []
    for _ in range(12):
        fit = model.fit(space, seen)
        score = Score(fit, energy(), limits, Situation())
        stays = []
        for together in (len(space), 1000):
            monkeypatch.setattr(trials, "TOGETHER", together)
            stays.append(sampler.next(space, fit, score, seen, 2000.0, 2000.0))
        assert repr(stays[0]) == repr(stays[1])  # NaN equals itself only there
        assert stays[0] is not None
        if stays[0].commits:
            break
        seen.append(see(space, truth, stays[0].state))
    assert len(seen) > 3


def test_what_is_remembered_of_an_absurd_space_is_passed_over() -> None:
    space = space_of(5, 5)
    absurd = Remembered(app="old", knobs=tuple(clock(name, 1000) for name in "abcdefgh"), observations=())
    fit = overlap().fit(space, (), prior=Knowledge(programs=(absurd,)))
    assert fit.experience == 0.0


@pytest.mark.parametrize("cap_w", [None, CAP_W])
def test_the_sampler_works_in_a_million_states_and_ends_near_the_best(cap_w: float | None) -> None:
    cores = Knob(name="cpu_cores", levels=tuple(range(1, 9)), kind=KnobKind.COUNT)
    space = KnobSpace([cores, clock("cpu", 125), clock("gpu", 100), clock("mem", 10)])
    truth, model, sampler = Smooth(space, 5), overlap(), improvement()
    limits = () if cap_w is None else (PowerCap(cap_w),)
    seen: list[Observation] = []
    for _ in range(20):
        fit = model.fit(space, seen)
        stay = sampler.next(space, fit, Score(fit, energy(), limits, Situation()), seen, 2000.0, 2000.0)
        assert stay is not None
        if stay.commits:
            break
        seen.append(see(space, truth, stay.state))
    else:
        pytest.fail("never committed")
    every = Score(truth, energy(), limits, Situation())(space.states)
    cost = np.where(every.violation <= 0.0, every.cost, np.inf)
    assert every.violation[stay.state] <= 0.02
    assert cost.min() <= every.cost[stay.state] * 1.02
    assert every.cost[stay.state] <= cost.min() * 1.1
