"""Which readings of a sensor can be true: what its driver let through may still be rubbish from a bus."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from math import nan
from typing import TYPE_CHECKING

from ceml.errors import Temporary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ceml.domain.values import Sample

MOST_W = 1e6  # no machine that runs one program draws a megawatt
SPIKE, BEFORE = 20.0, 5  # times as much as in each of so many readings before: a spike, unless the next one is as high


class Readings:
    """The readings of one sensor, one after the other."""

    def __init__(self) -> None:
        self._before_w: deque[float] = deque(maxlen=BEFORE)
        self._spiked = False

    def believed(self, sample: Sample) -> Sample:
        """A reading whose powers can be true; an amplifier's offset may read a little below nothing, that is 0 W.

        A rail that reads more than any machine draws was not measured: it is NaN, as long as others can be believed.

        Raises:
            Temporary: No rail of the sensor draws anything that can be true: no board that runs this does so; or all
                together draw, once, far more than they ever did.
        """
        rails_w = sample.rails_w
        if not rails_w:
            return sample
        try:
            possible = min(rails_w.values()) > 0.0 and max(rails_w.values()) <= MOST_W
        except TypeError:  # a third party's sensor
            said = ", ".join(f"{rail} {watts!r}" for rail, watts in rails_w.items())
            raise Temporary(f"it reads {said}, and watts are numbers") from None
        if not possible:
            if not any(0.0 < watts <= MOST_W for watts in rails_w.values()):
                why = "a machine that runs draws more than that"
                if any(watts > MOST_W for watts in rails_w.values()):
                    why = f"no machine draws more than {MOST_W:g} W"
                raise Temporary(f"it reads {_said(rails_w)}, and {why}")
            rails_w = {rail: _true(watts) for rail, watts in rails_w.items()}
            sample = replace(sample, rails_w=rails_w)
        self._look_for_a_spike(rails_w)
        return sample

    def _look_for_a_spike(self, rails_w: Mapping[str, float]) -> None:
        total_w = sum([watts for watts in rails_w.values() if watts == watts])
        most_w = max(self._before_w, default=0.0)
        self._spiked = not self._spiked and len(self._before_w) == BEFORE and total_w > SPIKE * most_w > 0.0
        if self._spiked:
            raise Temporary(f"it reads {_said(rails_w)}, and just before {most_w:g} W in all")
        self._before_w.append(total_w)


def _said(rails_w: Mapping[str, float]) -> str:
    return ", ".join(f"{rail} {watts:g} W" for rail, watts in rails_w.items())


def _true(watts: float) -> float:
    if abs(watts) > MOST_W:
        return nan
    return 0.0 if watts < 0.0 else watts  # NaN stays NaN
