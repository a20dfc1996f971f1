"""What other programs teach of a board: laws of the hierarchy, and what it does for a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Knob, KnobSpace
from ceml.domain.response.heritage import Belief, inherited
from ceml.domain.response.overlap import overlap
from ceml.domain.response.solving import Board
from ceml.domain.values import Knowledge, Observation, Remembered

NAMES = ("time", "constant", "gpu.idle", "gpu.work")
USUAL = Belief(NAMES, np.array([0.0, -1.0, 0.5, 0.2]), np.diag([25.0, 0.3, 0.5, 0.8]))


def fit(mean: float | np.ndarray, sd: float, *, usual: Belief = USUAL) -> tuple[Belief, Belief]:
    """A program that measurements alone put at `mean` with `sd`, each parameter on its own."""
    told = 1.0 / sd**2
    before = np.linalg.inv(usual.covariance)
    covariance = np.linalg.inv(before + np.eye(len(usual.names)) * told)
    said = np.full(len(usual.names), mean) if np.isscalar(mean) else np.asarray(mean)
    return usual, Belief(usual.names, covariance @ (before @ usual.mean + told * said), covariance)


def test_no_program_teaches_nothing() -> None:
    got = inherited(USUAL, [])
    assert got.mean == pytest.approx(USUAL.mean)
    assert got.covariance == pytest.approx(USUAL.covariance)


def test_programs_that_measured_nothing_teach_nothing() -> None:
    got = inherited(USUAL, [(USUAL, USUAL)] * 3)
    assert got.mean == pytest.approx(USUAL.mean)
    assert got.covariance == pytest.approx(USUAL.covariance)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=5), st.floats(0.01, 2.0))
def test_the_board_lies_between_what_is_usual_and_what_was_seen_and_is_surer(said: list[float], sd: float) -> None:
    got = inherited(USUAL, [fit(mean, sd) for mean in said])
    assert (got.mean >= np.minimum(USUAL.mean, min(said)) - 1e-9).all()
    assert (got.mean <= np.maximum(USUAL.mean, max(said)) + 1e-9).all()
    assert (np.diagonal(got.covariance) <= np.diagonal(USUAL.covariance) + 1e-9).all()
    assert np.linalg.eigvalsh(got.covariance).min() > 0


@given(st.permutations([-1.0, 0.0, 2.0]))
def test_the_order_of_programs_does_not_matter(said: list[float]) -> None:
    one, other = (inherited(USUAL, [fit(mean, 0.1) for mean in order]) for order in (said, sorted(said)))
    assert one.mean == pytest.approx(other.mean)
    assert one.covariance == pytest.approx(other.covariance)


def test_what_belongs_to_the_board_is_taken_over_more_than_what_belongs_to_the_program() -> None:
    got = inherited(USUAL, [fit(USUAL.mean + 1.0, 0.05)] * 8)
    moved = dict(zip(NAMES, got.mean - USUAL.mean, strict=True))
    assert moved["time"] == pytest.approx(0.0, abs=1e-3)
    assert 0.0 < moved["gpu.work"] < moved["gpu.idle"]
    assert moved["constant"] > 0.9


def test_a_program_always_keeps_doubts_of_its_own() -> None:
    got = inherited(USUAL, [fit(0.3, 1e-3)] * 1000)
    assert (np.diagonal(got.covariance) >= 0.29 * np.diagonal(USUAL.covariance)).all()


def test_parameters_are_matched_by_name_and_strangers_are_of_no_use() -> None:
    other = Belief(("gpu.idle", "npu.idle"), np.array([0.5, 0.0]), np.diag([0.5, 0.5]))
    got = inherited(USUAL, [fit(2.0, 0.01, usual=other)])
    assert got.mean[2] > 1.0
    assert got.mean[[0, 1, 3]] == pytest.approx(USUAL.mean[[0, 1, 3]])


# Through the model ----------------------------------------------------------------------------------------------------

SPACE = KnobSpace(
    [
        Knob(name="cpu_hz", levels=tuple(np.linspace(4e8, 2e9, 6))),
        Knob(name="gpu_hz", levels=tuple(np.linspace(2e8, 1.3e9, 6))),
    ]
)


def board(seed: int) -> np.ndarray:
    """Parameters of one board: far from the usual in what is the silicon's own."""
    physics = Board(SPACE).physics
    rng = np.random.default_rng(seed)
    theta = physics.mean + 0.3 * np.sqrt(physics.variance) * rng.standard_normal(len(physics.mean))
    for at, name in enumerate(physics.names):
        if name.endswith(("idle", "constant", "steepness")):
            theta[at] += 1.2 * np.sqrt(physics.variance[at])
    theta[:2] = -1.0, 2.0
    return theta


def program(silicon: np.ndarray, seed: int) -> np.ndarray:
    """Another program on it: another scale and other work."""
    physics = Board(SPACE).physics
    rng = np.random.default_rng(seed)
    theta = silicon.copy()
    for at, name in enumerate(physics.names):
        if name.endswith("work"):
            theta[at] += 0.5 * np.sqrt(physics.variance[at]) * rng.standard_normal()
    theta[:2] += rng.normal(0, 1, 2)
    return theta


def windows(theta: np.ndarray, states: list[int]) -> tuple[Observation, ...]:
    seen = Board(SPACE)
    values, _ = seen.physics.evaluate(theta, seen.everywhere.inputs, slopes=False)
    return tuple(
        Observation(
            configuration=SPACE.configuration(state),
            start_s=0.0,
            end_s=1.0,
            beats=20,
            steps=20.0,
            rate_hz=float(np.exp(-values[0, state])),
            power_w=float(np.exp(values[1, state])),
            power_samples=10,
            step_cv=0.02,
            power_cv=0.02,
        )
        for state in states
    )


def errors(theta: np.ndarray, knowledge: Knowledge | None) -> tuple[float, float, float]:
    """Error of power over all states after two windows, its stated doubt, and the experience that is claimed."""
    fitted = overlap().fit(SPACE, windows(theta, [14, 28]), prior=knowledge)
    predicted = fitted.predict(SPACE.states)
    values, _ = Board(SPACE).physics.evaluate(theta, Board(SPACE).everywhere.inputs, slopes=False)
    off = np.abs(np.log(predicted.power_w) - values[1])
    return float(off.mean()), float(np.sqrt(predicted.covariance[:, 1, 1]).mean()), fitted.experience


def known(silicon: np.ndarray, count: int = 3) -> Knowledge:
    states = list(range(0, len(SPACE), 3))
    return Knowledge(
        programs=tuple(
            Remembered(app=f"p{n}", knobs=SPACE.knobs, observations=windows(program(silicon, n), states))
            for n in range(count)
        )
    )


def test_a_model_that_knows_the_board_errs_less_and_doubts_less() -> None:
    better, surer = 0, 0
    for seed in range(8):
        silicon = board(seed)
        theta = program(silicon, 100 + seed)
        without, doubt, none = errors(theta, None)
        having, less_doubt, some = errors(theta, known(silicon))
        better += having < without
        surer += less_doubt < doubt
        assert (none, some > 0) == (0.0, True)
    assert better >= 6
    assert surer == 8


def test_knowledge_changes_nothing_for_a_model_that_was_given_none() -> None:
    theta = program(board(1), 5)
    assert errors(theta, Knowledge()) == errors(theta, None)


def test_programs_measured_once_or_on_other_knobs_teach_nothing() -> None:
    theta = board(2)
    lone = Remembered(app="x", knobs=SPACE.knobs, observations=windows(theta, [3]))
    assert errors(theta, Knowledge(programs=(lone,))) == errors(theta, None)
