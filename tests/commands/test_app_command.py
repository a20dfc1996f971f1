"""`ceml app` as a command. Not covered: how the program paces itself (tests/apps)."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from ceml.cli import main
from ceml.store.board_file import BoardFile, write

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_board_it_says_what_to_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["app", "--workload", "vit", "--steps", "5", "--runtime-dir", str(tmp_path), "--wait-s", "0"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "ceml serve --platform simulated" in line


@pytest.mark.parametrize("words", [[], ["--workload", "vit"], ["--workload", "vit", "--steps", "many"]])
def test_what_is_missing_or_no_number_is_usage(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["app", *words]) == 2
    assert "usage: ceml app" in capsys.readouterr().err


def test_no_steps_is_no_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["app", "--workload", "vit", "--steps", "0", "--runtime-dir", str(tmp_path)]) == 2
    assert "at least one step" in capsys.readouterr().err


def test_on_a_board_of_another_boot_that_nobody_controls_it_says_so_and_takes_positive_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    board = {"kind": "jetson-tx2", "range": "paper"}
    levels = {"cpu_hz": 2035200000.0, "gpu_hz": 1300500000.0, "mem_hz": 1866000000.0}
    path = tmp_path / "board.json"
    ahead = BoardFile(
        plant=board, configuration=levels, before=levels, origin_s=time.monotonic() + 1e6, in_force_s=2e9, speed=100.0
    )
    write(path, ahead)
    os.utime(path, (0, 0))
    (tmp_path / "lock").write_text("4194999\n")  # above what a pid can be
    assert main(["app", "--workload", "vit", "--steps", "3", "--runtime-dir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.err.count("nobody controls the board") == 1
    seconds = float(said.out.partition(" in ")[2].partition(" s of")[0])
    assert 0.5 < seconds < 60.0
