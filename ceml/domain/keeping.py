"""Whether a state keeps a bound, by what was measured there: no model is asked.

A mean is known to its standard error; `surely` is 1.645 of them towards the unlucky side.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from ceml.domain.guard import BOARD, STEP_TIME, USUAL_SD, USUAL_STEP_SD
from ceml.domain.values import NAN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ceml.domain.guard import Bound
    from ceml.domain.values import Observation

SURELY_Z = 1.645  # 0.95 in standard deviations


def amount(seen: Observation, signal: str) -> float:
    """W of a rail, or seconds per step; NaN where it was not measured."""
    if signal == STEP_TIME:
        return 1.0 / seen.rate_hz
    return seen.power_w if signal == BOARD else seen.rail_w.get(signal, NAN)


def error(seen: Observation, signal: str) -> float:
    """Relative standard error of that mean."""
    timed = signal == STEP_TIME
    usual, cv, count = (
        (USUAL_STEP_SD, seen.step_cv, seen.beats) if timed else (USUAL_SD, seen.power_cv, seen.power_samples)
    )
    return (max(cv, usual) if cv == cv else usual) / sqrt(max(count, 1))


def least(seen: Iterable[Observation], signal: str) -> float:
    """What the measurements surely are not below; 0 where there are none."""
    return max([0.0, *(amount(each, signal) * (1.0 - SURELY_Z * error(each, signal)) for each in seen)])


def keeps(seen: Observation, bound: Bound, times: float = 1.0) -> bool:
    """Whether a measurement surely keeps a bound, had it drawn `times` as much power."""
    times = 1.0 if bound.signal == STEP_TIME else times
    return amount(seen, bound.signal) * times * (1.0 + SURELY_Z * error(seen, bound.signal)) <= bound.most
