"""What `ceml status` prints. Not covered: what a running server answers (tests/test_control.py)."""

from __future__ import annotations

from typing import Any

from ceml.commands.status import for_people


def told(*happened: tuple[str, str], **more: Any) -> str:
    status = {
        "phase": "idle", "app": "a", "platform": "simulated", "labels": [], "objective": "mine", "configuration": None,
        "why": "", "rails_w": {}, "temperature_c": None, "latest": None, "limits": [], "decided": None, "decisions": 0,
        "states_tried": 1, "profiling_s": 1.0, "saving": None, "saving_between": None, "others": None,
        "seconds": 1.0, "steps": 1.0, "energy_j": None,
        "happened": [{"what": what, "text": text} for what, text in happened], **more,
    }  # fmt: skip
    return for_people(status)


def test_why_nothing_was_decided_is_said_for_as_long_as_that_is_the_last_word():
    undecided = ("undecided", "no finite cost")
    assert "undecided   no finite cost" in told(("joined", "a"), undecided, ("limits", "now 8 W"))
    for later in ("decided", "joined", "objective"):
        assert "undecided" not in told(undecided, (later, "something else"))


def test_a_saving_that_is_a_vague_estimate_is_told_as_an_interval():
    rest = {"baseline": "max frequencies, as the model expects them", "saving_so_far": None}
    said = told(saving_between=(0.05, 0.35), **rest)
    assert "saving      somewhere between 5% and 35% (95 %) of the energy per step against max frequencies" in said
    assert "saving      21.0% of the energy per step" in told(saving=0.21, saving_between=(0.15, 0.25), **rest)


def test_what_is_not_known_has_no_row():
    assert "saving" not in told()
    assert "hottest" not in told()
    assert "beware" not in told()
    assert "beware      another program, b, was here: power is of all" in told(others="b")
    assert "decided     nothing yet" in told()
