"""What `ceml replay` prints. Not covered: how it is scored (tests/bench)."""

from __future__ import annotations

import json

import pytest

from ceml.cli import main


@pytest.mark.parametrize(("model", "sampler"), [("overlap", "improvement"), ("paper", "paper")])
def test_budget_and_the_sampler_in_force_are_said(model: str, sampler: str, capsys: pytest.CaptureFixture[str]):
    words = ["replay", "jetson-tx2", "--workload", "vit", "--steps", "300", "--model", model, "--budget", "7W"]
    assert main(words) == 0
    assert f"sampler {sampler}, power cap 7 W" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["sampler"], shown["budget_w"]) == (sampler, 7.0)
