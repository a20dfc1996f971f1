"""`ceml app` as a command. Not covered: how the program paces itself (tests/apps)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ceml.cli import main

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
