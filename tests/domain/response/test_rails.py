"""Laws of single rails in the `overlap` model, on random plants whose rails add up.

Not covered: how caps on rails are kept in whole runs (tests/bench/test_rail_caps.py).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.domain.budget import RailCap
from ceml.domain.knobs import Knob, KnobKind, KnobSpace
from ceml.domain.response.evidence import rails_seen
from ceml.domain.response.overlap import overlap
from ceml.domain.response.rails import RailForm, Setting
from ceml.domain.response.solving import Board
from ceml.domain.values import Observation, Situation

CPU = Knob(name="cpu_hz", levels=(0.4e9, 0.8e9, 1.2e9, 1.6e9, 2.0e9))
GPU = Knob(name="gpu_hz", levels=(0.2e9, 0.5e9, 0.8e9, 1.1e9, 1.3e9))
MEM = Knob(name="mem_hz", levels=(0.6e9, 1.3e9, 2.1e9))
CORES = Knob(name="cpu_cores", levels=(2.0, 4.0, 8.0), kind=KnobKind.COUNT)
SPACE = KnobSpace([CPU, GPU, MEM])
seeds = st.integers(0, 2**16)
few = settings(max_examples=25, deadline=None)


def plant(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Seconds, and watts of the rails: each device's own, and one that none of them feeds; the board is their sum."""
    rng = np.random.default_rng(seed)
    ghz = SPACE.values(SPACE.states).T / 1e9
    own = rng.uniform(0.1, 1.0, (3, 1)) / ghz
    seconds = 0.05 + own.max(axis=0)
    busy = own / seconds
    watts = rng.uniform(0.1, 0.5, (3, 1)) + ghz * (rng.uniform(0.1, 0.5, (3, 1)) + rng.uniform(0.3, 3.0, (3, 1)) * busy)
    return seconds, dict(zip(("cpu", "gpu", "mem"), watts, strict=True)) | {"soc": 1.0 + 0.1 / seconds}


def windows(
    seconds: np.ndarray, rails: dict[str, np.ndarray], states: np.ndarray, *, samples: int = 400
) -> list[Observation]:
    return [
        Observation(
            configuration=SPACE.configuration(int(s)),
            start_s=0.0,
            end_s=400 * float(seconds[s]),
            beats=400,
            steps=400.0,
            rate_hz=1.0 / float(seconds[s]),
            power_w=float(sum(watts[s] for watts in rails.values())),
            rail_w={rail: float(watts[s]) for rail, watts in rails.items()},
            power_samples=samples,
            step_cv=0.0,
            power_cv=0.0,
        )
        for s in states
    ]


def some(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(SPACE.states, count, replace=False)


@given(seeds)
def test_slopes_are_the_derivatives_of_the_values(seed: int) -> None:
    space = KnobSpace([CPU, CORES, GPU, MEM])
    board, rng = Board(space), np.random.default_rng(seed)
    place = board.everywhere
    rate, still = rng.normal(-1.0, 0.5, len(space)), np.zeros(len(space))
    setting = Setting(place, board.physics.activity(board.physics.mean, place.inputs), rate, still)
    for rail in ("gpu", "soc", "vdd_cpu_cv"):
        form = RailForm(board, rail)
        phi = form.mean + np.sqrt(form.variance) * rng.normal(0.0, 0.5, len(form.mean))
        _, slopes, by_rate = form.evaluate(phi, setting)
        for at in range(len(phi)):
            step = np.zeros(len(phi))
            step[at] = 1e-5
            up, down = form.evaluate(phi + step, setting)[0], form.evaluate(phi - step, setting)[0]
            np.testing.assert_allclose(slopes[at], (up - down) / 2e-5, atol=1e-6)
        assert ((by_rate >= 0.0) & (by_rate <= 1.0)).all()


@few
@given(seeds)
def test_a_rail_is_predicted_as_measured_where_it_was_and_nearly_so_elsewhere(seed: int) -> None:
    seconds, rails = plant(seed)
    states = some(seed, 12)
    predicted = overlap().fit(SPACE, windows(seconds, rails, states)).predict(SPACE.states)
    assert set(predicted.rail_w) == set(rails)
    for rail, watts in rails.items():
        np.testing.assert_allclose(predicted.rail_w[rail][states], watts[states], rtol=0.02)
        assert np.median(np.abs(predicted.rail_w[rail] / watts - 1.0)) < 0.1
        assert (predicted.rail_w[rail] > 0.0).all()
        assert (predicted.rail_std[rail] > 0.0).all()


@few
@given(seeds, st.floats(0.01, 100.0))
def test_rails_scale_with_watts_and_nothing_else_changes(seed: int, hotter: float) -> None:
    seconds, rails = plant(seed)
    one = overlap().fit(SPACE, windows(seconds, rails, some(seed, 5))).predict(SPACE.states)
    hot = {rail: watts * hotter for rail, watts in rails.items()}
    other = overlap().fit(SPACE, windows(seconds, hot, some(seed, 5))).predict(SPACE.states)
    for rail in rails:
        np.testing.assert_allclose(other.rail_w[rail] / hotter, one.rail_w[rail], rtol=1e-3)
        np.testing.assert_allclose(other.rail_std[rail], one.rail_std[rail], rtol=1e-2)


@few
@given(seeds)
def test_rails_change_neither_rate_nor_power_of_the_board(seed: int) -> None:
    seconds, rails = plant(seed)
    seen = windows(seconds, rails, some(seed, 5))
    one = overlap().fit(SPACE, seen).predict(SPACE.states)
    bare = overlap().fit(SPACE, [replace(each, rail_w={}) for each in seen]).predict(SPACE.states)
    np.testing.assert_array_equal(one.power_w, bare.power_w)
    np.testing.assert_array_equal(one.rate_hz, bare.rate_hz)
    assert not bare.rail_w


@few
@given(seeds, st.permutations(["cpu", "gpu", "mem", "soc"]))
def test_the_order_of_rails_does_not_matter(seed: int, order: list[str]) -> None:
    seconds, rails = plant(seed)
    one = overlap().fit(SPACE, windows(seconds, rails, some(seed, 5))).predict(SPACE.states)
    shuffled = {rail: rails[rail] for rail in order}
    other = overlap().fit(SPACE, windows(seconds, shuffled, some(seed, 5))).predict(SPACE.states)
    for rail in reversed(order):
        np.testing.assert_allclose(other.rail_w[rail], one.rail_w[rail], rtol=1e-9)


@few
@given(seeds)
def test_a_rail_on_which_no_knob_has_an_effect_is_predicted_as_steady(seed: int) -> None:
    seconds, rails = plant(seed)
    rails["fan"] = np.full(len(SPACE), 0.7)
    predicted = overlap().fit(SPACE, windows(seconds, rails, some(seed, 12))).predict(SPACE.states)
    np.testing.assert_allclose(np.median(predicted.rail_w["fan"]), 0.7, rtol=0.05)


@few
@given(seeds)
def test_more_windows_never_make_a_rail_much_less_sure(seed: int) -> None:
    seconds, rails = plant(seed)
    states = some(seed, 10)
    before = overlap().fit(SPACE, windows(seconds, rails, states[:3])).predict(SPACE.states)
    after = overlap().fit(SPACE, windows(seconds, rails, states)).predict(SPACE.states)
    for rail in rails:
        assert np.mean(after.rail_std[rail]) <= 1.1 * np.mean(before.rail_std[rail])


def test_a_rail_that_is_the_whole_board_is_the_board() -> None:
    seconds, rails = plant(3)
    seen = [replace(each, rail_w={"total": each.power_w}) for each in windows(seconds, rails, some(3, 5))]
    predicted = overlap().fit(SPACE, seen).predict(SPACE.states)
    np.testing.assert_array_equal(predicted.rail_w["total"], predicted.power_w)
    careful = predicted.quantile(0.95)
    np.testing.assert_array_equal(careful.rail_w["total"], careful.power_w)


def test_a_rail_that_is_lost_keeps_what_it_taught() -> None:
    seconds, rails = plant(5)
    states = some(5, 10)
    seen = windows(seconds, rails, states)
    lost = [*seen[:6], *(replace(each, rail_w={"cpu": each.rail_w["cpu"]}) for each in seen[6:])]
    predicted = overlap().fit(SPACE, lost).predict(SPACE.states)
    assert set(predicted.rail_w) == set(rails)
    np.testing.assert_allclose(predicted.rail_w["gpu"][states[:6]], rails["gpu"][states[:6]], rtol=0.02)
    sure, unsure = predicted.rail_std["cpu"][states[6:]], predicted.rail_std["gpu"][states[6:]]
    assert (sure < unsure).all()


@pytest.mark.parametrize("watts", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rail_that_talks_nonsense_is_not_predicted(watts: float) -> None:
    seconds, rails = plant(1)
    seen = [replace(each, rail_w={"gpu": watts}) for each in windows(seconds, rails, some(1, 4))]
    assert not rails_seen(SPACE, seen)
    predicted = overlap().fit(SPACE, seen).predict(SPACE.states)
    assert "gpu" not in predicted.rail_w
    assert np.isfinite(RailCap("gpu", 1.0).violation(predicted, Situation())).all()


def test_the_pessimistic_side_of_a_rail_goes_by_its_own_doubt() -> None:
    seconds, rails = plant(2)
    predicted = overlap().fit(SPACE, windows(seconds, rails, some(2, 3))).predict(SPACE.states)
    careful = predicted.quantile(0.95)
    np.testing.assert_allclose(
        np.log(careful.rail_w["gpu"] / predicted.rail_w["gpu"]) / predicted.rail_std["gpu"], 1.645, rtol=1e-3
    )
    assert predicted.quantile(0.05).rail_w["gpu"][0] < predicted.rail_w["gpu"][0]


def test_a_rail_that_was_asked_for_is_explained_in_watts() -> None:
    seconds, rails = plant(2)
    fit = overlap().fit(SPACE, windows(seconds, rails, some(2, 5)))
    assert not any("rail" in parameter.name for parameter in fit.parameters())
    assert fit.predict(SPACE.states).rail_w["gpu"].shape == (len(SPACE),)
    told = {parameter.name: parameter for parameter in fit.parameters() if "rail" in parameter.name}
    assert told["rail gpu: gpu.busy_w"].unit == "W"
    assert told["rail gpu: gpu.busy_w"].value > 0.0
