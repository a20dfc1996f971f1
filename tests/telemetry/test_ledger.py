"""The ledger's sums. Not covered: what is shown of them (test_progress.py), chapters alone (test_chapter.py)."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.events import (
    AppJoined,
    AppLeft,
    ConfigurationApplied,
    ControlPaused,
    ControlRefused,
    ControlResumed,
    Decided,
    Heartbeat,
    LinesRefused,
    Sampled,
    SensorLost,
    WindowClosed,
)
from ceml.domain.knobs import Configuration
from ceml.domain.values import Observation
from ceml.telemetry.ledger import Ledger

MAX, LOW = Configuration({"cpu_hz": 2e9}), Configuration({"cpu_hz": 1e9})

times = st.lists(st.floats(0.001, 10.0), min_size=1, max_size=20)
watts = st.floats(0.0, 100.0)
series = st.lists(st.tuples(st.floats(0.001, 10.0), watts), min_size=2, max_size=20)


def sampled(at_s: float, covers_s: float = 0.0, sensor: str = "s", **rails_w: float) -> Sampled:
    return Sampled(at_s=at_s, sensor=sensor, rails_w=rails_w, covers_s=covers_s)


def energy(points: list[tuple[float, float]], *, covers: bool = False) -> float:
    """Joules over (seconds since the last, watts)."""
    ledger, at_s = Ledger(("total",)), 0.0
    for took_s, power_w in points:
        at_s += took_s
        ledger.on(sampled(at_s, took_s if covers else 0.0, total=power_w))
    return ledger.energy_j


def test_constant_power_is_power_times_time():
    assert energy([(1.0, 8.0), (2.0, 8.0), (0.5, 8.0)]) == pytest.approx(8.0 * 2.5)
    assert energy([(1.0, 8.0), (2.0, 8.0), (0.5, 8.0)], covers=True) == pytest.approx(8.0 * 3.5)


@given(series, st.integers(1, 18))
def test_energy_adds_up(points: list[tuple[float, float]], at: int):
    at = min(at, len(points) - 1)
    whole, first = energy(points), energy(points[: at + 1])
    assert whole == pytest.approx(first + energy(points[at:]), abs=1e-9)


@given(series, st.floats(0.0, 10.0))
def test_scaling_watts_scales_joules(points: list[tuple[float, float]], scale: float):
    scaled = [(took_s, power_w * scale) for took_s, power_w in points]
    assert energy(scaled) == pytest.approx(energy(points) * scale, abs=1e-9)


@given(series, st.floats(0.1, 0.9), st.booleans())
def test_splitting_samples_changes_nothing(points: list[tuple[float, float]], at: float, covers: bool):
    split: list[tuple[float, float]] = points[:1]
    for (_, before_w), (took_s, power_w) in pairwise(points):
        between_w = power_w if covers else before_w + (power_w - before_w) * at
        split += [(took_s * at, between_w), (took_s * (1 - at), power_w)]
    assert energy(split, covers=covers) == pytest.approx(energy(points, covers=covers), rel=1e-6, abs=1e-6)


@given(series)
def test_rails_add_up_to_the_board(points: list[tuple[float, float]]):
    ledger, at_s = Ledger(("cpu", "gpu")), 0.0
    for took_s, power_w in points:
        at_s += took_s
        ledger.on(sampled(at_s, cpu=power_w, gpu=2 * power_w, total=1e9))
    assert ledger.energy_j == pytest.approx(3 * energy(points), abs=1e-9)


def test_what_a_mean_does_not_cover_is_bridged():
    ledger = Ledger(("total",))
    ledger.on(sampled(1.0, 0.1, total=10.0))
    ledger.on(sampled(2.0, 0.1, total=20.0))
    assert ledger.energy_j == pytest.approx(10 * 0.1 + 15 * 0.9 + 20 * 0.1)


def test_no_energy_is_invented_while_a_sensor_is_lost():
    ledger = Ledger(("total",))
    ledger.on(sampled(1.0, total=10.0))
    ledger.on(sampled(2.0, total=10.0))
    ledger.on(SensorLost(at_s=2.5, sensor="s", reason="gone"))
    ledger.on(sampled(100.0, total=10.0))
    ledger.on(sampled(101.0, total=10.0))
    assert ledger.energy_j == pytest.approx(20.0)


def test_what_is_no_number_and_what_comes_late_do_no_harm():
    ledger = Ledger(("total",))
    for at_s, power_w in [(1.0, 5.0), (1.5, math.nan), (1.2, math.inf), (1.0, 99.0), (0.5, 99.0), (2.0, 5.0)]:
        ledger.on(sampled(at_s, total=power_w))
    assert ledger.energy_j == pytest.approx(5.0)


def test_without_rails_energy_is_said_to_be_unknown():
    ledger = Ledger(())
    ledger.on(sampled(1.0, total=5.0))
    assert not ledger.measured
    assert math.isnan(ledger.ended("x").energy_j)


def joined(app: str, at_s: float = 0.0) -> AppJoined:
    return AppJoined(at_s=at_s, app=app)


def test_steps_count_for_the_one_that_holds_the_machine():
    ledger = Ledger(())
    ledger.on(joined("a"))
    ledger.on(joined("b"))
    ledger.on(Heartbeat(at_s=1.0, app="a", work=3.0))
    ledger.on(Heartbeat(at_s=1.0, app="b", work=100.0))
    assert (ledger.steps, ledger.chapter.app) == (3.0, "a")
    ledger.on(AppLeft(at_s=2.0, app="a"))  # the one that waited takes over
    ledger.on(Heartbeat(at_s=3.0, app="b", work=4.0))
    assert (ledger.steps, ledger.chapter.app) == (7.0, "b")


def test_who_gives_way_waits_behind_all_others():
    ledger = Ledger(())
    for app in ("ghost", "b", "c"):
        ledger.on(joined(app))
    ledger.on(ControlRefused(at_s=0.0, app="b", holder="ghost"))  # as everybody is who comes second
    assert ledger.chapter.app == "ghost"
    ledger.on(Heartbeat(at_s=0.8, app="c", work=3.0))
    ledger.on(Heartbeat(at_s=0.9, app="c", work=2.0))  # before the controller came to it
    ledger.on(ControlRefused(at_s=1.0, app="ghost", holder="c", why="it never beat"))
    ledger.on(Heartbeat(at_s=1.0, app="ghost", work=100.0))
    ledger.on(Heartbeat(at_s=1.1, app="c", work=3.0))
    assert (ledger.steps, ledger.chapter.app) == (8.0, "c")
    ledger.on(AppLeft(at_s=2.0, app="c"))
    assert ledger.chapter.app == "b"


def test_energy_of_an_application_starts_with_it_and_ends_with_it():
    ledger = Ledger(("total",))
    ledger.on(sampled(0.0, total=10.0))
    ledger.on(joined("a", 1.0))
    ledger.on(sampled(2.0, total=10.0))
    ledger.on(AppLeft(at_s=2.0, app="a"))
    ledger.on(sampled(5.0, total=10.0))
    assert ledger.energy_j == pytest.approx(50.0)
    assert ledger.chapter.energy_j == pytest.approx(10.0)


def applied(at_s: float, configuration: Configuration) -> ConfigurationApplied:
    return ConfigurationApplied(
        at_s=at_s, requested=configuration, effective=configuration, in_force_s=at_s, took_s=0.0, why="1 of 7"
    )


def decided(at_s: float, configuration: Configuration) -> Decided:
    return Decided(
        at_s=at_s, app="a", configuration=configuration, rate_hz=1.0, power_w=1.0, cost=1.0, feasible=True,
        violation=0.0, evaluated=2, why="",
    )  # fmt: skip


def test_profiling_lasts_from_the_first_trial_to_the_decision_in_force():
    ledger = Ledger(())
    ledger.on(joined("a", 1.0))
    ledger.on(applied(2.0, MAX))
    ledger.on(applied(5.0, LOW))
    assert ledger.chapter.phase == "profiling"
    ledger.on(decided(9.0, LOW))
    ledger.on(applied(9.5, LOW))
    ledger.on(Heartbeat(at_s=50.0, app="a"))
    assert ledger.profiling_s == pytest.approx(7.5)
    assert (ledger.chapter.phase, len(ledger.chapter.states), ledger.configuration) == ("idle", 2, LOW)
    ledger.on(decided(60.0, MAX))  # a new budget: no profiling
    ledger.on(applied(60.1, MAX))
    assert ledger.profiling_s == pytest.approx(7.5)


def test_profiling_of_all_applications_adds_up():
    ledger = Ledger(())
    for app, start_s in (("a", 0.0), ("b", 100.0)):
        ledger.on(joined(app, start_s))
        ledger.on(applied(start_s + 1.0, MAX))
        ledger.on(AppLeft(at_s=start_s + 4.0, app=app))
    assert ledger.profiling_s == pytest.approx(6.0)


def closed(
    at_s: float, start_s: float, app: str = "a", configuration: Configuration = MAX, phase: str = "profiling"
) -> WindowClosed:
    seen = Observation(
        configuration=configuration, start_s=start_s, end_s=at_s, beats=2, steps=2.0, rate_hz=1.0, power_w=1.0
    )
    return WindowClosed(at_s=at_s, app=app, observation=seen, phase=phase)


def test_profiling_ends_with_the_program_though_its_last_window_is_told_after_that():
    ledger = Ledger(())
    ledger.on(joined("a", 1.0))
    ledger.on(applied(1.0, MAX))
    ledger.on(AppLeft(at_s=4.0, app="a", reason="process gone"))
    ledger.on(closed(4.0, 2.0))
    ledger.on(sampled(250.0, total=1.0))
    assert (ledger.profiling_s, ledger.chapter.phase) == (3.0, "waiting")


def test_a_pause_is_no_profiling():
    ledger = Ledger(())
    ledger.on(joined("a", 0.0))
    ledger.on(applied(1.0, MAX))
    ledger.on(ControlPaused(at_s=3.0))
    ledger.on(closed(3.0, 1.5))
    ledger.on(ControlResumed(at_s=50.0))
    assert ledger.profiling_s == 2.0
    ledger.on(applied(51.0, MAX))
    ledger.on(closed(54.0, math.nan))
    assert ledger.profiling_s == 5.0


moves = st.tuples(
    st.floats(0.0, 5.0), st.sampled_from(["join", "leave", "apply", "window", "decide", "pause", "resume"])
)


@given(st.lists(st.tuples(moves, st.sampled_from("ab"), st.floats(0.0, 20.0)), max_size=60))
def test_profiling_never_lasts_longer_than_the_programs_were_there(
    said: list[tuple[tuple[float, str], str, float]],
) -> None:
    ledger, at_s, present_s = Ledger(()), 0.0, 0.0
    here: set[str] = set()
    for (after_s, what), app, back_s in said:
        at_s, present_s = at_s + after_s, present_s + (after_s if here else 0.0)
        match what:
            case "join":
                here.add(app)
                ledger.on(joined(app, at_s))
            case "leave":
                here.discard(app)
                ledger.on(AppLeft(at_s=at_s, app=app, reason="left"))
            case "apply":
                ledger.on(applied(at_s, MAX))
            case "window":  # may be late, and tell of long ago
                ledger.on(closed(at_s, at_s - back_s, app))
            case "decide":
                ledger.on(decided(at_s, MAX))
            case "pause":
                ledger.on(ControlPaused(at_s=at_s))
            case _:
                ledger.on(ControlResumed(at_s=at_s))
        assert ledger.profiling_s <= present_s + 1e-6


def test_the_end_says_what_was_added_up():
    ledger = Ledger(("total",))
    ledger.on(sampled(1.0, total=3.0))
    ledger.on(sampled(3.0, total=3.0))
    ledger.on(LinesRefused(at_s=4.0, counts={"bad": 2, "long": 1}, example=""))
    end = ledger.ended("SIGTERM")
    assert (end.at_s, end.reason, end.seconds, end.energy_j) == (4.0, "SIGTERM", 3.0, 6.0)
    assert ledger.refused_lines == 3


def beat(at_s: float, work: float = 1.0) -> Heartbeat:
    return Heartbeat(at_s=at_s, app="a", work=work)


def test_steps_that_a_client_carried_over_are_work_but_saved_nothing():
    ledger = Ledger(("total",))
    ledger.on(sampled(0.0, total=10.0))
    ledger.on(joined("a", 0.5))
    ledger.on(beat(1.0, work=900.0))  # done while nobody listened
    ledger.on(beat(2.0))
    ledger.on(sampled(2.0, total=10.0))
    assert (ledger.steps, ledger.unmeasured_steps) == (901.0, 900.0)
    assert (ledger.chapter.steps, ledger.chapter.energy_j) == pytest.approx((1.0, 10.0))


def test_of_a_program_that_was_silent_and_is_back_the_first_beat_only_starts_the_clock():
    ledger = Ledger(("total",))
    ledger.on(sampled(0.0, total=10.0))
    ledger.on(joined("a", 0.0))
    for at_s in (0.0, 1.0, 2.0):
        ledger.on(beat(at_s))
        ledger.on(sampled(at_s + 0.001, total=10.0))
    ledger.on(AppLeft(at_s=2.0, app="a", reason="silent"))
    ledger.on(sampled(50.0, total=10.0))
    ledger.on(joined("a", 50.0))
    ledger.on(beat(50.0, work=48.0))
    ledger.on(beat(51.0))
    ledger.on(sampled(51.0, total=10.0))
    assert ledger.steps == 52.0
    assert ledger.chapter.steps == pytest.approx(3.0)
    assert ledger.chapter.energy_j == pytest.approx(30.0, rel=1e-3)


@given(st.floats(0.0, 200.0), st.floats(0.1, 5.0))
def test_silence_from_which_a_program_comes_back_enters_no_saving(silent_s: float, period_s: float):
    """Nine steps of 1 s at 10 W, however long it was silent between them, and however long that went unnoticed."""
    ledger = Ledger(("total",))
    back_s = 5.0 + silent_s + 50.0
    said = [sampled(at * period_s, total=10.0) for at in range(int((back_s + 4.0) / period_s) + 1)]
    said += [joined("a", 0.0), *(beat(float(at)) for at in range(6))]
    said += [AppLeft(at_s=5.0 + silent_s, app="a", reason="silent"), joined("a", back_s)]
    said += [beat(back_s + at) for at in range(5)]
    for event in sorted(said, key=lambda event: event.at_s):
        ledger.on(event)
    ledger.on(sampled(back_s + 4.0, total=10.0))
    assert ledger.chapter.steps == pytest.approx(9.0)
    assert ledger.chapter.energy_j == pytest.approx(90.0, abs=10.0 * 2 * period_s)
    assert ledger.chapter.stalled_s == pytest.approx(back_s - 5.0)


def test_the_steps_that_a_window_left_out_as_stalls_enter_no_saving():
    ledger = Ledger(("total",))
    ledger.on(joined("a", 0.0))
    at_s, sampled_s = 0.0, -0.5
    for step_s in (0.0, 1.0, 1.0, 30.0, 1.0, 5.0, 1.0):
        at_s += step_s
        while sampled_s < at_s:
            sampled_s += 0.5
            ledger.on(sampled(sampled_s, total=10.0))
        ledger.on(beat(at_s))
    stalled = closed(at_s, 0.0)
    stalled = replace(stalled, observation=replace(stalled.observation, outliers=2, outlier_s=35.0))
    ledger.on(stalled)
    for _ in range(4):
        at_s += 1.0
        ledger.on(sampled(at_s, total=10.0))
        ledger.on(beat(at_s))
    ledger.on(replace(stalled, at_s=at_s, observation=replace(stalled.observation, end_s=at_s, outliers=0)))
    assert (ledger.steps, ledger.chapter.steps) == (11.0, 8.0)
    assert ledger.chapter.energy_j == pytest.approx(80.0)
    assert ledger.chapter.stalled_s == pytest.approx(35.0)


@given(st.floats(0.05, 3.0), st.floats(0.05, 0.5), st.floats(1.0, 20.0))
def test_energy_per_measured_step_is_the_truth_whatever_gap_the_sensor_had(
    step_s: float, period_s: float, gap_s: float
):
    """At constant power each step costs the same; a lost sensor must not make it look cheaper or dearer."""
    ledger = Ledger(("total",))
    moments = [(0.0, joined("a", 0.0))]
    lost_s, back_s = 30.0, 30.0 + gap_s
    moments += [(at_s, beat(at_s)) for at_s in (number * step_s for number in range(1, int(80 / step_s)))]
    times = [number * period_s for number in range(int(80 / period_s))]
    moments += [(at_s, sampled(at_s, total=8.0)) for at_s in times if not lost_s < at_s < back_s]
    moments.append((lost_s, SensorLost(at_s=lost_s, sensor="s", reason="gone")))
    for _, event in sorted(moments, key=lambda moment: moment[0]):
        ledger.on(event)
    chapter = ledger.chapter
    assert chapter.energy_j / chapter.steps == pytest.approx(8.0 * step_s, rel=0.15)
    assert ledger.unmeasured_steps * step_s == pytest.approx(gap_s, abs=2 * step_s + 2 * period_s)


@given(
    step_s=st.floats(0.2, 2.0), period_s=st.floats(0.05, 0.5), periods=st.floats(45.0, 80.0), idle_w=st.floats(0.5, 8.0)
)
def test_what_nobody_looked_at_is_not_measured(step_s: float, period_s: float, periods: float, idle_w: float):
    """The loop was held up: samples stop without a word, and the first one after it tells nothing of that time."""
    ledger, gap_s = Ledger(("total",)), periods * period_s
    from_s, back_s = 30.0, 30.0 + gap_s
    moments = [(0.0, joined("a", 0.0))]
    moments += [(at_s, beat(at_s)) for at_s in (number * step_s for number in range(1, int((back_s + 30) / step_s)))]
    times = [number * period_s for number in range(int((back_s + 30) / period_s))]
    watts = {at_s: 8.0 for at_s in times if not from_s < at_s < back_s}
    first = min(at_s for at_s in watts if at_s >= back_s)
    watts[first] = idle_w
    moments += [(at_s, sampled(at_s, total=power_w)) for at_s, power_w in watts.items()]
    for _, event in sorted(moments, key=lambda moment: moment[0]):
        ledger.on(event)
    chapter = ledger.chapter
    assert chapter.energy_j / chapter.steps == pytest.approx(8.0 * step_s, rel=0.2)
    assert ledger.energy_j <= 8.0 * (max(times) - gap_s + 3 * period_s)


@pytest.mark.parametrize(("seen_s", "hole_s"), [(0.6, 60.0), (3.0, 60.0), (30.0, 60.0)])
def test_what_comes_after_the_last_sample_and_an_early_hole_are_not_measured(seen_s: float, hole_s: float):
    """Samples ten times a second until `seen_s`, a hole, 30 s of samples; then the program goes on without any."""
    ledger = Ledger(("total",))
    back_s = seen_s + hole_s
    moments = [(0.0, joined("a", 0.0))]
    moments += [(0.25 * number, beat(0.25 * number)) for number in range(1, int(4 * (back_s + 90)))]
    moments += [
        (at_s, sampled(at_s, total=8.0))
        for at_s in (0.1 * number for number in range(int(10 * (back_s + 30))))
        if not seen_s < at_s < back_s
    ]
    for _, event in sorted(moments, key=lambda moment: moment[0]):
        ledger.on(event)
    ledger.on(ledger.ended("SIGTERM"))
    measured_s = ledger.chapter.steps * 0.25
    assert measured_s == pytest.approx(seen_s + 30.0, abs=1.0)
    assert ledger.chapter.energy_j / ledger.chapter.steps == pytest.approx(2.0, rel=0.05)


def test_a_window_during_which_another_program_was_here_is_said_to_be_of_both():
    seen = Observation(configuration=MAX, start_s=1.0, end_s=2.0, beats=2, steps=2.0, rate_hz=2.0, power_w=5.0)
    closed = WindowClosed(at_s=2.0, app="a", observation=seen, phase="profiling")
    ledger = Ledger(("total",))
    ledger.on(joined("a"))
    ledger.on(closed)
    assert not ledger.chapter.others
    ledger.on(joined("lstm", 2.5))
    ledger.on(closed)
    ledger.on(AppLeft(at_s=3.0, app="lstm"))
    assert tuple(ledger.chapter.others) == ("lstm",)
