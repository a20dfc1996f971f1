"""`ceml plugins`. Not covered: finding them (tests/plugins/test_find.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.cli import main

if TYPE_CHECKING:
    import pytest


def test_every_kind_is_listed_with_one_line_of_help(capsys: pytest.CaptureFixture[str]):
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in (
        "energy",
        "edp",
        "performance",
        "power_cap",
        "ed2p",
        "perf_per_watt",
        "min_energy",
        "carbon",
        "paper",
        "exhaustive",
        "local",
        "difference",
        "simulated",
        "replay",
    ):
        (*_, line) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(line.split()) > 4, line
        assert "cannot be loaded" not in line


def test_one_kind_can_be_asked_for(capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "searches"]) == 0
    out = capsys.readouterr().out
    assert "exhaustive" in out
    assert "energy" not in out
    assert main(["plugins", "colours"]) == 2
