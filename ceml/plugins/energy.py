"""Objective `energy`: the paper's default score, joules per step (C17)."""

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
class Energy:
    """Least energy per step: cost = P / rate, in J per step."""

    constraints: tuple[Constraint, ...] = ()
    risk: float | None = None

    def cost(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """P / rate of each state, shape (n,), J per step; NaN where the power is not known."""
        predicted = judged(predicted, self.risk)
        return predicted.power_w / predicted.rate_hz


def energy(*, risk: float | None = None) -> Energy:
    """Least energy per step: power / rate (J).

    Args:
        risk: Quantile of rate and power to judge by, 0.5 to 0.99 (cautious); None: what is expected.

    Raises:
        SettingsError: A risk out of its range.
    """
    return Energy(risk=checked_risk("energy", risk))
