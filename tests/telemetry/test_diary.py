"""What the diary keeps of any events. Not covered: how it is shown (tests/screens)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.domain.events import BudgetChanged, Decided, GuardStepped, Heartbeat, PhaseChanged
from ceml.domain.knobs import Configuration
from ceml.domain.values import Limits
from ceml.telemetry.diary import KEPT, LONGEST, Diary
from tests.telemetry.any_event import any_event

FAST = Configuration({"gpu_hz": 1.3e9})


@settings(max_examples=40)
@given(st.lists(any_event, max_size=5))
def test_entries_are_numbered_without_gaps_and_bounded_in_number_and_length(events: list):
    diary = Diary()
    for event in events:
        diary.on(event)
    numbers = [entry.number for entry in diary.entries]
    assert len(numbers) <= KEPT
    assert numbers == list(range(numbers[0], numbers[-1] + 1)) if numbers else True
    assert all(len(entry.text) <= LONGEST for entry in diary.entries)
    assert diary.guard_steps == sum(isinstance(event, GuardStepped) for event in events)
    assert diary.phase_changes == sum(isinstance(event, PhaseChanged) for event in events)


def test_beats_are_no_news_and_decisions_are():
    diary = Diary()
    for beat in range(100):
        diary.on(Heartbeat(at_s=float(beat), app="a"))
    diary.on(BudgetChanged(at_s=100.0, limits=Limits(power_cap_w=8.0), source="file budget.toml"))
    diary.on(BudgetChanged(at_s=100.5, limits=Limits(), source="file budget.toml"))
    diary.on(
        Decided(
            at_s=101.0, app="a", configuration=FAST, rate_hz=1.0, power_w=2.0, cost=2.0, feasible=False,
            violation=0.1, evaluated=9, why="power cap 1 W cannot hold",
        )
    )  # fmt: skip
    changed, lifted, decided = diary.entries
    assert (changed.what, changed.text) == ("limits", "now power cap 8 W (file budget.toml)")
    assert lifted.text == "now no limits (file budget.toml)"
    assert decided.text == "gpu_hz=1300MHz: power cap 1 W cannot hold"
    assert (changed.grave, decided.grave) == (False, True)
