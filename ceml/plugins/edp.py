"""Objective `edp`: energy-delay product per step (C17, footnote 3 of the paper)."""

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
class EnergyDelayProduct:
    """Least energy-delay product per step: cost = P / rate^2, in J s per step."""

    constraints: tuple[Constraint, ...] = ()
    risk: float | None = None

    def cost(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """(P / rate) * (1 / rate) of each state, shape (n,), J s; NaN where the power is not known."""
        predicted = judged(predicted, self.risk)
        return predicted.power_w / predicted.rate_hz / predicted.rate_hz


def edp(*, risk: float | None = None) -> EnergyDelayProduct:
    """Least energy-delay product per step: power / rate^2 (J s); gives up less speed than `energy`.

    Args:
        risk: Quantile of rate and power to judge by, 0.5 to 0.99 (cautious); None: what is expected.

    Raises:
        SettingsError: A risk out of its range.
    """
    return EnergyDelayProduct(risk=checked_risk("edp", risk))
