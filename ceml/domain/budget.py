"""Constraints, and how far a state is from keeping them (C17, C22)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from ceml.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ceml.domain.values import Prediction, Situation


@dataclass(frozen=True)
class PowerCap:
    """The power of the whole board must not exceed `cap_w`.

    Attributes:
        cap_w: The cap in watts.

    Raises:
        SettingsError: The cap is not a positive, finite number.
    """

    cap_w: float

    def __post_init__(self) -> None:
        if not (isfinite(self.cap_w) and self.cap_w > 0):
            raise SettingsError(
                f"cap_w = {self.cap_w:g} is no power cap: give a positive number of watts, e.g. 8; to have no cap, "
                "leave the budget away"
            )

    @property
    def name(self) -> str:
        """What a person calls it, e.g. `power cap 8 W`."""
        return f"power cap {self.cap_w:g} W"

    def violation(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """Relative excess max(P / cap - 1, 0), shape (n,).

        A power that is not known (NaN) breaks the cap infinitely: a cap is a promise, and nobody may promise what he
        does not know.
        """
        excess = np.fmin(predicted.power_w, np.inf)  # fmin passes over NaN: what is not known becomes infinite
        excess /= self.cap_w
        excess -= 1.0
        return np.maximum(excess, 0.0, out=excess)
