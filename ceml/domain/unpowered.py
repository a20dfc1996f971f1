"""Whether anything can be decided where power is not measured: what an objective makes of states without watts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.values import Prediction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ceml.domain.contracts import Objective
    from ceml.domain.values import Observation, Situation

REMEDY = "see to the sensor (ceml doctor), or take an objective that needs the rate alone, e.g. performance"
WHY = f"no power is measured, and the objective needs it: {REMEDY}"


def unpowered(objective: Objective, known: Iterable[Observation], now: Situation) -> bool:
    """Whether the objective has no cost without power, and none was ever measured of this program."""
    if any(seen.power_w > 0.0 for seen in known):
        return False
    blank = Prediction(rate_hz=np.array([1.0, 2.0]), power_w=np.full(2, np.nan))
    return not np.isfinite(objective.cost(blank, now)).any()
