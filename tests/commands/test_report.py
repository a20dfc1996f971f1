"""`ceml report` and `ceml record export` as a person meets them. Not covered: the pictures (tests/telemetry/report)."""

from __future__ import annotations

import csv
import importlib.util
from typing import TYPE_CHECKING

import pytest

from ceml.cli import main
from tests.commands.test_record_show import a_run, recorded

if TYPE_CHECKING:
    from pathlib import Path

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib (extra report) is not installed"
)


@needs_matplotlib
def test_a_page_and_pictures_are_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = recorded(tmp_path / "r.jsonl", a_run())
    words = [
        "report",
        str(path),
        "-o",
        str(tmp_path / "p.html"),
        "--png",
        str(tmp_path / "a"),
        "--svg",
        str(tmp_path / "b"),
    ]
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"written: {tmp_path / 'p.html'}"
    assert f"written: {tmp_path / 'a' / 'timeline.png'}" in out
    assert (tmp_path / "a" / "ledger.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "b" / "pareto.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "p.html").stat().st_size < 3_000_000


@needs_matplotlib
def test_without_o_the_page_is_report_html_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(recorded(tmp_path / "r", a_run()))]) == 0
    assert (tmp_path / "report.html").is_file()
    assert main(["report", str(tmp_path / "r"), "--svg", "pictures"]) == 0
    assert (tmp_path / "pictures" / "timeline.svg").is_file()


@needs_matplotlib
def test_a_cut_record_is_drawn_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = recorded(tmp_path / "r", a_run())
    path.write_bytes(path.read_bytes()[:-20] + b'\n{"event":"aliens_landed","at_s":1.0}\n')
    assert main(["report", str(path), "-o", str(tmp_path / "p.html")]) == 0
    assert f"ceml: {path}: 2 lines cannot be read" in capsys.readouterr().err
    assert b"line 12 is no event" in (tmp_path / "p.html").read_bytes()


@needs_matplotlib
def test_mistakes_are_one_clean_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = str(recorded(tmp_path / "r", a_run()))
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"\x7fELF\0\0")
    (tmp_path / "file").write_text("")
    for words, text in (
        ([str(tmp_path / "none")], "cannot read the record"),
        ([str(foreign)], "is no record of ceml"),
        ([str(tmp_path / "file")], "is empty"),
        ([path, "-o", path], "is one of the records"),
        ([path, "-o", str(tmp_path)], "is a directory"),
        ([path, "-o", str(tmp_path / "no" / "p.html")], "cannot write"),
        ([path, "--png", str(tmp_path / "file")], "cannot make the directory"),
    ):
        assert main(["report", *words]) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("ceml: ")
        assert text in line


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["report", str(tmp_path / "r")]) == 2
    assert "pip install ceml-runtime[report]" in capsys.readouterr().err


def test_a_record_is_exported_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = recorded(tmp_path / "r", a_run())
    assert main(["record", "export", str(path), "--csv", str(tmp_path / "t.csv")]) == 0
    assert "3 rows" in capsys.readouterr().out
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["observation.rate_hz"]) for row in rows] == [10.0, 8.0, 8.0]
    assert main(["record", "export", str(path), "--csv", str(tmp_path / "t.csv"), "--events", "decided,run_ended"]) == 0
    assert "2 rows" in capsys.readouterr().out


def test_mistakes_of_an_export_are_one_clean_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = str(recorded(tmp_path / "r", a_run()))
    for words, text in (
        ([path], "say where to"),
        ([path, "--csv", path], "is the record itself"),
        ([path, "--csv", "-"], "/dev/stdout"),
        ([path, "--csv", str(tmp_path / "t"), "--parquet", str(tmp_path / "." / "t")], "both tables"),
        ([path, "--csv", str(tmp_path / "t"), "--events", "sampled"], "it has app_joined (1)"),
        ([path, "--csv", str(tmp_path / "no" / "t")], "cannot write"),
        ([str(tmp_path / "none"), "--csv", str(tmp_path / "t")], "cannot read the record"),
    ):
        assert main(["record", "export", *words]) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line
