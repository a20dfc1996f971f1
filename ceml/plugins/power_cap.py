"""Objective `power_cap`: maximum performance under a cap on power (C17, F8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ceml.domain.budget import PowerCap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ceml.domain.contracts import Constraint
    from ceml.domain.values import Prediction, Situation


@dataclass(frozen=True)
class Performance:
    """Most steps per second: cost = -rate, in steps/s.

    Attributes:
        constraints: The cap, where the objective brings its own; else the budget in force is the cap.
    """

    constraints: tuple[Constraint, ...] = ()

    def cost(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """-rate of each state, shape (n,), steps/s."""
        return -predicted.rate_hz


def power_cap(*, cap_w: float | None = None) -> Performance:
    """Most steps per second under a power cap: -rate; `cap_w` in watts, else the budget in force is the cap."""
    return Performance(() if cap_w is None else (PowerCap(cap_w),))
