"""Clocks, and limits to them, as kernels keep them.

What 6.1 does was seen on a real kernel; of 4.9 it is known that it refuses a minimum above the maximum. Latency,
silent clamping and a clock that stays where it is are set by the test.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


Version = Literal["4.9", "6.1"]


def ceiling(table: Sequence[int], wanted: float) -> int:
    """The lowest entry at or above; the highest where there is none."""
    return next((entry for entry in table if entry >= wanted), table[-1])


def floor(table: Sequence[int], wanted: float) -> int:
    """The highest entry at or below; the lowest where there is none."""
    return next((entry for entry in reversed(table) if entry <= wanted), table[0])


@dataclass(kw_only=True)
class Clock:
    """A clock that follows requests; all in the unit of its table.

    Attributes:
        table: What it can run at, ascending.
        delay_s: How long a request takes to come into force.
        cap: It never runs above this, whatever is asked, and nobody is told.
        stuck: It stays where it is, and nobody is told.
    """

    table: Sequence[int]
    delay_s: float = 0.0
    cap: int | None = None
    stuck: bool = False
    _now: int = 0
    _next: int = 0
    _due_s: float = 0.0

    def __post_init__(self) -> None:
        """It starts at its highest."""
        self._now = self._next = self.table[-1]

    @property
    def value(self) -> int:
        """What it runs at now."""
        if time.monotonic() >= self._due_s:
            self._now = self._next
        return min(self._now, floor(self.table, self.cap)) if self.cap is not None else self._now

    def ask(self, wanted: int) -> None:
        """Change it."""
        if not self.stuck and wanted != self._next:
            self._now, self._next, self._due_s = self.value, wanted, time.monotonic() + self.delay_s


@dataclass(kw_only=True)
class Limits:
    """A minimum and a maximum, each a wish; in 6.1 the maximum wins and a clipped wish comes back when it rises.

    Attributes:
        low: Wish for the minimum.
        high: Wish for the maximum.
        held: Another owner (cooling) holds the maximum down to this.
    """

    version: Version
    table: Sequence[int]
    low: int
    high: int
    held: int | None = None

    @property
    def effective(self) -> tuple[int, int]:
        """Minimum and maximum as they are read."""
        high = self.high if self.held is None else min(self.high, self.held)
        return min(self.low, high), high

    def set_low(self, wanted: int) -> None:
        """Take a wish for the minimum."""
        if self.version == "4.9" and wanted > self.effective[1]:
            raise OSError(errno.EINVAL, "minimum above maximum")
        self.low = wanted

    def set_high(self, wanted: int) -> None:
        """Take a wish for the maximum."""
        if self.version == "4.9" and wanted < self.effective[0]:
            raise OSError(errno.EINVAL, "maximum below minimum")
        self.high = wanted
