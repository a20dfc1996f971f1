"""Whose turn it is in a two-state schedule. Time is what is shared, and delays are made up for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ceml.domain.knobs import Configuration
    from ceml.domain.values import Observation


class Turns:
    """Two configurations in turn, so that the first has its share of the time.

    The surplus e of the first grows by (1 - share) a second in its turn and falls by share in the other's. A turn ends
    when e has gone share (1 - share) period / 2 beyond zero: that makes turns of share x period and the rest, and a
    turn that ended late is paid back by the next.

    Args:
        main: The configuration for `share` of the time; its turn is the first.
        other: The other one.
        share: Above 0, below 1.
        period_s: Seconds of one turn of each.
    """

    def __init__(self, main: Configuration, other: Configuration, share: float, period_s: float) -> None:
        self.main = main
        self.other = other
        self.share = share
        self.here = main
        self._half = share * (1.0 - share) * period_s / 2.0
        self._surplus_s = 0.0
        self._at_s: float | None = None

    def begin(self, at_s: float) -> None:
        """The turn of `here` begins: it is in force."""
        self.passed(at_s)
        self._at_s = at_s

    def passed(self, at_s: float) -> None:
        """Time has passed in the turn that is going on."""
        if self._at_s is not None and at_s > self._at_s:
            mine = 1.0 - self.share if self.here == self.main else -self.share
            self._surplus_s += mine * (at_s - self._at_s)
            self._at_s = at_s

    def due(self, at_s: float) -> Configuration | None:
        """Whose turn begins now; None where the present one goes on."""
        self.passed(at_s)
        if self._at_s is None:  # the knobs are still being turned
            return None
        if self.here == self.main:
            return self.other if self._surplus_s >= self._half else None
        return self.main if self._surplus_s <= -self._half else None

    def mean(self, main: Observation, other: Observation) -> Observation:
        """What one turn of each showed, in proportion to the time they should have."""
        share = self.share
        return replace(
            main,
            beats=main.beats + other.beats,
            steps=main.steps + other.steps,
            rate_hz=share * main.rate_hz + (1.0 - share) * other.rate_hz,
            power_w=share * main.power_w + (1.0 - share) * other.power_w,
        )

    def turn(self) -> None:
        """The other's turn: until it is in force no time counts."""
        self.here = self.other if self.here == self.main else self.main
        self._at_s = None
