"""Objective `ed2p`: energy-delay-squared product per step, which weighs speed more than `edp` does."""

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
class EnergyDelaySquaredProduct:
    """Least energy-delay-squared product per step: cost = P / rate^3, in J s^2 per step."""

    constraints: tuple[Constraint, ...] = ()
    risk: float | None = None

    def cost(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """(P / rate) * (1 / rate)^2 of each state, shape (n,), J s^2; NaN where the power is not known."""
        predicted = judged(predicted, self.risk)
        return predicted.power_w / predicted.rate_hz / predicted.rate_hz / predicted.rate_hz


def ed2p(*, risk: float | None = None) -> EnergyDelaySquaredProduct:
    """Least energy-delay-squared product per step: power / rate^3 (J s^2); gives up even less speed than `edp`.

    Args:
        risk: Quantile of rate and power to judge by, 0.5 to 0.99 (cautious); None: what is expected.

    Raises:
        SettingsError: A risk out of its range.
    """
    return EnergyDelaySquaredProduct(risk=checked_risk("ed2p", risk))
