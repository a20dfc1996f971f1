"""Objective `min_energy`: least energy, but not slower than a stated slowdown (C17: energy under a target)."""

from __future__ import annotations

from ceml.domain.budget import MaxSlowdown
from ceml.plugins.energy import Energy


def min_energy(*, max_slowdown: float = 0.1) -> Energy:
    """Least energy per step, each step at most `max_slowdown` (0.1 = 10 %) slower than at maximum frequencies.

    Args:
        max_slowdown: By how much a step may take longer, as share.

    Raises:
        SettingsError: A slowdown that is none.
    """
    return Energy((MaxSlowdown(max_slowdown),))
