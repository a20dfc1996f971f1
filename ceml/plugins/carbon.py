"""Objective `carbon`: grams of CO2 equivalent per step, by the grid's intensity, constant or as a time series.

A constant intensity chooses as `energy` does. With a series the rest of the run matters: where the grid will be
dirtier later, a faster state gets more of the work done before.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import import_module
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ceml.errors import SettingsError
from ceml.ordinary import read_ordinary
from ceml.plugins.risk import checked_risk, judged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ceml.domain.contracts import Constraint
    from ceml.domain.values import Prediction, Situation

    Numbers = NDArray[np.float64]

J_PER_KWH = 3.6e6
FORM = (
    "columns (CSV) or keys of each [[point]] (TOML): at, a date and time such as 2025-01-31T14:00:00Z or seconds from "
    "the start of the run, ascending; and g_per_kwh, 0 or more, above 0 somewhere"
)
_LARGEST = 1 << 20  # bytes; a year of hours is half of that


@dataclass(frozen=True, eq=False)
class Intensity:
    """Grid intensity over time: each value holds until the next, the first before, the last for ever after.

    Attributes:
        at_s: Ascending, shape (points,).
        g_per_kwh: From then on, shape (points,).
        absolute: Whether `at_s` are seconds since 1970; else from the start of the run.
    """

    at_s: Numbers
    g_per_kwh: Numbers
    absolute: bool
    _area: Numbers = field(init=False)

    def __post_init__(self) -> None:
        area = np.concatenate(([0.0], np.cumsum(np.diff(self.at_s) * self.g_per_kwh[:-1])))
        object.__setattr__(self, "_area", area)

    def mean(self, from_s: float, lasting_s: Numbers) -> Numbers:
        """Mean over stretches that start at `from_s`, shape (n,), g/kWh; one without length is the value there."""
        ends = from_s + np.maximum(lasting_s, 1e-3)
        begin = np.array([from_s])
        return (self._upto(ends) - self._upto(begin)) / (ends - from_s)

    def _upto(self, at_s: Numbers) -> Numbers:
        """Integral of the intensity from the first point to each moment."""
        point = np.maximum(np.searchsorted(self.at_s, at_s, side="right") - 1, 0)
        return self._area[point] + (at_s - self.at_s[point]) * self.g_per_kwh[point]


@dataclass(frozen=True)
class Carbon:
    """Least carbon per step: cost = P / rate x the mean intensity until the work is done, in g per step."""

    intensity: Intensity
    constraints: tuple[Constraint, ...] = ()
    risk: float | None = None

    def cost(self, predicted: Prediction, now: Situation) -> Numbers:
        """(P / rate) / 3.6e6 x intensity of each state, shape (n,), g; NaN where the power is not known.

        The mean runs from now until the rest of the work is done in that state; without an announced total it is the
        intensity now. Where time is virtual, a series of dates begins with the run.
        """
        predicted, intensity = judged(predicted, self.risk), self.intensity
        lasting_s = (now.remaining_work or 0.0) / predicted.rate_hz
        from_s = now.spent_s
        if intensity.absolute:
            from_s = now.unix_s if isfinite(now.unix_s) else float(intensity.at_s[0]) + now.at_s
        return predicted.power_w / predicted.rate_hz / J_PER_KWH * intensity.mean(from_s, lasting_s)


def carbon(*, intensity: str = "400", risk: float | None = None) -> Carbon:
    """Least carbon per step: power / rate x grid intensity (g); `intensity` in g/kWh, or a CSV or TOML file of them.

    Args:
        intensity: Grams per kWh, or the path of a time series.
        risk: Quantile of rate and power to judge by, 0.5 to 0.99 (cautious); None: what is expected.

    Raises:
        SettingsError: A risk out of its range, no positive number, or a file that cannot be read or is no series.
    """
    risk = checked_risk("carbon", risk)
    try:
        constant = float(intensity)
    except ValueError:
        return Carbon(_series(intensity), risk=risk)
    if not (isfinite(constant) and constant > 0.0):
        raise SettingsError(f"intensity = {intensity} of objective carbon: give grams per kWh above 0, e.g. 400")
    return Carbon(Intensity(np.zeros(1), np.array([constant]), absolute=False), risk=risk)


def _series(path: str) -> Intensity:
    text = _text(path)
    try:
        points = _from_toml(text) if path.endswith(".toml") else list(csv.DictReader(text.splitlines()))
        at, values = [_word(point, "at") for point in points], [_word(point, "g_per_kwh") for point in points]
        absolute = bool(at) and not _is_number(at[0])
        at_s = np.array([_unix_s(moment) if absolute else float(moment) for moment in at])
        g_per_kwh = np.array([float(value) for value in values])
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        told = f"there is no {error.args[0]}" if isinstance(error, KeyError) else f"{error}"
        raise SettingsError(f"intensity = {path} of objective carbon is no series: {told}; it needs {FORM}") from None
    good = np.isfinite(g_per_kwh).all() and np.isfinite(at_s).all() and (np.diff(at_s) > 0).all()
    if not (len(values) and good and (g_per_kwh >= 0).all() and g_per_kwh.max() > 0):
        raise SettingsError(f"intensity = {path} of objective carbon has no good numbers; it needs {FORM}")
    return Intensity(at_s, g_per_kwh, absolute)


def _word(point: dict[str, Any], key: str) -> str:
    """What stands under a key; a row of a CSV that is too short has None there.

    Raises:
        KeyError: Nothing.
    """
    if point[key] is None:
        raise KeyError(key)
    return str(point[key])


def _text(path: str) -> str:
    try:
        text = read_ordinary(path, _LARGEST + 1, what="objective carbon: intensity").decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SettingsError(
            f"intensity = {path} of objective carbon: neither a number of g/kWh nor a file that can be read ({reason})"
        ) from None
    if len(text) > _LARGEST:
        raise SettingsError(f"intensity = {path} of objective carbon is longer than {_LARGEST} characters: shorten it")
    return text


def _from_toml(text: str) -> Iterable[dict[str, Any]]:
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return cast("Iterable[dict[str, Any]]", list(toml.loads(text)["point"]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unix_s(text: str) -> float:
    moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
