"""Limits that change faster than a program can follow: the tightest caps hold until they rest.

A cap that falls is kept at once, whatever came before. One that rises again within a fraction of a second is worth
nothing: each turn costs the knobs' way, and no window is long enough to teach anything. So from `MOST` changes within
`REST_S` on a rise waits until there was none for as long.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from ceml.domain.values import NO_LIMITS

if TYPE_CHECKING:
    from ceml.domain.values import Limits

MOST, REST_S = 5, 1.0


class Restless:
    """The limits that a mind should keep to, of those that it is told."""

    def __init__(self) -> None:
        self._changes: deque[float] = deque(maxlen=MOST)
        self._told = NO_LIMITS
        self.waits = False  # whether what was told last is not in force yet

    def told(self, at_s: float, limits: Limits, in_force: Limits) -> Limits:
        """Other limits are wanted; returns those to keep to from now on."""
        self._changes.append(at_s)
        self._told = limits
        restless = len(self._changes) == MOST and at_s - self._changes[0] < REST_S
        kept = tightest(limits, in_force) if restless else limits
        self.waits = kept != limits
        return kept

    def rested(self, at_s: float) -> Limits | None:
        """What was told last, once nothing else was for `REST_S`; None: nothing waits, or not yet."""
        if not self.waits or at_s - self._changes[-1] < REST_S:
            return None
        self.waits = False
        return self._told


def tightest(limits: Limits, others: Limits) -> Limits:
    """These limits with the lower of each cap on power and temperature; wishes are not caps, and stay."""
    rails = {rail: _lower(limits.rail_caps_w.get(rail), cap_w) for rail, cap_w in others.rail_caps_w.items()}
    return replace(
        limits,
        power_cap_w=_lower(limits.power_cap_w, others.power_cap_w),
        max_temperature_c=_lower(limits.max_temperature_c, others.max_temperature_c),
        rail_caps_w={**limits.rail_caps_w, **{rail: cap_w for rail, cap_w in rails.items() if cap_w is not None}},
    )


def _lower(one: float | None, other: float | None) -> float | None:
    return min((cap for cap in (one, other) if cap is not None), default=None)
