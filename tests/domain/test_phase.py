"""Laws of the change detector. Not covered: which windows it is fed, and what happens when it fires (manager)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.contracts import ChangeDetector
from ceml.domain.phase import Difference, difference
from ceml.errors import SettingsError

NAN = float("nan")
levels = st.lists(st.floats(0.5, 2.0), min_size=1, max_size=60)


def feed(detector: Difference, values: list[float]) -> list[int]:
    """Positions at which it fired."""
    return [at for at, value in enumerate(values) if detector.update(value, predicted=NAN, std=NAN)]


@given(levels, st.integers(-500, 500))
def test_scale_does_not_matter(values: list[float], exponent: int) -> None:
    assert feed(difference(), values) == feed(difference(), [value * 2.0**exponent for value in values])


@given(levels, st.lists(st.floats(), min_size=60, max_size=60))
def test_predictions_do_not_matter(values: list[float], predictions: list[float]) -> None:
    detector = difference()
    fired = [at for at, x in enumerate(values) if detector.update(x, predicted=predictions[at], std=predictions[-at])]
    assert fired == feed(difference(), values)


@given(st.floats(1e-300, 1e300))
def test_a_constant_never_fires(value: float) -> None:
    assert feed(difference(), [value] * 50) == []


@given(st.integers(1, 20), st.sampled_from([1.15, 1 / 1.15]), st.integers(1, 4))
def test_a_lasting_shift_of_15_percent_fires_after_just_so_many_windows(n: int, factor: float, windows: int) -> None:
    assert feed(difference(windows=windows), [7.0] * n + [7.0 * factor] * 6)[0] == n + windows - 1


@pytest.mark.parametrize("seed", range(5))
def test_two_percent_of_noise_never_fires_in_ten_thousand_windows(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(1, 0.02, 10_000)
    assert feed(difference(), (5 * noise).tolist()) == []


@pytest.mark.parametrize("factor", [1.15, 1 / 1.15])
def test_a_shift_in_two_percent_of_noise_is_found_within_a_few_windows_and_once(factor: float) -> None:
    late: list[int] = []
    for seed in range(200):
        values = np.random.default_rng(seed).normal(1, 0.02, 80)
        values[40:] *= factor
        fired = feed(difference(), values.tolist())
        assert len(fired) == 1
        late.append(fired[0] - 40)
    assert min(late) >= 1
    assert np.median(late) == 1


@given(st.lists(st.sampled_from([NAN, float("inf"), 0.0, -1.0]), max_size=5))
def test_what_is_no_measurement_is_left_out(rubbish: list[float]) -> None:
    assert feed(difference(), [1.0, *rubbish, 2.0, *rubbish, 2.0]) == [2 * len(rubbish) + 2]


def test_one_outlier_is_no_change_and_two_to_different_sides_neither() -> None:
    assert feed(difference(), [1.0, 1.0, 3.0, 1.0, 1.0, 0.2, 1.0]) == []
    assert feed(difference(), [1.0, 1.0, 3.0, 0.2, 3.0, 0.2]) == []
    assert feed(difference(), [1.0, 1.0, 3.0, 0.2, 0.2]) == [4]


def test_after_it_fired_and_after_a_reset_the_new_level_is_the_normal_one() -> None:
    detector = difference()
    assert feed(detector, [1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]) == [3]
    detector.reset()
    assert feed(detector, [9.0, 9.0, 9.0]) == []


def test_noisy_windows_need_a_larger_change() -> None:
    noisy = np.random.default_rng(1).normal(1, 0.05, 40).tolist()
    assert feed(difference(), [*noisy, 1.15, 1.15]) == []
    assert feed(difference(), [*noisy, 1.4, 1.4]) == [41]


@pytest.mark.parametrize(
    "options", [{"threshold": 0.0}, {"threshold": NAN}, {"sigmas": -1.0}, {"sigmas": NAN}, {"windows": 0}]
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        difference(**options)


def test_it_keeps_the_contract() -> None:
    assert isinstance(difference(), ChangeDetector)
