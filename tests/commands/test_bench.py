"""`ceml bench tables` as a person meets it. Not covered: the figures themselves (tests/bench)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ceml.cli import main
from ceml.commands.bench_options import seeds_of
from ceml.errors import SettingsError
from tests.bench.small_tables import written


def test_one_object_with_the_figures_and_what_produced_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tables = [
        str(written(tmp_path, "t.csv")),
        str(written(tmp_path, "rough.csv", smoothed=False)),
        str(written(tmp_path, "times.csv", power=False)),
    ]
    words = ["bench", "tables", *tables, "--seeds", "2", "--steps", "200", "--rivals", "max,random-7", "--jobs", "1"]
    words += ["--objective", "energy", "--objective", "edp", "--noise-time", "0.01"]
    assert main([*words, "--json", "-"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["settings"]["seeds"] == [0, 1]
    assert report["settings"]["noise_time"] == 0.01
    assert report["settings"]["objectives"] == ["energy", "edp"]
    (whole,) = [row for row in report["rows"] if row["name"].startswith("energy: whole run")]
    (line,) = [g for g in report["grids"] if g["pooled"] and g["objective"] == "energy"]
    assert whole["values"]["median"] == line["run_excess"]
    assert [(g["table"], g["objective"], g["runs"]) for g in report["grids"]] == [
        (name, objective, 2) for name in ("t.csv", "rough.csv") for objective in ("energy", "edp")
    ]
    assert [line["name"] for line in report["rivals"]] == ["ours", "max", "random-7"]
    assert [line["of"] for line in report["rivals_apart"]] == [None, 1, 1]
    assert [text.split(":")[1].strip() for text in report["left_out"]] == ["times.csv w b8"] * 2
    assert "16 of 16 runs done" in err

    assert main([*words, "--json", str(tmp_path / "report.json")]) == 0
    again = json.loads((tmp_path / "report.json").read_text())
    assert again == report  # no space was large enough for wall time to be measured
    text = capsys.readouterr().out
    assert "energy: whole run above the best state" in text
    assert "never pooled" in text
    assert "left out: times.csv w b8" in text


def test_knowledge_of_the_board_is_asked_for_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    table = str(written(tmp_path, "t.csv", workloads=("w", "v")))
    words = ["bench", "tables", table, "--seeds", "2", "--steps", "200", "--rivals", "none", "--jobs", "1"]
    names = ["with the board's knowledge from other workloads", "resident memory"]
    found = []
    for more in ([], ["--knowledge"], ["--knowledge", "--workload", "w"]):
        assert main([*words, *more, "--json", "-"]) == 0
        report = json.loads(capsys.readouterr().out)
        found.append({row["name"]: list(row["values"].values()) for row in report["rows"]})
        assert report["settings"]["with_knowledge"] == bool(more)
        assert found[-1][names[1]] == [None]
    assert [None not in each[names[0]] for each in found] == [False, True, True]  # `v` teaches, filtered too
    for row in found[0].keys() - {names[0]}:
        assert found[0][row] == found[1][row]
    assert not any((tmp_path / "temporary").iterdir())


def test_mistakes_are_clean_lines_before_anything_is_played(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = str(written(tmp_path, "t.csv"))
    for words, text in (
        ([str(tmp_path / "none.csv")], "cannot be read"),
        ([table, "--rivals", "bayes"], "--rivals bayes: no such strategy"),
        ([table, "--seeds", "9..0"], "--seeds 9..0: write LOW..HIGH"),
        ([table, "--seeds", "0"], "--seeds 0: write"),
        ([table, "--steps", "0"], "--steps 0: give 1 or more"),
        ([table, "--jobs", "-1"], "--jobs -1: give 1 or more"),
        ([table, "--jobs", "0"], "--jobs 0: give 1 or more"),
        ([table, "--workload", "x"], "--workload x is in none"),
        ([table, "--objective", "nonsense"], "nonsense"),
        ([table, "--model", "nonsense"], "nonsense"),
        ([table, "--json", str(tmp_path)], "--json"),
    ):
        assert main(["bench", "tables", *words]) == 2, words
        err = capsys.readouterr().err
        assert text in err
        assert all(line.startswith("ceml: ") for line in err.splitlines()), err


def test_rivals_need_the_objective_that_they_are_compared_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = [str(written(tmp_path, "t.csv")), "--seeds", "1", "--steps", "60", "--objective", "edp", "--rivals", "max"]
    assert main(["bench", "tables", *words, "--jobs", "1"]) == 0
    assert "left out: every rival" in capsys.readouterr().out


def test_seeds_are_a_range_or_a_count():
    assert (seeds_of("0..9"), seeds_of("3"), seeds_of("4..4")) == (range(10), range(3), range(4, 5))
    for text in ("", "a", "0", "3..1", "-1", "1..", "1.5", "9" * 40, "0..1..2"):
        with pytest.raises(SettingsError, match="--seeds"):
            seeds_of(text)


def test_ctrl_c_ends_all_processes_quickly_and_without_a_word(tmp_path: Path):
    table = str(written(tmp_path, "t.csv", levels=12))
    words = ["bench", "tables", table, "--seeds", "50", "--rivals", "none", "--jobs", "2"]
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "ceml", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stderr is not None
    assert "of 50 runs done" in child.stderr.readline()
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: everybody hears it
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert gone(child.pid)


def gone(group: int) -> bool:
    """Whether nobody of a process group is left; the last one, Python's tracker of resources, ends a moment later."""
    for _ in range(1000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_where_nothing_can_be_played_the_status_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = [str(written(tmp_path, "times.csv", power=False)), "--seeds", "1", "--steps", "60", "--rivals", "none"]
    assert main(["bench", "tables", *words, "--jobs", "1"]) == 2
    assert "left out: times.csv w b8: objective energy needs power" in capsys.readouterr().out
