"""What `ceml explain` prints. Not covered: what a running server answers (tests/test_control.py)."""

from __future__ import annotations

from typing import Any

from ceml.commands.explain import for_people

CANDIDATE = {
    "configuration": {"gpu_hz": 1e9}, "in_force": True, "rate_hz": 1.0, "power_w": 5.0, "energy_j": 5.0, "cost": 5.0,
    "violation": 0.0, "violation_surely": 0.0, "rate_sd": 3.5, "power_sd": 3.5, "margins": {}, "measured": None,
}  # fmt: skip


def told(**more: Any) -> str:
    return for_people(
        {
            "app": "a", "objective": "energy", "why": "trial: 1", "model": "overlap", "sentence": "nothing measured",
            "states": 1, "measured_states": 0, "unjudged": "", "candidates": [CANDIDATE], "measured": [],
            "parameters": [], **more,
        }
    )  # fmt: skip


def test_before_anything_was_measured_guesses_are_not_ranked():
    assert "nothing was measured yet" in told()
    assert "candidates" not in told()


def test_once_something_was_measured_they_are():
    assert "candidates, the best first" in told(measured_states=1)
    assert "nothing was measured yet" not in told(measured_states=1)
