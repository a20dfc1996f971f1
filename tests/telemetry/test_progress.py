"""What a terminal shows. Not covered: the sums behind it (test_ledger.py, test_chapter.py)."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.events import (
    AppJoined,
    AppLeft,
    ConfigurationApplied,
    Decided,
    Heartbeat,
    LinesRefused,
    RunStarted,
    WindowClosed,
)
from ceml.domain.knobs import Configuration
from ceml.domain.values import Limits, Observation
from ceml.telemetry.chapter import Chapter
from ceml.telemetry.ledger import Ledger
from ceml.telemetry.progress import Progress, status_line, summary

MAX, LOW = Configuration({"cpu_hz": 2e9, "gpu_hz": 1.3e9}), Configuration({"cpu_hz": 1e9, "gpu_hz": 1.3e9})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def started() -> RunStarted:
    knobs = {"cpu_hz": (1e9, 2e9), "gpu_hz": (1.3e9,)}
    return RunStarted(
        at_s=0.0, schema=1, version="", platform="p", labels=(), knobs=knobs, found=MAX, objective="", model="",
        search="", limits=Limits(), total_rails=(),
    )  # fmt: skip


def applied(at_s: float, configuration: Configuration, why: str) -> ConfigurationApplied:
    return ConfigurationApplied(
        at_s=at_s, requested=configuration, effective=configuration, in_force_s=at_s, took_s=0.0, why=why
    )


def window(at_s: float, configuration: Configuration, *, rate_hz: float, power_w: float, phase: str) -> WindowClosed:
    seen = Observation(
        configuration=configuration,
        start_s=at_s - 1,
        end_s=at_s,
        beats=5,
        steps=rate_hz,
        rate_hz=rate_hz,
        power_w=power_w,
    )
    return WindowClosed(at_s=at_s, app="a", observation=seen, phase=phase)


def told(*, feasible: bool = True, why: str = "profiling state 3 of 7") -> Ledger:
    """A ledger in the middle of profiling."""
    ledger = Ledger(())
    for event in (
        started(),
        AppJoined(at_s=0.0, app="a"),
        applied(1.0, MAX, why),
        window(3.0, MAX, rate_hz=10.0, power_w=10.0, phase="profiling"),
    ):
        ledger.on(event)
    return ledger


def decide(ledger: Ledger, *, feasible: bool = True) -> None:
    decided = Decided(
        at_s=4.0, app="a", configuration=LOW, rate_hz=8.0, power_w=6.0, cost=0.75, feasible=feasible, violation=0.1,
        evaluated=2, why="nothing is feasible",
    )  # fmt: skip
    for event in (decided, applied(4.0, LOW, ""), window(6.0, LOW, rate_hz=8.0, power_w=6.0, phase="idle")):
        ledger.on(event)


def test_the_line_says_phase_rate_power_energy_and_configuration():
    assert status_line(Ledger(()), 99) == "waiting for a program"
    ledger = told()
    assert status_line(ledger, 200) == ("profiling 3 of 7 · 10 steps/s · 10.00 W · 1 J/step · cpu 2000MHz gpu 1300MHz")
    decide(ledger)
    assert status_line(ledger, 200).startswith("settled · 8 steps/s · 6.00 W · 0.75 J/step · cpu 1000MHz")


def test_without_a_count_in_the_reason_states_are_counted():
    assert status_line(told(why="initial"), 200).startswith("profiling state 1 ·")


def test_an_infeasible_budget_is_in_the_line_and_in_the_summary():
    ledger = told()
    decide(ledger, feasible=False)
    assert "budget cannot hold" in status_line(ledger, 200)
    assert "nothing is feasible" in summary(ledger, ())


@given(st.integers(0, 300))
def test_the_line_fits_the_terminal(columns: int):
    assert len(status_line(told(), columns)) <= max(columns, 1)


def test_it_is_rewritten_in_place_and_at_most_five_times_a_second():
    stream, ledger = Terminal(), told()
    progress = Progress(stream, ledger)
    for tick in range(100):
        ledger.on(applied(10.0 + tick / 100, MAX, f"{tick} of 100"))
        progress.on(Heartbeat(at_s=10.0 + tick / 100, app="a"))
    assert 4 <= stream.getvalue().count("\r\x1b[K") <= 5
    assert "\n" not in stream.getvalue()


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    Progress(stream, told()).on(Heartbeat(at_s=1.0, app="a"))
    assert "\x1b[1m" not in stream.getvalue()
    assert "profiling 3 of 7" in stream.getvalue()


@pytest.mark.parametrize("dumb", [True, False])
def test_where_there_is_no_terminal_nothing_is_written(monkeypatch: pytest.MonkeyPatch, dumb: bool):
    stream = Terminal() if dumb else io.StringIO()
    if dumb:
        monkeypatch.setenv("TERM", "dumb")
    progress = Progress(stream, told())
    progress.on(Heartbeat(at_s=1.0, app="a"))
    progress.clear()
    assert stream.getvalue() == ""


def test_log_lines_go_above_the_line_which_comes_back():
    stream, ledger = Terminal(), told()
    progress = Progress(stream, ledger)
    progress.on(Heartbeat(at_s=1.0, app="a"))
    progress.above.write("a log line\n")
    assert stream.getvalue().endswith("\r\x1b[Ka log line\n")
    progress.on(Heartbeat(at_s=2.0, app="a"))
    assert stream.getvalue().count("profiling") == 2


def test_the_summary_says_before_after_and_saving_with_labels():
    ledger = told()
    ledger.on(LinesRefused(at_s=3.5, counts={"bad": 2}, example=""))
    decide(ledger)
    rows = {line.split(maxsplit=1)[0]: line for line in summary(ledger, ("simulated",)).splitlines()}
    assert rows["before"].endswith("1 J/step, 10.00 W, 10 steps/s at cpu_hz=2000MHz gpu_hz=1300MHz  (max frequencies)")
    assert "0.75 J/step" in rows["after"]
    assert "25.0% of the energy per step against max frequencies, both measured" in rows["saving"]
    assert "3.0 s; 2 states tried" in rows["profiling"]
    assert "2 lines" in rows["refused"]
    assert rows["note"].endswith("these numbers are: simulated")


def test_a_saving_against_what_a_model_expects_is_told_as_an_estimate():
    ledger = Ledger(())
    chose = Decided(
        at_s=4.0, app="a", configuration=LOW, rate_hz=8.0, power_w=6.0, cost=0.75, feasible=True, violation=0.0,
        evaluated=2, why="", rate_at_max_hz=10.0, power_at_max_w=10.0,
    )  # fmt: skip
    settled = window(6.0, LOW, rate_hz=8.0, power_w=6.0, phase="idle")
    for event in (started(), AppJoined(at_s=0.0, app="a"), chose, applied(4.0, LOW, ""), settled):
        ledger.on(event)
    assert "about 25% of the energy per step against max frequencies, as the model expects them (an estimate)" in (
        summary(ledger, ())
    )
    for event in (replace(chose, energy_at_max_sd=0.05), settled):
        ledger.on(event)
    assert "about 25% (95 %: 17% to 32%) of the energy per step" in summary(ledger, ())
    for event in (replace(chose, energy_at_max_sd=0.2), settled):
        ledger.on(event)
    assert "somewhere between -11% and 49% (95 %) of the energy per step against max frequencies" in summary(ledger, ())
    assert "about" not in summary(ledger, ())


@given(st.floats(0.5, 2.0), st.floats(0.0, 0.5))
def test_the_interval_of_an_estimated_saving_holds_it_and_grows_with_the_doubt(ratio: float, sd: float):
    def between(sd: float) -> tuple[float, float]:
        chapter = Chapter("a", 0.0, started())
        chapter.decide(Decided(
            at_s=4.0, app="a", configuration=LOW, rate_hz=8.0, power_w=6.0, cost=0.75, feasible=True, violation=0.0,
            evaluated=2, why="", rate_at_max_hz=10.0, power_at_max_w=10.0, energy_at_max_sd=sd,
        ))  # fmt: skip
        chapter.window(window(6.0, LOW, rate_hz=8.0, power_w=8.0 * ratio, phase="idle").observation, "idle")
        got = chapter.saving_between
        assert got is not None
        assert got[0] <= chapter.saving + 1e-12
        assert got[1] >= chapter.saving - 1e-12
        return got

    (low, high), (lower, higher) = between(sd), between(sd + 0.1)
    assert lower < low <= high < higher


def test_the_summary_speaks_of_the_last_program_that_was_measured():
    ledger = told()
    decide(ledger)
    alone = summary(ledger, ()).splitlines()
    for event in (
        AppLeft(at_s=6.0, app="a"),
        AppJoined(at_s=6.0, app="ghost"),
        applied(6.0, MAX, ""),
        AppLeft(at_s=6.0, app="ghost"),
    ):
        ledger.on(event)
    *rows, programs = summary(ledger, ()).splitlines()
    assert rows == alone
    assert programs == "programs   2; what was saved is said of the last one that was measured, a"


def test_a_window_told_late_belongs_to_the_program_that_left():
    ledger = told()
    ledger.on(AppLeft(at_s=4.0, app="a"))
    ledger.on(AppJoined(at_s=4.0, app="b"))
    ledger.on(window(4.0, LOW, rate_hz=8.0, power_w=6.0, phase="profiling"))
    assert ledger.chapter.latest is None
    assert (ledger.told.app, len(ledger.told.states)) == ("a", 2)


def test_a_run_in_which_nothing_happened_says_so():
    assert summary(Ledger(()), ()) == "ran        0.0 s, 0 steps, power not measured"
