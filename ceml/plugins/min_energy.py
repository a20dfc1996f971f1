"""Objective `min_energy`: least energy, but not slower than a stated slowdown (C17: energy under a target)."""

from __future__ import annotations

from ceml.domain.budget import MaxSlowdown
from ceml.plugins.energy import Energy
from ceml.plugins.risk import checked_risk


def min_energy(*, max_slowdown: float = 0.1, risk: float | None = None) -> Energy:
    """Least energy per step, each step at most `max_slowdown` (0.1 = 10 %) slower than at maximum frequencies.

    Args:
        max_slowdown: By how much a step may take longer, as share.
        risk: Quantile of rate and power to judge the energy by, 0.5 to 0.99 (cautious); None: what is expected.

    Raises:
        SettingsError: A slowdown that is none, or a risk out of its range.
    """
    return Energy((MaxSlowdown(max_slowdown),), checked_risk("min_energy", risk))
