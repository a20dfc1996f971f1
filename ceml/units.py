"""Quantities as a person writes them, with their units, into SI: one parser for flags, files and scenarios.

Every function takes a text (`8W`, `5min`) or a plain number in the SI unit, and raises `ValueError` with a text that
begins with "must be" and says what is allowed.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S(?:.*\S)?)?\s*", re.ASCII)

_WATTS = {"": 1.0, "W": 1.0, "w": 1.0, "mW": 1e-3, "mw": 1e-3, "kW": 1e3, "kw": 1e3}
_JOULES = {"": 1.0, "J": 1.0, "mJ": 1e-3, "kJ": 1e3, "MJ": 1e6, "mWh": 3.6, "Wh": 3600.0, "kWh": 3.6e6}
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_HERTZ = {"": 1.0, "/s": 1.0, "steps/s": 1.0, "/min": 1 / 60.0, "steps/min": 1 / 60.0, "/h": 1 / 3600.0, "Hz": 1.0}
_CELSIUS = {"": 1.0, "C": 1.0, "°C": 1.0}
_SHARES = {"": 1.0, "%": 0.01}


def power_w(value: object) -> float:
    """Power in W, above 0: `8W`, `7500mW`, `0.5kW`."""
    return _above_0(value, _WATTS, "W, mW or kW", "a power above 0 such as 8W, 7500mW or 0.5kW")


def energy_j(value: object) -> float:
    """Energy in J, above 0: `500J`, `2kJ`, `5Wh`."""
    return _above_0(value, _JOULES, "J, mJ, kJ, MJ, mWh, Wh or kWh", "an energy above 0 such as 500J, 2kJ or 5Wh")


def duration_s(value: object) -> float:
    """A stretch of time in s, above 0: `300s`, `5min`, `1.5h`."""
    return _above_0(value, _SECONDS, "ms, s, min, h or d", "a time above 0 such as 300s, 5min or 1.5h")


def moment_s(value: object) -> float:
    """A moment in s from the start, 0 or later: `0s`, `600.1s`, `10min`."""
    seconds = _number(value, _SECONDS, "ms, s, min, h or d", allowed := "a time from 0 on such as 600.1s or 10min")
    return _checked(seconds, seconds >= 0.0, allowed)


def rate_hz(value: object) -> float:
    """Steps per second, above 0: `2.5/s`, `150/min`."""
    return _above_0(value, _HERTZ, "/s, /min or /h", "a number of steps per time above 0 such as 2.5/s or 150/min")


def share(value: object) -> float:
    """A share, 0 or more; as plain number below 1, since 1.1 might mean 10 % or 110 %: `10%`, `0.1`."""
    allowed = "a share from 0 on such as 10% or 0.1; from 1 on only as percentage"
    number = _number(value, _SHARES, "%", allowed)
    percent = isinstance(value, str) and value.rstrip().endswith("%")
    return _checked(number, 0.0 <= number and (percent or number < 1.0), allowed)


def temperature_c(value: object) -> float:
    """A temperature in degrees Celsius, above 25 and at most 150: `80C`."""
    allowed = "a temperature of the board above 25C and up to 150C, such as 80C"
    degrees = _number(value, _CELSIUS, "C", allowed)
    return _checked(degrees, 25.0 < degrees <= 150.0, allowed)


def rail_power(value: object) -> tuple[str, float]:
    """A rail and its power in W: `gpu=3W`."""
    rail, equals, power = value.partition("=") if isinstance(value, str) else ("", "", "")
    if not equals or not rail.strip():
        raise ValueError("must be RAIL=POWER such as gpu=3W")
    return rail.strip(), power_w(power)


def between_text(ends: Sequence[float] | None) -> str:
    """A share of which only the ends of its 95 % interval are worth saying; empty where even they are not known."""
    return "" if ends is None else f"somewhere between {ends[0]:.0%} and {ends[1]:.0%} (95 %)"


def excess_text(excess: float) -> str:
    """How far over a bound, as a share of it, for people: `12.5%`; from 1000 % on `47 times the bound`.

    A percentage of many digits tells nobody anything; nor does the factor, where a rate is next to nothing.
    """
    if excess < 10.0:
        return f"{excess:.1%}"
    return f"{excess:.3g} times the bound" if excess < 1000.0 else "over 1000 times the bound"


def _above_0(value: object, units: dict[str, float], named: str, allowed: str) -> float:
    number = _number(value, units, named, allowed)
    return _checked(number, number > 0.0, allowed)


def _checked(number: float, good: bool, allowed: str) -> float:
    if not (good and isfinite(number)):
        raise ValueError(f"must be {allowed}")
    return number


def _number(value: object, units: dict[str, float], named: str, allowed: str) -> float:
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    if isinstance(value, bool) or match is None:
        raise ValueError(f"must be {allowed}")
    unit = match[2] or ""
    if unit not in units:
        raise ValueError(f"must be in {named}, not in {unit if len(unit) <= 20 else unit[:17] + '...'}: {allowed}")
    return float(match[1]) * units[unit]
