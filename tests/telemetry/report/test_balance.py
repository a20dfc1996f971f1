"""Sums of the energy ledger and its uncertainty. Not covered: the picture (test_page.py)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

pytest.importorskip("matplotlib", reason="matplotlib (extra report) is not installed")

from ceml.domain import events
from ceml.domain.knobs import Configuration
from ceml.domain.values import NAN
from ceml.telemetry.report.balance import SURELY, balance
from ceml.telemetry.report.tradeoff import pareto_front
from tests.commands.test_record_show import LOW, a_run, applied, window
from tests.telemetry.report.test_digest import digested, sampled


def sums(run: list[events.Event]):
    found = digested(sorted(run, key=lambda event: event.at_s))
    return balance(found.told[0])


def test_from_windows_alone_the_energy_inside_them_counts():
    got = sums(a_run())
    assert got is not None
    assert got.by_windows
    assert (got.profiling_j, got.running_j) == (2 * 10.0 + 2 * 6.0, 2 * 6.0)
    assert got.steps == 52
    assert got.baseline_j == 52 * 1.0  # max frequencies: 10 W at 10 steps/s
    assert got.saving == pytest.approx(1 - 44 / 52)


def test_from_samples_all_energy_of_the_program_counts():
    beats = [events.Heartbeat(at_s=1.0 + at / 8, app="vit", beat=at) for at in range(72)]
    got = sums([*a_run(), *(sampled(at / 4, 8.0) for at in range(45)), *beats])
    assert got is not None
    assert not got.by_windows
    assert got.total_j == pytest.approx(8.0 * 9.0, rel=0.05)
    assert got.saved_j == pytest.approx(got.baseline_j - got.total_j)


def test_a_measured_baseline_is_as_sure_as_its_windows():
    run = a_run()
    seen = replace(run[3].observation, step_cv=0.02, beats=4, power_cv=0.03, power_samples=9)  # type: ignore[union-attr]
    run[3] = replace(run[3], observation=seen)
    got = sums(run)
    assert got is not None
    of = SURELY * math.hypot(0.01, 0.01)
    left = 1 - got.saving  # of the baseline, which alone is uncertain
    assert got.between == pytest.approx((1 - left * math.exp(of), 1 - left * math.exp(-of)))
    assert "(95 %: " in got.in_words()


def test_an_expected_baseline_is_as_sure_as_the_model_says():
    run = [event for event in a_run() if not (isinstance(event, events.WindowClosed) and event.at_s == 3.0)]
    chosen = next(event for event in run if isinstance(event, events.Decided))
    run[run.index(chosen)] = replace(chosen, rate_at_max_hz=10.0, power_at_max_w=10.0, energy_at_max_sd=0.05)
    run[2] = applied(1.0, LOW)  # the maximum was never in force
    run[0] = replace(run[0], found=Configuration({"cpu_hz": 5e8}))
    got = sums(run)
    assert got is not None
    assert "expects" in got.baseline
    left = 1 - got.saving
    assert got.between == pytest.approx((1 - left * math.exp(SURELY * 0.05), 1 - left * math.exp(-SURELY * 0.05)))


def test_without_an_uncertainty_that_is_said():
    got = sums(a_run())
    assert got is not None
    assert "uncertainty not stated" in got.in_words()


def test_without_power_there_are_no_sums():
    run = [*a_run()[:3], window(3.0, LOW, 10.0, NAN, "profiling")]
    assert sums(run) is None


def test_no_state_of_the_front_is_beaten_in_both():
    import numpy as np

    rng = np.random.default_rng(0)
    time_s, energy_j = rng.random(200), rng.random(200)
    front = set(pareto_front(time_s, energy_j).tolist())
    for state in range(200):
        beaten = ((time_s <= time_s[state]) & (energy_j <= energy_j[state])).sum() > 1
        assert (state in front) is not beaten
