"""`ceml restore` where it cannot. Not covered: putting knobs back (tests/test_serve.py, tests/platforms)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.cli import main
from ceml.store.lock import locked

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_journal_that_cannot_be_read_is_no_server_that_lives(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "journal.json").write_text('{"version": 1, "it')
    assert main(["restore", "--runtime-dir", str(tmp_path), "--wait-s", "0"]) == 2
    told = capsys.readouterr().err
    assert "cannot be read" in told
    assert "While it lives" not in told


def test_a_server_that_lives_is_named_after_the_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "journal.json").write_text("{}")
    with locked(tmp_path / "lock"):
        assert main(["restore", "--runtime-dir", str(tmp_path), "--wait-s", "0"]) == 2
    told = capsys.readouterr().err
    assert "another ceml serve" in told
    assert "While it lives it puts the knobs back itself" in told
