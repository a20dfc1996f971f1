"""Reading a record for pictures. Not covered: sums of the ledger (tests/telemetry/test_ledger.py)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain import events
from ceml.domain.values import NAN, Limits
from ceml.errors import SettingsError
from ceml.telemetry.record import as_json
from ceml.telemetry.report import digest as module
from ceml.telemetry.report.digest import Digest, digest, tell_apart
from tests.commands.test_record_show import LOW, MAX, a_run, applied, recorded, window
from tests.telemetry.any_event import any_event


def digested(run: list[events.Event]) -> Digest:
    found = Digest(Path("x"))
    found.begun_s = run[0].at_s
    for event in run:
        found.on(event)
    found.close()
    return found


def sampled(at_s: float, power_w: float) -> events.Sampled:
    return events.Sampled(at_s=at_s, sensor="s", rails_w={"total": power_w})


@given(st.lists(any_event, max_size=15))
def test_any_sequence_of_events_is_digested(run: list[events.Event]):
    digested([event for event in run if abs(event.at_s) < 1e11] or a_run())


@given(st.lists(st.binary(max_size=40) | any_event.map(lambda e: json.dumps(as_json(e)).encode()), max_size=8))
def test_any_file_is_digested_or_refused_with_a_sentence(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]):
    path = tmp_path_factory.mktemp("records") / "r"
    path.write_bytes(b"\n".join(lines))
    try:
        found = digest(path)
    except SettingsError as error:
        told = str(error)
        assert str(path) in told
    else:
        assert found.kinds


def test_both_readers_of_json_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = recorded(tmp_path / "r", a_run())
    quick = digest(path)
    monkeypatch.setattr(module, "quick_loads", lambda: json.loads)
    plain = digest(path)
    assert (quick.kinds, quick.remarks, quick.spans) == (plain.kinds, plain.remarks, plain.spans)


def test_phases_decisions_and_configurations_lie_where_they_happened():
    found = digested(a_run())
    assert [(span.phase, span.from_s, span.to_s) for span in found.spans] == [
        ("waiting", 0.0, 1.0), ("profiling", 1.0, 6.5), ("idle", 6.5, 10.0), ("waiting", 10.0, 11.0),
    ]  # fmt: skip
    assert [remark.text for remark in found.remarks if remark.kind == "decision"] == ["cpu_hz=1000MHz: profiled"]
    assert found.lines.knobs["cpu_hz"].points()[1].tolist() == [2e9, 1e9]
    assert found.lines.cap.points()[1].tolist() == [8.0]
    assert found.told[0].window_steps == 2 * 10 + 2 * 8 + 2 * 8


def test_energy_is_told_by_phase_of_control():
    run = a_run()
    samples = [sampled(at_s / 2, 8.0) for at_s in range(23)]
    found = digested(sorted([*run, *samples], key=lambda event: event.at_s))
    joules = found.told[0].joules
    assert sum(joules.values()) == pytest.approx(8.0 * 10.0, abs=8.0)
    assert joules["profiling"] == pytest.approx(8.0 * 5.5, abs=4.1)
    assert found.ledger.energy_j == pytest.approx(8.0 * 11.0)


def test_a_state_that_was_left_before_its_first_beat_takes_nothing_from_the_ledger():
    run = a_run()
    before = digested(run).told[0]
    last = next(event for event in reversed(run) if isinstance(event, events.WindowClosed))
    hasty = replace(last.observation, beats=0, steps=0.0, rate_hz=NAN, start_s=NAN, end_s=NAN, power_w=7.2)
    run.insert(run.index(last), replace(last, observation=hasty))
    after = digested(run).told[0]
    assert after.window_joules_profiling + after.window_joules_running > 0.0
    assert after.window_joules_running == before.window_joules_running
    assert after.window_steps == before.window_steps


def test_the_time_without_a_sensor_is_a_gap():
    run = a_run()
    run[3:3] = [sampled(1.5, 8.0), events.SensorLost(at_s=2.0, sensor="s", reason="x"), sampled(2.5, 8.0)]
    _, values = digested(run).lines.power.points()
    assert [value == value for value in values] == [True, False, True]


def test_between_windows_that_do_not_touch_nothing_is_claimed():
    run = [*a_run()[:3], window(3.0, MAX, 10.0, NAN, "profiling"), window(9.0, MAX, 10.0, NAN, "profiling")]
    found = digested(run)
    assert [value == value for value in found.lines.rate.points()[1]] == [True, True, False, True, True]
    assert not found.lines.window_power


def test_all_limits_are_named_and_that_there_are_none_is_said():
    run = a_run()
    for limits in (replace(run[0].limits, power_cap_w=None, target_hz=2.0), Limits()):  # type: ignore[union-attr]
        run[-2:-2] = [events.BudgetChanged(at_s=9.5, limits=limits, source="socket")]
    said = [remark.text for remark in digested(run).remarks if remark.kind == "budget"]
    assert said == ["target 2 steps/s (socket)", "no limits (socket)"]


def test_objectives_and_what_could_not_be_decided_have_words_of_their_own():
    run = a_run()
    run[-2:-2] = [
        events.ObjectiveChanged(at_s=9.5, objective="edp", source="socket"),
        events.Undecided(at_s=9.6, app="a", why="no cost"),
        events.DecisionSlow(at_s=9.7, app="a", took_s=1.0, why="3 s"),
    ]
    said = [(remark.kind, remark.text) for remark in digested(run).remarks if 9.5 <= remark.at_s < 9.8]
    assert said == [("objective", "edp (socket)"), ("decision", "none: no cost"), ("decision", "slow: 3 s")]


def test_words_are_kept_up_to_a_bound_and_the_rest_is_counted():
    run = a_run()
    run[-2:-2] = [events.BudgetChanged(at_s=9.5, limits=run[0].limits)] * (module.MOST_REMARKS + 5)  # type: ignore[union-attr]
    found = digested(run)
    assert len(found.remarks) == module.MOST_REMARKS
    assert found.untold > 5


def test_the_opening_is_kept_apart_up_to_soon_after_the_first_decision():
    run = [*a_run()[:-2], *(applied(at, LOW if at % 2 else MAX) for at in range(20, 90)), *a_run()[-2:]]
    found = digested(run)
    assert found.opening_s == 6.0 + 2 * 5.0
    assert len(found.opening.knobs["cpu_hz"].points()[0]) == 2


def test_a_record_of_another_version_alone_is_refused(tmp_path: Path):
    path = tmp_path / "r"
    path.write_text('{"event":"aliens_landed","at_s":1.0}\n')
    with pytest.raises(SettingsError, match="no event that this version"):
        digest(path)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/run", "b/run", "b/other"], ["a/run", "b/run", "other"]),
        (["x/a/run", "y/a/run", "y/b/run"], ["x/a/run", "y/a/run", "b/run"]),
        (["run"], ["run"]),
        (["a/run", "a/run"], ["a/run", "a/run"]),  # twice the same: the page tells them apart by their letters
    ],
)
def test_records_of_one_name_are_told_apart_by_what_their_paths_differ_in(paths: list[str], names: list[str]):
    runs = [Digest(Path("/", path)) for path in paths]
    tell_apart(runs)
    assert [run.name.removeprefix("/") for run in runs] == names
