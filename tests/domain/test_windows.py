"""Windows: which beats and samples count, and that sums over them are conserved.

Not covered here: who opens and closes windows (test_manager.py).
"""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.events import Heartbeat, Sampled
from ceml.domain.knobs import Configuration
from ceml.domain.stalls import Stalls
from ceml.domain.windows import Integral, Spread, Window

HERE = Configuration({"cpu_hz": 1e9})
increasing = st.lists(st.floats(0.001, 10), min_size=3, max_size=30).map(
    lambda gaps: [sum(gaps[: i + 1]) for i in range(len(gaps))]
)
watts = st.floats(0.1, 100)


def window(opens_s: float = 0.0, **options: object) -> Window:
    return Window(HERE, opens_s=opens_s, total_rails=("total",), **options)  # type: ignore[arg-type]


def beat(at_s: float, work: float = 1.0) -> Heartbeat:
    return Heartbeat(at_s=at_s, app="a", work=work)


def power(at_s: float, watts: float, **more: float) -> Sampled:
    return Sampled(at_s=at_s, sensor="s", rails_w={"total": watts, **more})


@given(increasing, st.lists(watts, min_size=30, max_size=30), st.integers(1, 28))
def test_energy_adds_up_over_windows_that_share_a_reading(times: list[float], levels: list[float], cut: int) -> None:
    whole, left, right = Integral(), Integral(), Integral()
    cut = min(cut, len(times) - 1)
    for i, at_s in enumerate(times):
        whole.add(at_s, levels[i])
        if i <= cut:
            left.add(at_s, levels[i])
        if i >= cut:
            right.add(at_s, levels[i])
    assert left.area + right.area == pytest.approx(whole.area, rel=1e-9, abs=1e-12)


@given(increasing, st.lists(watts, min_size=30, max_size=30), st.floats(0.01, 100))
def test_scaling_watts_scales_joules(times: list[float], levels: list[float], factor: float) -> None:
    plain, scaled = Integral(), Integral()
    for at_s, level in zip(times, levels, strict=False):
        plain.add(at_s, level)
        scaled.add(at_s, level * factor)
    assert scaled.area == pytest.approx(plain.area * factor, rel=1e-9)
    assert scaled.mean == pytest.approx(plain.mean * factor, rel=1e-9)


@given(increasing, watts)
def test_a_constant_signal_has_its_value_as_mean_however_unevenly_it_is_read(times: list[float], level: float) -> None:
    signal = Integral()
    for at_s in times:
        signal.add(at_s, level)
    assert signal.mean == pytest.approx(level)


def test_readings_that_are_means_are_rectangles() -> None:
    signal = Integral()
    signal.add(1.0, 10.0, covers_s=1.0)
    signal.add(3.0, 40.0, covers_s=2.0)
    assert (signal.area, signal.span_s, signal.mean) == (90.0, 3.0, 30.0)


def test_readings_that_are_no_number_or_late_change_nothing() -> None:
    signal = Integral()
    signal.add(1.0, 5.0)
    signal.add(2.0, float("nan"))
    signal.add(1.0, 500.0)
    assert (signal.count, signal.mean) == (1, 5.0)
    assert isnan(Integral().mean)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50))
def test_spread_agrees_with_the_definition(values: list[float]) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    mean = sum(values) / len(values)
    if abs(mean) > 1e-3:
        deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
        assert spread.cv == pytest.approx(deviation / abs(mean), rel=1e-6, abs=1e-9)


def test_the_step_that_spans_the_change_is_not_counted() -> None:
    w = window(opens_s=1.0)
    w.beat(beat(0.9))  # before
    w.beat(beat(1.4))  # began before: starts the clock only
    assert w.beats == 0
    w.beat(beat(2.4))
    w.beat(beat(3.4, work=3))
    seen = w.observe()
    assert (seen.beats, seen.steps, seen.rate_hz) == (2, 4.0, 2.0)
    assert (seen.start_s, seen.end_s, seen.duration_s) == (1.4, 3.4, 2.0)


def test_settle_time_and_sensor_lag_are_honoured() -> None:
    w = window(opens_s=1.0, lag_s=0.5)
    w.sample(power(1.2, 100.0))
    w.sample(Sampled(at_s=2.0, sensor="s", rails_w={"total": 100.0}, covers_s=0.6))  # reaches back to 1.4
    w.sample(power(1.5, 10.0))
    w.sample(power(2.5, 20.0))
    assert w.power_samples == 2
    assert w.observe().power_w == 15.0


def test_total_power_is_the_sum_of_the_rails_the_bundle_names() -> None:
    w = Window(HERE, opens_s=0.0, total_rails=("cpu", "gpu"))
    for at_s in (1.0, 2.0):
        w.sample(Sampled(at_s=at_s, sensor="a", rails_w={"cpu": 2.0}))
        w.sample(Sampled(at_s=at_s + 0.5, sensor="b", rails_w={"gpu": 3.0, "other": 9.0}))
    seen = w.observe()
    assert (seen.power_w, dict(seen.rail_w)) == (5.0, {"cpu": 2.0, "gpu": 3.0, "other": 9.0})
    assert seen.power_samples == 2


def test_the_scatter_of_the_total_is_known_where_several_sensors_share_in_it() -> None:
    one, several = (Window(HERE, opens_s=0.0, total_rails=("cpu", "gpu")) for _ in range(2))
    for number in range(10):
        cpu, gpu = {"cpu": 10.0 + number % 2}, {"gpu": 20.0 + number % 3}
        one.sample(Sampled(at_s=number + 1.0, sensor="all", rails_w={**cpu, **gpu}))
        several.sample(Sampled(at_s=number + 1.0, sensor="a", rails_w=cpu))
        several.sample(Sampled(at_s=number + 1.2, sensor="b", rails_w=gpu))
        several.sample(Sampled(at_s=number + 1.3, sensor="c", rails_w={"mem": 5.0}))
    assert several.observe().power_cv == pytest.approx(one.observe().power_cv)
    assert one.observe().power_cv > 0.0


def test_a_window_can_follow_on_without_losing_an_interval() -> None:
    w = window(opens_s=2.0, started_s=2.0)
    w.beat(beat(3.0))
    assert w.observe().rate_hz == 1.0


@given(
    st.lists(st.floats(0.01, 10), min_size=2, max_size=6),
    st.integers(0, 5),
    st.integers(1, 40),
    st.sampled_from([1.0, 0.1, 16.0]),
)
def test_whole_periods_have_the_rate_of_the_program_wherever_a_window_begins_and_ends(factors, begins, beats, work):
    w, at_s = window(period_work=len(factors) * work), 0.0
    w.beat(beat(at_s, work))
    for number in range(begins, begins + beats):
        at_s += factors[number % len(factors)]
        w.beat(beat(at_s, work))
    whole, seen = beats // len(factors), w.observe()
    assert seen.beats == w.beats == whole * len(factors)
    if whole:
        assert seen.rate_hz == pytest.approx(len(factors) * work / sum(factors))
        assert seen.steps == pytest.approx(seen.beats * work)
    if whole > 1:
        assert seen.step_cv == pytest.approx(0.0, abs=1e-6), "steps that differ by design are no noise"


@given(st.lists(st.floats(0.5, 2.0), min_size=40, max_size=40), st.integers(2, 7))
def test_windows_of_periods_that_follow_each_other_lose_no_step(times, period):
    w, at_s, steps, ends = window(period_work=float(period), started_s=0.0), 0.0, 0.0, [0.0]
    for number, step_s in enumerate(times, start=1):
        at_s += step_s
        w.beat(beat(at_s))
        if number % 5 == 0 and w.beats:  # in the middle of a period, mostly
            later = window(opens_s=w.end_s, started_s=w.end_s, period_work=float(period))
            later.follow(w)
            steps, ends, w = steps + w.steps, [*ends, w.end_s], later
    assert steps + w.steps == 40 // period * period
    assert ends == sorted(ends)
    assert w.end_s == pytest.approx(sum(times[: 40 // period * period]))


def test_scatter_from_period_to_period_counts_as_much_as_it_would_step_by_step() -> None:
    """Standard errors are those of a mean of so many beats: the same, whether they come one by one or in periods."""
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.normal(1.0, 0.1, 4001)).tolist()
    single, whole = window(), window(period_work=4.0)
    for at_s in times:
        single.beat(beat(at_s))
        whole.beat(beat(at_s))
    assert whole.observe().beats == single.observe().beats == 4000
    assert whole.observe().step_cv == pytest.approx(single.observe().step_cv, rel=0.1)


def test_a_stall_of_a_period_is_as_many_beats() -> None:
    w, at_s = window(period_work=4.0), 0.0
    w.beat(beat(0.0))
    for number in range(400):
        at_s += 30.0 if number == 200 else 2.0 if number % 4 == 3 else 1.0
        w.beat(beat(at_s))
    seen = w.observe(Stalls(), learnt=False)
    assert (seen.beats, seen.outliers) == (396, 4)
    assert seen.rate_hz == pytest.approx(0.8)


def test_an_empty_window_observes_nothing_and_does_not_divide_by_zero() -> None:
    seen = window().observe()
    assert isnan(seen.rate_hz)
    assert isnan(seen.power_w)
    assert isnan(seen.energy_j)
    assert seen.beats == 0


def test_joules_per_step_are_watts_over_rate() -> None:
    w = window()
    for i in range(5):
        w.beat(beat(0.5 * (i + 1)))
        w.sample(power(0.5 * (i + 1), 8.0))
    assert w.observe().energy_j == 4.0
