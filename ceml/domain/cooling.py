"""The kernel holds clocks down for heat: what cannot be reached meanwhile is not out of reach for good."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ceml.domain.knobs import Configuration

if TYPE_CHECKING:
    from ceml.domain.events import Throttled
    from ceml.domain.knobs import KnobSpace

BEFORE_S = 3.0  # cooling is read once a second: what was missed so long before it was told was its doing, too
MOST = 256  # states that are remembered; a space has more, but who misses so many tries nothing else


class Cooling:
    """What the hardware says of it, and the states that were asked for in vain."""

    def __init__(self) -> None:
        self._by: set[str] = set()  # sensors that tell of it
        self._since_s = float("inf")
        self._missed: deque[tuple[float, Configuration]] = deque(maxlen=MOST)

    @property
    def on(self) -> bool:
        """Whether clocks are held down now."""
        return bool(self._by)

    def told(self, event: Throttled) -> tuple[Configuration, ...]:
        """It begins, or changes, or ends; returns the states that were missed because of it, once it has ended."""
        before = self.on
        if event.reasons:
            self._by.add(event.sensor)
        else:
            self._by.discard(event.sensor)
        if self.on:
            self._since_s = self._since_s if before else event.at_s - BEFORE_S
            return ()
        forgiven = tuple(state for at_s, state in self._missed if at_s >= self._since_s) if before else ()
        self._missed.clear()
        return forgiven

    def missed(self, at_s: float, requested: Configuration) -> None:
        """A state was asked for and not reached."""
        self._missed.append((at_s, requested))

    def above(self, requested: Configuration, effective: Configuration, space: KnobSpace) -> list[Configuration]:
        """While it cools: the levels, each as a configuration of one knob, above what a knob reached."""
        if not self.on:
            return []
        return [
            Configuration({knob.name: level})
            for knob in space.knobs
            if isinstance(reached := effective.get(knob.name), float) and reached < float(requested[knob.name])
            for level in knob.levels[1:]  # the lowest stays: there is nothing else to ask for
            if float(level) > reached
        ]
