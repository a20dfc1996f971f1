"""Objective `perf_per_watt`: steps per second and watt, which is steps per joule (C17)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ceml.plugins.risk import checked_risk, judged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ceml.domain.contracts import Constraint
    from ceml.domain.values import Prediction, Situation


@dataclass(frozen=True)
class PerformancePerWatt:
    """Most steps per second and watt: cost = -rate / P, in steps per J; its best state is the one of `energy`."""

    constraints: tuple[Constraint, ...] = ()
    risk: float | None = None

    def cost(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """-rate / P of each state, shape (n,), steps/J; NaN where the power is not known."""
        predicted = judged(predicted, self.risk)
        return -predicted.rate_hz / predicted.power_w


def perf_per_watt(*, risk: float | None = None) -> PerformancePerWatt:
    """Most steps per second and watt: -rate / power (steps/J); chooses as `energy` does, shown as people compare it.

    Args:
        risk: Quantile of rate and power to judge by, 0.5 to 0.99 (cautious); None: what is expected.

    Raises:
        SettingsError: A risk out of its range.
    """
    return PerformancePerWatt(risk=checked_risk("perf_per_watt", risk))
