"""Laws of commitments through the real manager, windows and default plugins, on random plants that stall or drift.

Not covered: figures on measured boards (the bench), what exactly a stall is (test_stalls.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.domain.events import (
    AppJoined,
    AppLeft,
    ConfigurationApplied,
    Decided,
    Heartbeat,
    ModelFitted,
    Release,
    RhythmFound,
    Sampled,
    Try,
    Use,
    WindowClosed,
)
from ceml.domain.improvement import improvement
from ceml.domain.knobs import Configuration
from ceml.domain.manager import RuntimeManager
from ceml.domain.response.overlap import overlap
from ceml.domain.values import Knowledge, Remembered
from tests.domain.test_improvement import SPACE, plant
from tests.domain.test_manager import mind

PERIOD_S = 0.1
IDLE_W = 0.5  # while it stalls


@dataclass
class Stalling:
    """A plant with noise whose steps stall now and then, for seconds; power is read at 10 Hz."""

    manager: RuntimeManager
    seconds: np.ndarray
    watts: np.ndarray
    rng: np.random.Generator
    share: float
    factors: list[float] = field(default_factory=lambda: [1.0])  # how long steps take, over and over
    drift: float = 0.0  # by how much steps grow longer as the board warms up, within a minute or so
    at_s: float = 0.0
    read_s: float = 0.0
    state: int = SPACE.max_state
    rhythms: list[RhythmFound] = field(default_factory=list)
    commitments: list[tuple[Configuration, ModelFitted, list]] = field(default_factory=list)

    def give(self, event) -> None:
        fitted = None
        for part in self.manager.on(event):
            if isinstance(part, ModelFitted):
                fitted = part
            if isinstance(part, RhythmFound):
                self.rhythms.append(part)
            if isinstance(part, Decided):
                seen = list(self.manager.reasoning.observations)
                self.commitments.append((part.configuration, fitted, seen))
            if isinstance(part, Try | Use):
                self.state = SPACE.find(part.configuration)
                self.give(
                    ConfigurationApplied(
                        at_s=self.at_s,
                        requested=part.configuration,
                        effective=part.configuration,
                        in_force_s=self.at_s,
                        took_s=0.0,
                        why="",
                    )
                )

    def run(self, beats: int) -> None:
        for beat in range(beats):
            stalls = self.rng.random() < self.share
            warm = 1.0 + self.drift * (1.0 - np.exp(-self.at_s / 60.0))
            factor = self.factors[beat % len(self.factors)] / np.mean(self.factors) * self.rng.normal(1.0, 0.02)
            step_s = float(self.seconds[self.state] * warm * factor)
            length_s = step_s * self.rng.uniform(5.0, 50.0) if stalls else step_s
            end_s = self.at_s + length_s
            while self.read_s < end_s:
                watts = IDLE_W if stalls else self.watts[self.state] * self.rng.normal(1.0, 0.025)
                self.at_s = max(self.read_s, self.at_s)
                self.give(Sampled(at_s=self.read_s, sensor="ina", rails_w={"total": watts}))
                self.read_s += PERIOD_S
            self.at_s = end_s
            self.give(Heartbeat(at_s=end_s, app="a"))


def run(seed: int, share: float, *, beats: int = 700, programs: tuple[Remembered, ...] = (), **more) -> Stalling:
    seconds, watts = plant(SPACE, seed)
    joined = AppJoined(at_s=0.0, app="a", total_work=float(beats))
    knowledge = Knowledge(programs=programs)
    manager = RuntimeManager(
        joined, SPACE, mind(sampler=improvement(), model=overlap(), exploration_budget=0.01, knowledge=knowledge)
    )
    w = Stalling(manager, seconds, watts, np.random.default_rng(seed), share, **more)
    w.give(joined)
    w.run(beats)
    return w


seeds = st.integers(0, 2**16)
few = settings(max_examples=10, deadline=None)


@few
@given(seeds, st.sampled_from([0.0, 0.01, 0.03]))
def test_no_commitment_is_worse_than_the_best_measured_state_by_more_than_the_stated_doubt(seed, share):
    w = run(seed, share)
    assert w.commitments
    for configuration, fitted, seen in w.commitments:
        tried = np.array(sorted({SPACE.find(each.configuration) for each in seen}))
        predicted = fitted.fit.predict(tried)
        chosen = np.flatnonzero(tried == SPACE.find(configuration))
        assert len(chosen) == 1  # measured before it is trusted
        doubt = np.sqrt(predicted.covariance.sum(axis=(1, 2)))
        cost = np.log(predicted.energy_j)
        assert cost[chosen[0]] - cost.min() <= 2.0 * (doubt[chosen[0]] + doubt.max())


@few
@given(seeds, st.sampled_from([0.01, 0.03]))
def test_what_is_measured_is_the_truth_though_steps_stall(seed, share):
    """Within six standard errors for windows of several beats, or their scatter says so; of fewer, at all plausible.

    Stalls that happen to take most of the samples of a short run are taken for the program's own.
    """
    w = run(seed, share)
    first = w.manager.reasoning.observations[0]
    for each in w.manager.reasoning.observations:
        state = SPACE.find(each.configuration)
        assert each.beats == 0 or each.rate_hz * w.seconds[state] > 1.0 / 3.0 or each is first
        if each.beats >= 5:
            cv = each.step_cv if each.step_cv > 0.5 else 0.02
            assert abs(each.rate_hz * w.seconds[state] - 1.0) <= 6.0 * cv / np.sqrt(each.beats) + 0.002
        if each.beats >= 5 and each.power_samples:
            assert abs(each.power_w / w.watts[state] - 1.0) <= 6.0 * 0.025 / np.sqrt(each.power_samples) + 0.002


@few
@given(
    seeds, st.sampled_from([[1, 1, 1, 2], [1, 2], [1, 1, 1, 1, 3], [1.0, 1.5, 2.0, 2.5]]), st.sampled_from([0.0, 0.01])
)
def test_what_is_measured_is_the_truth_though_steps_repeat(seed, factors, share):
    """As if all steps took the same time: whole periods alone are measured, as soon as there is a rhythm."""
    w = run(seed, share, factors=factors)
    (found,) = w.rhythms
    assert (
        found.period_beats
        == found.period_steps
        == pytest.approx(len(factors) * round(found.period_beats / len(factors)))
    )
    for each in w.manager.reasoning.observations:
        state, slack = SPACE.find(each.configuration), 6.0 * 0.02 / np.sqrt(max(each.beats, 1)) + 0.002
        assert each.beats % found.period_beats == 0
        assert abs(each.rate_hz * w.seconds[state] - 1.0) <= slack or each.outliers or each.beats < 5 * len(factors)
    energy = w.seconds * w.watts
    assert energy[SPACE.find(w.commitments[-1][0])] <= 1.25 * np.nanmin(energy)


@few
@given(seeds, st.sampled_from([[1, 1, 1, 2], [1.0] * 9 + [8.0]]))
def test_what_an_earlier_run_kept_is_taken_up_again_once_the_rhythm_shows(seed, factors):
    """The window that confirms it is over before that, and holds a part of a period."""
    first = run(seed, 0.0, factors=factors)
    w = run(seed, 0.0, factors=factors, programs=first.manager.reasoning.remembered())
    assert len(w.rhythms) == 1
    assert w.manager.decided is not None
    assert len(w.manager.reasoning.known) > len(w.manager.reasoning.observations), "what was kept is believed"


@few
@given(seeds)
def test_a_run_full_of_stalls_chooses_about_as_well_as_one_without(seed):
    w = run(seed, 0.02)
    energy = w.seconds * w.watts
    assert energy[SPACE.find(w.commitments[-1][0])] <= 1.25 * np.nanmin(energy)


@few
@given(seeds, st.floats(-0.2, 0.3))
def test_a_rate_that_drifts_with_temperature_is_no_stall_and_chooses_sensibly(seed, drift):
    w = run(seed, 0.0, drift=drift)
    observations = w.manager.reasoning.observations
    assert sum(seen.outliers for seen in observations) <= 0.002 * sum(seen.beats for seen in observations)
    energy = w.seconds * w.watts
    assert energy[SPACE.find(w.commitments[-1][0])] <= 1.35 * np.nanmin(energy)


@few
@given(seeds, st.integers(0, 12))
def test_a_program_of_a_few_beats_divides_by_nothing_and_leaves_the_machine(seed, beats):
    w = run(seed, 0.3, beats=beats)
    for seen in w.manager.reasoning.observations:
        assert seen.rate_hz > 0
    said = w.manager.on(AppLeft(at_s=w.at_s + 1.0, app="a"))
    assert [type(part) for part in said if not isinstance(part, WindowClosed)] == [Release], "a last window at most"
    for seen in w.manager.reasoning.observations:
        assert seen.rate_hz > 0
