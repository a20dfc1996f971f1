"""A signal over time in bounded memory: first, last, least and greatest of every stretch of time stay as they are.

With as many stretches as there are pixels the drawn line is that of all points, excesses included (the "M4"
aggregation of Jugel et al., VLDB 2014).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

BINS = 1024
ROOM = 16 * BINS  # points kept before they are thinned


class Trace:
    """Takes points as they come and keeps at most `room` of them.

    Not a number stands for a gap: of those that fall into one stretch one is kept.
    """

    def __init__(self, *, bins: int = BINS, room: int = ROOM) -> None:
        self._bins = bins
        self._room = max(room, 8 * bins)
        self._at_s: list[float] = []
        self._values: list[float] = []

    def add(self, at_s: float, value: float) -> None:
        """One point, not before the last one."""
        self._at_s.append(at_s)
        self._values.append(value)
        if len(self._at_s) >= self._room:
            at, values = thinned(np.array(self._at_s), np.array(self._values), self._bins)
            self._at_s, self._values = at.tolist(), values.tolist()

    def gap(self, at_s: float) -> None:
        """Nothing is known from here on."""
        if self._values and self._values[-1] == self._values[-1]:
            self.add(at_s, float("nan"))

    def change(self, at_s: float, value: float) -> None:
        """As `add`, for what holds until the next change: the same again is no news."""
        if not self._values or self._values[-1] != value:
            self.add(at_s, value)

    def __bool__(self) -> bool:
        """Whether there is any number in it."""
        return any(value == value for value in self._values)

    def points(self) -> tuple[Numbers, Numbers]:
        """Moments and values, ascending in time, at most five for each stretch."""
        at, values = np.array(self._at_s, dtype=np.float64), np.array(self._values, dtype=np.float64)
        return thinned(at, values, self._bins) if len(at) > 5 * self._bins else (at, values)

    def steps(self, until_s: float) -> tuple[Numbers, Numbers]:
        """The same for what holds until the next change: both ends of every stretch, the last one up to `until_s`."""
        at, values = self.points()
        if not len(at):
            return at, values
        ends = np.append(at[1:], max(until_s, float(at[-1])))
        return np.stack([at, ends], axis=1).ravel(), np.repeat(values, 2)


def thinned(at: Numbers, values: Numbers, bins: int) -> tuple[Numbers, Numbers]:
    """First, last, least, greatest and, where there is one, the first gap of every stretch of time."""
    order = np.argsort(at, kind="stable")
    at, values = at[order], values[order]
    span = float(at[-1] - at[0])
    if not span > 0.0:
        place = np.zeros(len(at), dtype=np.intp)
    else:
        place = np.minimum(((at - at[0]) / span * bins).astype(np.intp), bins - 1)
    keep = np.zeros(len(at), dtype=np.bool_)
    edges = np.flatnonzero(np.diff(place)) + 1
    keep[0] = keep[-1] = True
    keep[edges] = keep[edges - 1] = True
    known = np.isfinite(values)
    for some, extremes in ((np.flatnonzero(known), True), (np.flatnonzero(~known), False)):
        if not len(some):
            continue
        by_value = some[np.lexsort((values[some], place[some]))] if extremes else some
        turns = np.flatnonzero(np.diff(place[by_value])) + 1
        keep[by_value[np.concatenate([[0], turns])]] = True
        if extremes:
            keep[by_value[np.concatenate([turns - 1, [len(by_value) - 1]])]] = True
    return at[keep], values[keep]
