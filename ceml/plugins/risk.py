"""What the shipped objectives share when they are averse to risk: costs at a quantile instead of the mean.

With `risk=0.9` a state is judged by the rate that it stays above and the power that it stays below, each with
probability 0.9: of two states that are expected to cost the same the better known one wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.errors import SettingsError

if TYPE_CHECKING:
    from ceml.domain.values import Prediction

LEAST, MOST = 0.5, 0.99


def judged(predicted: Prediction, risk: float | None) -> Prediction:
    """The prediction at the quantile `risk`; as it is without one, or where the model states no uncertainty."""
    return predicted if risk is None else predicted.quantile(risk)


def checked_risk(objective: str, risk: float | None) -> float | None:
    """The option, if it is one.

    Raises:
        SettingsError: Outside of `LEAST` to `MOST`.
    """
    if risk is not None and not LEAST <= risk <= MOST:
        raise SettingsError(
            f"risk = {risk:g} of objective {objective}: give a quantile from {LEAST} (the median) to {MOST} (very "
            "cautious), or leave it out to judge by the mean"
        )
    return risk
