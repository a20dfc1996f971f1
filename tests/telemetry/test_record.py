"""Records and their schema. Not covered: what a run puts into them (tests/test_serve.py, tests/test_house.py)."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from any_event import any_event
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ceml.domain import events
from ceml.domain.knobs import Configuration
from ceml.domain.values import FitStatus, Observation
from ceml.errors import SettingsError, Unavailable
from ceml.telemetry import record
from ceml.telemetry.record import RecordWriter, as_event, as_json, event_name, read, schema

if TYPE_CHECKING:
    from ceml.domain.events import Event

SCHEMA_FILE = Path(record.__file__).with_name("record.schema.json")


def beat(at_s: float) -> events.Heartbeat:
    return events.Heartbeat(at_s=at_s, app="a", metrics={"loss": 0.5})


def window(at_s: float) -> events.WindowClosed:
    seen = Observation(
        configuration=Configuration({"cpu_hz": 1e9}), start_s=0.0, end_s=at_s, beats=3, steps=3.0, rate_hz=1.5
    )
    return events.WindowClosed(at_s=at_s, app="a", observation=seen, phase="idle")


def test_the_shipped_schema_is_the_one_that_the_events_give():
    """Where an event changed: `SCHEMA_FILE.write_text(json.dumps(schema(), indent=1) + "\\n")`."""
    assert json.loads(SCHEMA_FILE.read_text()) == schema()
    jsonschema.Draft202012Validator.check_schema(schema())


VALIDATOR = jsonschema.Draft202012Validator(schema())


@given(any_event)
def test_every_event_becomes_a_line_that_the_schema_allows(event: Event):
    line = json.loads(json.dumps(as_json(event), allow_nan=False))
    assert list(line)[:2] == ["event", "at_s"]
    VALIDATOR.validate(line)


@given(any_event)
def test_a_line_becomes_the_event_again_but_for_what_is_no_number(event: Event):
    again = as_event(json.loads(json.dumps(as_json(event))))
    assert type(again) is type(event)
    assert as_json(again) == as_json(event)  # type: ignore[arg-type]


@given(st.dictionaries(st.sampled_from(["at_s", "app", "observation", "knobs"]) | st.text(), st.none() | st.integers()))
def test_any_line_becomes_an_event_or_none(entry: dict[str, Any]):
    for kind in ("window_closed", "run_started", "nonsense"):
        as_event({**entry, "event": kind})


def test_what_is_no_number_is_null_and_what_is_not_for_records_is_left_out():
    fitted = events.ModelFitted(at_s=1.0, app="a", status=FitStatus.GOOD, sentence="", observations=7, fit=object())  # type: ignore[arg-type]
    assert "fit" not in as_json(fitted)
    line = as_json(window(2.0))
    assert line["predicted_rate_hz"] is None
    assert line["observation"]["configuration"] == {"cpu_hz": 1e9}  # type: ignore[index]
    assert event_name(events.ConfigurationApplied) == "configuration_applied"


def test_the_same_events_give_the_same_bytes(tmp_path: Path):
    for name in ("a", "b"):
        writer = RecordWriter(tmp_path / name, "all")
        for at_s in (0.1, 0.2, 1 / 3):
            writer.write(beat(at_s))
            writer.write(window(at_s))
        writer.close()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("level", "kinds"),
    [
        ("decisions", ["sensor_lost"]),
        ("windows", ["window_closed", "sensor_lost"]),
        ("all", ["heartbeat", "sampled", "window_closed", "sensor_lost"]),
    ],
)
def test_a_level_leaves_out_what_it_says(tmp_path: Path, level: record.Level, kinds: list[str]):
    writer = RecordWriter(tmp_path / "r", level)
    lost = events.SensorLost(at_s=4.0, sensor="s", reason="r")
    for event in (beat(1.0), events.Sampled(at_s=2.0, sensor="s"), window(3.0), lost):
        writer.write(event)
    writer.close()
    assert [line["event"] for line in read(tmp_path / "r")] == kinds


def test_an_older_record_is_replaced_and_anything_else_is_left_alone(tmp_path: Path):
    path = tmp_path / "r"
    for _ in range(2):
        writer = RecordWriter(path)
        writer.write(window(1.0))
        writer.close()
    assert len(list(read(path))) == 1
    path.write_text("my thesis")
    with pytest.raises(SettingsError, match="left alone"):
        RecordWriter(path)
    assert path.read_text() == "my thesis"
    os.mkfifo(tmp_path / "fifo")
    for other in (tmp_path, tmp_path / "fifo", tmp_path / "none" / "r"):
        with pytest.raises((SettingsError, Unavailable), match="record"):
            RecordWriter(other)


def test_a_record_that_somebody_writes_is_left_alone(tmp_path: Path):
    path = tmp_path / "r"
    first = RecordWriter(path)
    first.write(window(1.0))
    with pytest.raises(SettingsError, match="another ceml writes"):
        RecordWriter(path)
    first.write(window(2.0))
    first.close()
    assert [line["at_s"] for line in read(path)] == [1.0, 2.0]
    RecordWriter(path).close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_stops_the_record_once_and_not_the_run():
    writer = RecordWriter(Path("/dev/full"))
    with capture_logs() as logs:
        for at_s in range(5):
            writer.write(window(float(at_s)))
        writer.close()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("recording_stopped", "warning")]
    assert "No space left" in logs[0]["reason"]


def test_half_a_line_is_taken_back_when_the_disk_fills_up(tmp_path: Path):
    """A limit on the file's size fails in the middle of a line, as a full disk does; in a process of its own."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_record import window
from ceml.telemetry.record import RecordWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
writer = RecordWriter(Path({str(tmp_path / "r")!r}))
for at_s in range(100):
    writer.write(window(float(at_s)))
writer.close()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("recording_stopped") == 1
    content = (tmp_path / "r").read_bytes()
    assert content.endswith(b"}\n")
    assert 600 < len(content) <= 1000
    assert len(list(read(tmp_path / "r"))) == content.count(b"\n")


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_cut_off_last_line_is_told_and_left_out(tmp_path: Path, cut: int):
    path = tmp_path / "r"
    writer = RecordWriter(path)
    for at_s in (1.0, 2.0, 3.0):
        writer.write(window(at_s))
    writer.close()
    path.write_bytes(path.read_bytes()[:-cut])
    told: list[int] = []
    assert [line["at_s"] for line in read(path, on_bad_line=told.append)] == [1.0, 2.0]
    assert told == [3]


@given(st.binary())
def test_any_file_is_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.mktemp("any") / "r"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="record"):
        list(read(path))


def test_damage_in_the_middle_costs_only_that_line_and_is_told(tmp_path: Path):
    path = tmp_path / "r"
    good = json.dumps(as_json(window(1.0)))
    path.write_text(f"{good}\nnonsense\n{good}\n")
    told: list[int] = []
    assert len(list(read(path, on_bad_line=told.append))) == 2
    assert told == [2]
    with pytest.raises(SettingsError, match="No such file"):
        list(read(tmp_path / "none"))


def test_null_is_nan_again():
    again = as_event(as_json(window(1.0)))
    assert isinstance(again, events.WindowClosed)
    assert math.isnan(again.predicted_power_w)
