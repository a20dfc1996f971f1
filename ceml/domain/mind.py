"""What a manager thinks with: the plugins chosen for a run, and how windows are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ceml.domain.values import NAN, Knowledge

if TYPE_CHECKING:
    from ceml.domain.contracts import Objective, ResponseModel, Sampler, Search


@dataclass(frozen=True, kw_only=True)
class Mind:
    """What a manager thinks with: the plugins, and how idle windows are cut.

    Attributes:
        objective: What the user wants less of.
        model: How rate and power answer to knobs.
        sampler: What to measure next.
        search: Which state is best.
        knowledge: What is known of the machine, and of programs that ran on it.
        total_rails: Rails whose sum is the power of the whole board.
        power_sensors: Sensors that these rails come from; losing one means power is not known.
        lag_s: By how much samples trail the truth.
        unix_offset_s: What makes seconds since 1970 of our own; NaN where time is virtual.
        idle_beats: Beats in a window while idle, at least.
        idle_samples: Power samples in a window while idle, at least.
        idle_window_s: Seconds in a window while idle, at least.
        exploration_budget: Share of the energy that trials may take after the first commitment (purse.py); 1: all.
        turns: Whether two states may take turns where none meets a limit exactly (schedule.py).
    """

    objective: Objective
    model: ResponseModel
    sampler: Sampler
    search: Search
    knowledge: Knowledge = field(default_factory=Knowledge)
    total_rails: tuple[str, ...] = ()
    power_sensors: frozenset[str] = frozenset()
    lag_s: float = 0.0
    unix_offset_s: float = NAN
    idle_beats: int = 5
    idle_samples: int = 10
    idle_window_s: float = 1.0
    exploration_budget: float = 1.0
    turns: bool = True
