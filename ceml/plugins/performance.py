"""Objective `performance`, also called `power_cap`: the most steps per second that the limits allow (C17, F8)."""

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
class Performance:
    """Most steps per second: cost = -rate, in steps/s."""

    constraints: tuple[Constraint, ...] = ()
    risk: float | None = None

    def cost(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """-rate of each state, shape (n,), steps/s."""
        predicted = judged(predicted, self.risk)
        return -predicted.rate_hz


def performance(*, risk: float | None = None) -> Performance:
    """Most steps per second under whatever limits are set (e.g. a power budget): -rate (steps/s).

    Args:
        risk: Quantile of rate and power to judge by, 0.5 to 0.99 (cautious); None: what is expected.

    Raises:
        SettingsError: A risk out of its range.
    """
    return Performance(risk=checked_risk("performance", risk))


def power_cap(*, risk: float | None = None) -> Performance:
    """`performance` by its other name, for a cap on power: most steps per second under --budget 8W.

    Args:
        risk: Quantile of rate and power to judge by, 0.5 to 0.99 (cautious); None: what is expected.

    Raises:
        SettingsError: A risk out of its range.
    """
    return Performance(risk=checked_risk("power_cap", risk))
