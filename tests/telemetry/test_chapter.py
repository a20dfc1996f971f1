"""One application's chapter: baseline, savings. Not covered: how events reach it (test_ledger.py)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.events import Decided, RunStarted
from ceml.domain.knobs import Configuration
from ceml.domain.values import NAN, Limits, Observation
from ceml.telemetry.chapter import MOST_NAMED, VAGUE, Chapter, Measured, max_configuration

MAX, MID, LOW = (Configuration({"cpu_hz": hz, "place": "x"}) for hz in (2e9, 1.5e9, 1e9))
STARTED = RunStarted(
    at_s=0.0, schema=1, version="", platform="p", labels=(), knobs={"cpu_hz": (1e9, 1.5e9, 2e9), "place": ("x", "y")},
    found=MID, objective="", model="", search="", limits=Limits(), total_rails=("total",),
)  # fmt: skip


def seen(
    configuration: Configuration, *, rate_hz: float = 10.0, power_w: float = 8.0, seconds: float = 2.0
) -> Observation:
    return Observation(
        configuration=configuration, start_s=5.0, end_s=5.0 + seconds, beats=2, steps=rate_hz * seconds,
        rate_hz=rate_hz, power_w=power_w,
    )  # fmt: skip


def chose(configuration: Configuration, **more: float) -> Decided:
    return Decided(
        at_s=9.0, app="a", configuration=configuration, rate_hz=1.0, power_w=1.0, cost=1.0, feasible=True,
        violation=0.0, evaluated=3, why="", **more,
    )  # fmt: skip


def chapter() -> Chapter:
    return Chapter("a", 0.0, STARTED)


def test_the_maximum_is_the_highest_of_each_ordered_knob():
    assert max_configuration(STARTED.knobs, STARTED.found) == MAX


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1, max_size=9))
def test_a_mean_weighs_windows_by_their_time(windows: list[tuple[float, float, float]]):
    mean = Measured(MAX)
    for rate_hz, power_w, seconds in windows:
        mean.add(seen(MAX, rate_hz=rate_hz, power_w=power_w, seconds=seconds))
    steps = sum(rate * seconds for rate, _, seconds in windows)
    joules = sum(power * seconds for _, power, seconds in windows)
    assert mean.energy_j == pytest.approx(joules / steps)


def test_a_mean_of_nothing_is_no_number():
    mean = Measured(MAX)
    assert all(math.isnan(value) for value in (mean.rate_hz, mean.power_w, mean.energy_j))
    mean.add(seen(MAX, power_w=NAN))
    assert mean.rate_hz == pytest.approx(10.0)
    assert math.isnan(mean.energy_j)


def test_the_baseline_is_the_best_one_seen_so_far():
    told = chapter()
    assert (told.baseline, told.baseline_name) == (None, "first window")
    for configuration, name in [(LOW, "first window"), (MID, "configuration found"), (MAX, "max frequencies")]:
        told.window(seen(configuration), "profiling")
        assert told.baseline is told.states[configuration]
        assert told.baseline_name == name
    told.window(seen(LOW), "profiling")
    assert told.baseline_name == "max frequencies"


def test_max_frequencies_that_were_never_measured_are_taken_from_the_model_and_called_so():
    told = chapter()
    told.window(seen(LOW), "profiling")
    told.decide(chose(LOW, rate_at_max_hz=4.0, power_at_max_w=10.0))
    assert told.before_j == 2.5
    assert "as the model expects" in told.baseline_name
    told.window(seen(MAX), "profiling")
    assert told.baseline_name == "max frequencies"
    told.decide(chose(LOW, rate_at_max_hz=4.0, power_at_max_w=10.0))
    assert told.baseline_name == "max frequencies"


def test_the_saving_is_after_against_before():
    told = chapter()
    told.window(seen(MAX, rate_hz=10.0, power_w=10.0), "profiling")
    told.decide(chose(LOW))
    assert math.isnan(told.saving)
    told.window(seen(LOW, rate_hz=8.0, power_w=6.0), "idle")
    assert told.saving == pytest.approx(0.25)
    told.window(seen(MID, rate_hz=1.0, power_w=99.0), "idle")  # not what was decided: no part of "after"
    assert told.after_j == pytest.approx(0.75)


@given(st.floats(0.0, 1.0))
def test_only_an_estimate_is_vague_and_the_more_the_less_is_known(sd: float):
    told = chapter()
    told.window(seen(LOW, rate_hz=8.0, power_w=6.0), "profiling")
    told.decide(chose(LOW, rate_at_max_hz=10.0, power_at_max_w=10.0, energy_at_max_sd=sd))
    told.window(seen(LOW, rate_hz=8.0, power_w=6.0), "idle")
    low, high = told.saving_between
    assert low <= told.saving <= high
    assert told.vague == (high - low > VAGUE)
    told.window(seen(MAX, rate_hz=10.0, power_w=10.0), "profiling")
    assert not told.vague


def test_the_saving_so_far_weighs_all_steps_and_all_energy():
    told = chapter()
    told.worked(30.0)
    told.energy_j = 25.0
    assert math.isnan(told.saving_so_far)
    told.window(seen(MAX, rate_hz=10.0, power_w=10.0), "profiling")
    assert told.saving_so_far == pytest.approx(1 - 25.0 / 30.0)


@pytest.mark.parametrize("ends", [Chapter.stop, Chapter.paused])
def test_energy_that_no_window_answers_for_is_in_no_saving_while_it_may_be_a_stall(ends):
    told = chapter()
    told.worked(30.0)
    told.energy_j = 25.0
    told.window(seen(MAX, rate_hz=10.0, power_w=10.0), "profiling")
    told.energy_j = 50.0  # five seconds of silence
    assert told.saving_so_far == pytest.approx(1 - 25.0 / 30.0)
    told.worked(30.0)
    ends(told, 9.0)  # no window is to come
    assert told.saving_so_far == pytest.approx(1 - 50.0 / 60.0)


def test_a_change_of_the_program_keeps_the_account_and_starts_a_new_baseline():
    told = chapter()
    told.window(seen(MAX, rate_hz=10.0, power_w=10.0), "profiling")
    told.worked(10.0)
    told.changed()
    assert told.baseline is None
    told.worked(10.0)
    told.energy_j = 15.0
    told.window(seen(MAX, rate_hz=5.0, power_w=10.0), "profiling")
    assert told.saving_so_far == pytest.approx(1 - 15.0 / (10 * 1.0 + 10 * 2.0))


def test_a_window_while_profiling_starts_the_profiling_where_no_change_was_needed():
    told = chapter()
    told.window(seen(MAX, seconds=3.0), "profiling")
    assert told.profiling_s(10.0) == pytest.approx(5.0)


@given(st.lists(st.sampled_from([f"f{number}" for number in range(40)])))
def test_other_programs_are_named_but_not_without_end(apps: list[str]):
    one = chapter()
    for app in apps:
        one.shared([app], 1.0, "idle")
    different = list(dict.fromkeys(apps))
    assert len(one.others) <= MOST_NAMED + 1
    assert one.others_in_words.split(" and ") == (
        (different or [""]) if len(different) <= MOST_NAMED else [*different[:MOST_NAMED], "others"]
    )


@pytest.mark.parametrize(
    ("windows", "mixed"),
    [
        ([], False),
        ([(0, 5.0, "profiling"), (0, 90.0, "idle")], False),
        ([(1, 5.0, "profiling"), (1, 90.0, "idle")], False),
        ([(0, 5.0, "profiling"), (1, 1.0, "profiling"), (0, 900.0, "idle")], True),
        ([(0, 5.0, "profiling"), (0, 95.0, "idle"), (1, 3.0, "idle")], False),
        ([(0, 5.0, "profiling"), (0, 95.0, "idle"), (1, 30.0, "idle")], True),
    ],
)
def test_no_saving_is_told_of_windows_with_and_without_company(windows: list, mixed: bool):
    told = chapter()
    told.window(seen(MAX, rate_hz=10.0, power_w=10.0), "profiling")
    told.decide(chose(LOW))
    told.worked(10.0)
    told.energy_j = 9.0
    told.window(seen(LOW, rate_hz=8.0, power_w=6.0), "idle")
    for others, seconds, phase in windows:
        told.shared(["b", "c"][:others], seconds, phase)
    assert told.mixed == mixed
    assert math.isnan(told.saving) == mixed
    assert math.isnan(told.saving_so_far) == mixed
    told.changed()
    assert not told.mixed


def test_before_anything_was_decided_the_first_window_is_no_baseline():
    told = chapter()
    told.worked(10.0)
    told.energy_j = 9.0
    told.window(seen(LOW), "profiling")
    assert told.baseline_name == "first window"
    assert math.isnan(told.saving_so_far)


def test_a_state_that_was_left_before_its_first_beat_is_not_told_as_the_present():
    one = chapter()
    one.window(seen(MAX), "idle")
    hasty = Observation(configuration=MAX, start_s=NAN, end_s=NAN, beats=0, steps=0.0, rate_hz=NAN, power_w=9.0)
    one.window(hasty, "profiling")
    assert one.latest == seen(MAX)
