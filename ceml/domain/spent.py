"""What an application has cost so far, and the last readings: what constraints over a whole run need to know."""

from __future__ import annotations

from math import exp, isfinite
from typing import TYPE_CHECKING

from ceml.domain.values import NAN
from ceml.domain.windows import Integral

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ceml.domain.events import Sampled
    from ceml.domain.values import Observation


WARMING_S = 30.0  # over which power is averaged to tell what warms a board: between a die's and a heat sink's time


class Spent:
    """Adds up, in O(1) a sample, while its application is here.

    A sensor that is lost for a while is bridged: its energy was spent, measured or not.

    Args:
        total_rails: Rails whose sum is the power of the whole board.

    Attributes:
        power_w: Power of the whole board, averaged over about the last `WARMING_S`, since that is what its temperature
            comes from; NaN before the first reading.
        temperature_c: The hottest zone, last reading; NaN before the first.
    """

    def __init__(self, total_rails: tuple[str, ...]) -> None:
        self.power_w = NAN
        self.temperature_c = NAN
        self._total_rails = total_rails
        self._latest_w: dict[str, float] = {}
        self._latest_s = NAN
        self._began_s = NAN
        self._before_j = NAN  # of the times before the application went away
        self._rails: dict[str, Integral] = {}

    def begin(self, at_s: float) -> None:
        """The application joined, or came back: time counts from its first coming."""
        if not isfinite(self._began_s):
            self._began_s = at_s

    def pause(self) -> None:
        """It went away; what the board draws until it comes back is not its own."""
        self._before_j, self._rails = self.energy_j, {}

    def seconds(self, at_s: float) -> float:
        """Seconds since it joined."""
        return at_s - self._began_s if isfinite(self._began_s) else 0.0

    @property
    def energy_j(self) -> float:
        """Joules while it was here; NaN where no power was measured."""
        if not self._rails:
            return self._before_j
        rails_j = sum(rail.area for rail in self._rails.values())
        return rails_j + (self._before_j if isfinite(self._before_j) else 0.0)

    def sample(self, sample: Sampled) -> None:
        """Take in a sensor's poll."""
        zones = [degrees for degrees in sample.temperatures_c.values() if isfinite(degrees)]
        if zones:
            self.temperature_c = max(zones)
        told = False
        for rail in self._total_rails:
            if rail in sample.rails_w:
                if rail not in self._rails:
                    self._rails[rail] = Integral()
                self._rails[rail].add(sample.at_s, sample.rails_w[rail], sample.covers_s)
                self._latest_w[rail], told = sample.rails_w[rail], True
        if told:
            self._warm(sample.at_s, sum([self._latest_w.get(rail, NAN) for rail in self._total_rails]))

    def _warm(self, at_s: float, power_w: float) -> None:
        """Average exponentially: P <- P + (p - P) (1 - e^(-dt / WARMING_S))."""
        if not isfinite(power_w):
            return
        before_s, self._latest_s = self._latest_s, at_s
        if not isfinite(self.power_w):
            self.power_w = power_w
        elif at_s > before_s:
            self.power_w += (power_w - self.power_w) * (1.0 - exp((before_s - at_s) / WARMING_S))

    def rail_shares(self, observations: Iterable[Observation]) -> dict[str, float]:
        """The largest share of the board's power that each rail drew in any state measured."""
        shares: dict[str, float] = {}
        for seen in observations:
            for rail, watts in seen.rail_w.items():
                share = watts / seen.power_w if seen.power_w > 0.0 else NAN
                if share == share:
                    shares[rail] = max(share, shares.get(rail, 0.0))
        return shares
