"""The detector `cusum`, in windows drawn with a seed. Not covered: `difference` (test_phase), who feeds it (watch)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.contracts import ChangeDetector
from ceml.domain.phase import Cusum, Signs, cause_of, cusum, difference
from ceml.errors import SettingsError

NAN = float("nan")
RATE_NOISE = 0.02 / np.sqrt(5)  # of one window: five beats at the tables' scatter
POWER_NOISE = 0.025 / np.sqrt(10)  # ten samples
CPU_BOUND = 0.04  # windows of a program whose steps scatter by 9 %


def feed(detector: ChangeDetector, values: list[float], *, predicted: float = NAN, noise: float = NAN) -> list[int]:
    """Positions at which it fired."""
    return [at for at, x in enumerate(values) if detector.update(x, predicted=predicted, std=noise * x)]


def windows(seed: int, count: int, noise: float) -> np.ndarray:
    return 5.0 * np.random.default_rng(seed).normal(1.0, noise, count)


@pytest.mark.parametrize("noise", [RATE_NOISE, POWER_NOISE, 0.02, CPU_BOUND])
@pytest.mark.parametrize("predicted", [NAN, 5.0, 5.2])
def test_at_most_one_false_alarm_in_ten_thousand_windows(noise: float, predicted: float):
    fired = [len(feed(cusum(), windows(s, 10_000, noise).tolist(), predicted=predicted, noise=noise)) for s in range(5)]
    assert np.mean(fired) <= 1.0


@pytest.mark.parametrize("stated", [NAN, RATE_NOISE / 2, RATE_NOISE * 3])
def test_noise_that_is_stated_wrongly_is_learnt(stated: float):
    assert feed(cusum(), windows(1, 10_000, RATE_NOISE).tolist(), noise=stated) == []


@pytest.mark.parametrize("factor", [1.15, 1 / 1.15])
@pytest.mark.parametrize(
    ("noise", "before"),
    [(0.002, 3), (RATE_NOISE, 3), (POWER_NOISE, 3), (RATE_NOISE, 1000), (0.02, 40), (0.02, 1000)],
)
def test_a_shift_of_15_percent_is_found_within_eight_windows(noise: float, factor: float, before: int):
    for seed in range(30):
        values = windows(seed, before + 20, noise)
        values[before:] *= factor
        fired = feed(cusum(), values.tolist(), noise=noise)
        assert fired
        assert before < fired[0] < before + 8


def test_in_noise_it_finds_what_difference_misses():
    found = {"cusum": 0, "difference": 0}
    for seed in range(100):
        values = windows(seed, 48, CPU_BOUND)
        values[40:] *= 1.15
        for name, make in (("cusum", cusum), ("difference", difference)):
            fired = feed(make(), values.tolist(), noise=CPU_BOUND)
            found[name] += any(at >= 40 for at in fired)
    assert found["cusum"] >= 95
    assert found["difference"] <= 60


@given(st.floats(1.3, 3.0), st.booleans())
def test_a_model_that_is_far_off_is_found_in_a_few_windows(factor: float, up: bool):
    predicted = 5.0 * factor if up else 5.0 / factor
    fired = feed(cusum(), windows(0, 8, RATE_NOISE).tolist(), predicted=predicted, noise=RATE_NOISE)
    assert fired
    assert 1 <= fired[0] < 8


@given(st.floats(0.95, 1.05))
def test_a_model_that_is_off_by_a_few_percent_is_put_up_with(factor: float):
    assert feed(cusum(), windows(0, 500, RATE_NOISE).tolist(), predicted=5.0 * factor, noise=RATE_NOISE) == []


@given(st.floats(0.01, 100.0), st.integers(-300, 300))
def test_scale_does_not_matter(outlier: float, exponent: int):
    values = [*windows(0, 20, 0.01).tolist(), outlier, *windows(1, 20, 0.01).tolist()]
    assert feed(cusum(), values) == feed(cusum(), [value * 2.0**exponent for value in values])


@given(st.floats(1e-3, 1e3))
def test_one_outlier_is_no_change(outlier: float):
    assert feed(cusum(), [*windows(0, 20, 0.01).tolist(), 5.0 * outlier, *windows(1, 20, 0.01).tolist()]) == []


def test_slow_drift_is_followed_not_announced():
    values = windows(0, 2000, RATE_NOISE) * np.linspace(1.0, 1.3, 2000)
    assert feed(cusum(), values.tolist(), noise=RATE_NOISE) == []


@given(st.lists(st.sampled_from([NAN, float("inf"), 0.0, -1.0]), max_size=20))
def test_what_is_no_measurement_is_left_out(rubbish: list[float]):
    clean = [5.0] * 10 + [7.0] * 4
    assert len(feed(cusum(), [*clean[:10], *rubbish, *clean[10:]])) == len(feed(cusum(), clean)) == 1


def test_a_reset_forgets_the_level_but_not_the_noise():
    detector = cusum()
    assert feed(detector, windows(0, 200, 0.05).tolist()) == []
    detector.reset()
    assert feed(detector, (10 * windows(1, 200, 0.05)).tolist()) == []


@pytest.mark.parametrize("options", [{"shift": 0.0}, {"model_error": NAN}, {"rarity": -1.0}])
def test_options_out_of_range_are_refused_by_name(options: dict[str, float]):
    with pytest.raises(SettingsError, match=next(iter(options))):
        cusum(**options)


def test_it_keeps_the_contract():
    assert isinstance(cusum(), ChangeDetector)
    assert isinstance(cusum(), Cusum)


# Causes ---------------------------------------------------------------------------------------------------------------

BEFORE = Signs(rate_hz=10.0, power_w=8.0, busiest=0.6, hottest_c=60.0, others=0)


@pytest.mark.parametrize(
    ("after", "cause"),
    [
        (Signs(rate_hz=8.0, power_w=8.0, busiest=0.6, hottest_c=60.0), "program"),
        (Signs(rate_hz=12.0, power_w=9.0, busiest=0.9, hottest_c=80.0), "program"),
        (Signs(rate_hz=8.0, power_w=8.0, busiest=0.95, hottest_c=60.0), "interference"),
        (Signs(rate_hz=8.0, power_w=8.0, busiest=0.6, hottest_c=60.0, others=1), "interference"),
        (Signs(rate_hz=8.0, power_w=6.0, busiest=0.6, hottest_c=85.0), "throttling"),
        (Signs(rate_hz=8.0, power_w=8.0, busiest=0.6, hottest_c=85.0), "program"),
        (Signs(rate_hz=8.0, power_w=6.0), "program"),
    ],
)
def test_causes_are_told_apart_as_far_as_sensors_say(after: Signs, cause: str):
    said, why = cause_of(BEFORE, after, model_was_right=True)
    assert said == cause
    assert why
    assert cause_of(BEFORE, after, model_was_right=False)[0] == "model"


@given(st.builds(Signs, rate_hz=st.floats(), power_w=st.floats(), busiest=st.floats(), hottest_c=st.floats()))
def test_without_sensors_it_is_the_program(after: Signs):
    assert cause_of(Signs(), after, model_was_right=True)[0] in {"program", "throttling"}
    assert cause_of(Signs(rate_hz=1.0), Signs(rate_hz=after.rate_hz), model_was_right=True)[0] == "program"
