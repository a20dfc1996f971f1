"""Log lines. Not covered: who subscribes to what (tests/test_serve.py)."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
import structlog
from any_event import any_event
from hypothesis import given
from structlog.testing import capture_logs

from ceml.domain import events
from ceml.domain.knobs import Configuration
from ceml.domain.values import FitStatus, Limits, Observation
from ceml.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ceml.domain.events import Event


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


A, B = Configuration({"cpu_hz": 2e9, "gpu_hz": 1.3e9}), Configuration({"cpu_hz": 1e9, "gpu_hz": 1.3e9})


CAPPED = Limits(power_cap_w=8.0, rail_caps_w={"gpu": 3.0})


def applied(requested: Configuration, effective: Configuration) -> events.ConfigurationApplied:
    return events.ConfigurationApplied(
        at_s=1.0, requested=requested, effective=effective, in_force_s=1.008, took_s=0.001, why="profiling 1 of 7"
    )


def lost() -> events.SensorLost:
    return events.SensorLost(at_s=1.0, sensor="ina", reason="gone")


def test_a_line_is_flat_with_units_in_its_keys():
    with capture_logs() as logs:
        log.log_events(applied(A, A))
    (line,) = logs
    assert line["event"] == "applied"
    assert (line["cpu_hz"], line["gpu_hz"], line["why"]) == (2_000_000_000, 1_300_000_000, "profiling 1 of 7")
    assert "requested" not in line


def test_limits_stand_by_name_and_that_there_are_none_is_said():
    some, none = (events.BudgetChanged(at_s=1.0, limits=limits, source="x") for limits in (CAPPED, Limits()))
    assert log.line(some) == {"at_s": 1, "power_cap_w": 8, "gpu_cap_w": 3, "source": "x"}
    assert log.line(none) == {"at_s": 1, "limits": "none", "source": "x"}


def test_what_was_asked_is_said_only_where_it_is_not_what_came():
    assert log.line(applied(A, B))["requested"] == "cpu_hz=2000MHz gpu_hz=1300MHz"
    withheld = events.ConfigurationWithheld(at_s=1.0, requested=B, effective=A, why="dry run")
    assert log.line(withheld)["requested"] == str(B)


def test_samples_and_windows_are_flat_too():
    sampled = events.Sampled(at_s=1.0, sensor="s", rails_w={"gpu": 2.123456789}, temperatures_c={"soc": 40.0})
    assert log.line(sampled) == {"at_s": 1, "sensor": "s", "gpu_w": 2.12346, "soc_c": 40, "covers_s": 0}
    window = Observation(configuration=A, start_s=0.0, end_s=1.0, beats=5, steps=5.0, rate_hz=5.0)
    line = log.line(events.WindowClosed(at_s=1.0, app="a", observation=window, phase="idle"))
    assert line["rate_hz"] == 5
    assert "power_w" not in line  # not measured, so not said


def decided(*, feasible: bool) -> events.Decided:
    return events.Decided(
        at_s=1.0, app="a", configuration=A, rate_hz=1.0, power_w=1.0, cost=1.0, feasible=feasible, violation=0.0,
        evaluated=1, why="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (events.Heartbeat(at_s=1.0, app="a"), "debug"),
        (events.AppJoined(at_s=1.0, app="a"), "info"),
        (applied(A, A), "info"),
        (decided(feasible=True), "info"),
        (decided(feasible=False), "warning"),
        (lost(), "warning"),
        (events.LinesRefused(at_s=1.0, counts={"bad_app": 3}, example="'x'"), "warning"),
        (events.ControlRefused(at_s=1.0, app="b", holder="a"), "warning"),
        (events.ModelFitted(at_s=1.0, app="a", status=FitStatus.SINGULAR, sentence="", observations=3), "warning"),
        (events.ConfigurationReleased(at_s=1.0, effective=A), "info"),
        (events.ConfigurationReleased(at_s=1.0, effective=A, unrestored=("x",)), "warning"),
    ],
)
def test_levels_say_what_to_look_at(event: Event, level: str):
    with capture_logs() as logs:
        log.log_events(event)
    assert [line["log_level"] for line in logs] == [level]


@pytest.mark.parametrize(("verbose", "quiet", "lines"), [(True, False, 3), (False, False, 2), (False, True, 1)])
def test_verbose_shows_beats_and_quiet_shows_warnings_only(verbose: bool, quiet: bool, lines: int):
    stream = io.StringIO()
    log.configure("json", log.level(verbose=verbose, quiet=quiet), stream)
    for event in (events.Heartbeat(at_s=1.0, app="a"), events.AppJoined(at_s=1.0, app="a"), lost()):
        log.log_events(event)
    assert len(stream.getvalue().splitlines()) == lines


@given(any_event)
def test_every_event_is_one_json_line(event: Event):
    stream = io.StringIO()
    log.configure("json", "debug", stream)
    log.log_events(event)
    (text,) = stream.getvalue().splitlines()
    entry = json.loads(text)
    assert {"event", "level", "timestamp"} <= set(entry)


@given(any_event)
def test_every_event_is_a_console_line(event: Event):
    stream = io.StringIO()
    log.configure("console", "debug", stream)
    log.log_events(event)
    (text,) = stream.getvalue().splitlines()
    assert text.isprintable()


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch):
    cases = [
        ("", "xterm", Terminal(), True),
        ("1", "xterm", Terminal(), False),
        ("", "dumb", Terminal(), False),
        ("", "xterm", io.StringIO(), False),
    ]
    for no_color, term, stream, coloured in cases:
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setenv("TERM", term)
        log.configure("console", "info", stream)
        log.log_events(lost())
        assert ("\x1b[" in stream.getvalue()) is coloured


def test_a_sentence_is_a_warning():
    with capture_logs() as logs:
        log.warn("environment variable CEML_X means nothing to ceml")
    assert logs[0]["log_level"] == "warning"
