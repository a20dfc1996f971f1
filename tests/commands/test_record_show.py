"""`ceml record show`. Not covered: writing records (tests/telemetry/test_record.py)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ceml.cli import main
from ceml.domain import events
from ceml.domain.knobs import Configuration
from ceml.domain.values import NAN, Limits, Observation
from ceml.telemetry.record import RecordWriter

if TYPE_CHECKING:
    from pathlib import Path

MAX, LOW = Configuration({"cpu_hz": 2e9}), Configuration({"cpu_hz": 1e9})


def applied(at_s: float, configuration: Configuration, why: str = "1 of 2") -> events.ConfigurationApplied:
    return events.ConfigurationApplied(
        at_s=at_s, requested=configuration, effective=configuration, in_force_s=at_s, took_s=0.0, why=why
    )


def window(
    at_s: float, configuration: Configuration, rate_hz: float, power_w: float, phase: str
) -> events.WindowClosed:
    seen = Observation(
        configuration=configuration, start_s=at_s - 2, end_s=at_s, beats=5, steps=2 * rate_hz, rate_hz=rate_hz,
        power_w=power_w,
    )  # fmt: skip
    return events.WindowClosed(at_s=at_s, app="vit", observation=seen, phase=phase)


def a_run() -> list[events.Event]:
    return [
        events.RunStarted(
            at_s=0.0, schema=1, version="9", platform="simulated", labels=("simulated",), knobs={"cpu_hz": (1e9, 2e9)},
            found=MAX, objective="energy", model="paper", search="exhaustive", limits=Limits(power_cap_w=8.0),
            total_rails=("total",),
        ),
        events.AppJoined(at_s=1.0, app="vit"),
        applied(1.0, MAX),
        window(3.0, MAX, 10.0, 10.0, "profiling"),
        applied(3.0, LOW),
        window(6.0, LOW, 8.0, 6.0, "profiling"),
        events.Decided(
            at_s=6.0, app="vit", configuration=LOW, rate_hz=8.0, power_w=6.0, cost=0.75, feasible=True, violation=0.0,
            evaluated=2, why="profiled",
        ),
        applied(6.5, LOW, "profiled"),
        window(9.0, LOW, 8.0, 6.0, "idle"),
        events.LinesRefused(at_s=9.0, counts={"bad": 3}, example="x"),
        events.AppLeft(at_s=10.0, app="vit"),
        events.RunEnded(at_s=11.0, reason="SIGTERM", steps=80.0, seconds=11.0, energy_j=70.0, profiling_s=5.5),
    ]  # fmt: skip


def recorded(path: Path, run: list[events.Event]) -> Path:
    writer = RecordWriter(path)
    for event in run:
        writer.write(event)
    writer.close()
    return path


def test_a_person_reads_what_ran_what_was_tried_decided_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["record", "show", str(recorded(tmp_path / "r", a_run()))]) == 0
    out = capsys.readouterr().out
    for wanted in (
        "ceml 9 on simulated: objective energy, model paper, search exhaustive, power cap 8 W",
        "these numbers are: simulated",
        "program    vit",
        "state 1    cpu_hz=2000MHz: 10 steps/s, 10.00 W, 1 J/step",
        "state 2    cpu_hz=1000MHz: 8 steps/s, 6.00 W, 0.75 J/step",
        "decided    cpu_hz=1000MHz  (after 6.0 s: profiled)",
        "profiling  5.5 s; 2 states tried",
        "(max frequencies)",
        "saving     25.0% of the energy per step",
        "windows    3",
        "refused    3 lines",
        "ended      SIGTERM: 80 steps in 11.0 s, 70 J",
    ):
        assert wanted in out, wanted


def test_a_program_reads_the_same_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["record", "show", "--json", str(recorded(tmp_path / "r", a_run()))]) == 0
    shown = json.loads(capsys.readouterr().out)
    (app,) = shown["apps"]
    assert app["app"] == "vit"
    assert [state["energy_j"] for state in app["states"]] == pytest.approx([1.0, 0.75])
    assert app["saving"] == pytest.approx(0.25)
    assert app["before"]["configuration"] == {"cpu_hz": 2e9}
    assert (app["profiling_s"], shown["windows"], shown["refused_lines"]) == (5.5, 3, 3)
    assert shown["ended"]["reason"] == "SIGTERM"


def test_several_programs_are_told_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = a_run()
    run[-1:-1] = [events.AppJoined(at_s=10.0, app="lstm"), applied(10.1, MAX)]
    assert main(["record", "show", "--json", str(recorded(tmp_path / "r", run))]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [app["app"] for app in shown["apps"]] == ["vit", "lstm"]
    assert shown["apps"][0]["saving"] == pytest.approx(0.25)


def test_what_was_measured_before_the_program_changed_is_still_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = a_run()
    run[-3:-3] = [events.PhaseChanged(at_s=9.5, app="vit", signal="rate", before=8.0, after=2.0)]
    path = str(recorded(tmp_path / "r", run))
    assert main(["record", "show", path]) == 0
    out = capsys.readouterr().out
    assert "state 1    cpu_hz=2000MHz: 10 steps/s, 10.00 W, 1 J/step  (before the program changed)" in out
    assert "not measured" not in out
    assert main(["record", "show", "--json", path]) == 0
    (app,) = json.loads(capsys.readouterr().out)["apps"]
    assert [state["energy_j"] for state in app["before_change"]] == pytest.approx([1.0, 0.75])


def test_another_program_that_ran_meanwhile_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = a_run()
    run.insert(3, events.AppJoined(at_s=1.5, app="lstm"))
    assert main(["record", "show", str(recorded(tmp_path / "r", run))]) == 0
    assert "beware     another program, lstm, ran meanwhile: power is of all of them" in capsys.readouterr().out


def test_a_run_that_was_killed_ended_without_goodbye_and_its_last_line_may_be_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = recorded(tmp_path / "r", a_run())
    path.write_bytes(path.read_bytes()[:-20])
    assert main(["record", "show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "unread     line 12 is no event (cut off, or spoilt)" in out
    assert "ended      without goodbye, last heard of after 10.0 s" in out


def test_what_was_not_measured_is_said_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = [*a_run()[:3], window(3.0, MAX, NAN, NAN, "profiling")]
    run += [applied(3.0, LOW), window(6.0, LOW, NAN, 6.0, "profiling")]
    assert main(["record", "show", str(recorded(tmp_path / "r", run))]) == 0
    out = capsys.readouterr().out
    assert "state 1    cpu_hz=2000MHz: not measured\n" in out
    assert "state 2    cpu_hz=1000MHz: rate not measured, 6.00 W\n" in out
    assert "nan" not in out


def test_without_power_nothing_is_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = [*a_run()[:3], window(3.0, MAX, 10.0, NAN, "profiling")]
    assert main(["record", "show", str(recorded(tmp_path / "r", run))]) == 0
    out = capsys.readouterr().out
    assert "10 steps/s" in out
    assert "J/step" not in out
    assert "saving" not in out


@pytest.mark.parametrize("content", [b"", b"\x7fELF\0\0", b"time,power\n1,2\n", b'{"a": 1}\n', b"[1]\n"])
def test_a_foreign_file_is_an_error_for_a_person(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "r"
    path.write_bytes(content)
    assert main(["record", "show", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ceml: ")
    assert str(path) in line


def test_lines_of_a_later_version_are_counted_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = recorded(tmp_path / "r", a_run())
    path.write_bytes(path.read_bytes() + b'{"event":"aliens_landed","at_s":12.0}\n')
    assert main(["record", "show", str(path)]) == 0
    assert "unknown    1 lines" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "aside"), [([], False), (["--budget", "6W"], True), (["--objective", "performance"], True)]
)
def test_the_true_best_says_what_it_does_not_care_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], aside: bool
):
    record = tmp_path / "run.jsonl"
    assert main(["replay", "jetson-tx2", "--workload", "vit", "--steps", "60", "--record", str(record), *flags]) == 0
    capsys.readouterr()
    assert main(["record", "show", str(record)]) == 0
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("true best")]
    assert ("limits and other objectives aside" in said) is aside


def test_a_record_of_another_schema_is_shown_and_exported_with_a_warning(tmp_path: Path, capsys):
    begun, *rest = a_run()
    path = recorded(tmp_path / "r", [replace(begun, schema=7), *rest])
    assert main(["record", "show", str(path)]) == 0
    assert "schema     7; this version reads schema 1" in capsys.readouterr().out
    assert main(["record", "export", str(path), "--csv", str(tmp_path / "t.csv")]) == 0
    assert "schema 7; this version reads schema 1" in capsys.readouterr().err
    ours = recorded(tmp_path / "ours", a_run())
    assert main(["record", "export", str(ours), "--csv", str(tmp_path / "t.csv")]) == 0
    assert "schema" not in capsys.readouterr().err
