"""The paper's offline part (C9): power of a device against its utilisation, one straight line per level (Eq. 2).

    P = slope_w * U + idle_w

fitted by least squares to stress loads of different utilisation; independent of any application, once per machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, nan, sqrt
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.values import DevicePower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

LEAST_SPREAD = 0.1  # of utilisation over the loads of a level; less says nothing about a slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Stressed:
    """What was measured of one device under one load.

    Attributes:
        level_hz: Its clock.
        utilisation: Its busy share, 0 to 1.
        power_w: Power of its rail.
    """

    level_hz: float
    utilisation: float
    power_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFit:
    """The lines of one device, and how well they fit.

    Attributes:
        power: The lines, of those levels that have one; None: no level has.
        left_out: Levels whose loads were too alike, in Hz.
        error: Root mean square of what the lines leave over, as share of the mean power.
    """

    power: DevicePower | None
    left_out: tuple[float, ...]
    error: float


def fit_device(measured: Sequence[Stressed]) -> DeviceFit:
    """One line per level, by least squares.

    A busy device draws no less than an idle one, and none draws less than nothing: a line that falls is taken as level,
    one that begins below zero goes through zero. Numbers that are not finite are left out.
    """
    usable = [s for s in measured if isfinite(s.level_hz + s.utilisation + s.power_w)]
    lines: dict[float, tuple[float, float]] = {}
    left_out: list[float] = []
    rest_w: list[float] = []
    all_w: list[float] = []
    for level_hz in sorted({s.level_hz for s in usable}):
        here = [s for s in usable if s.level_hz == level_hz]
        busy = np.array([s.utilisation for s in here])
        watts = np.array([s.power_w for s in here])
        if np.ptp(busy) < LEAST_SPREAD:
            left_out.append(level_hz)
            continue
        slope_w, idle_w = lines[level_hz] = _line(busy, watts)
        rest_w += (watts - slope_w * busy - idle_w).tolist()
        all_w += watts.tolist()
    if not lines:
        return DeviceFit(power=None, left_out=tuple(left_out), error=nan)
    mean_w = sum(all_w) / len(all_w)
    error = sqrt(sum(rest * rest for rest in rest_w) / len(rest_w)) / mean_w if mean_w > 0.0 else nan
    slopes_w, idles_w = zip(*lines.values(), strict=True)
    power = DevicePower(levels_hz=tuple(lines), slope_w=slopes_w, idle_w=idles_w)
    return DeviceFit(power=power, left_out=tuple(left_out), error=error)


def _line(busy: Numbers, watts: Numbers) -> tuple[float, float]:
    apart = busy - busy.mean()
    slope_w = float(apart @ watts / (apart @ apart))
    idle_w = float(watts.mean() - slope_w * busy.mean())
    if slope_w < 0.0:
        return 0.0, max(float(watts.mean()), 0.0)
    if idle_w < 0.0:
        return max(float(busy @ watts / (busy @ busy)), 0.0), 0.0
    return slope_w, idle_w
