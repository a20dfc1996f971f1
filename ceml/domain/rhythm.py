"""After how many beats a program's steps repeat: gradient accumulation, two networks in turn, a log every tenth step.

Such a program is measured by whole periods. A window that ends within one is off by as much as its steps differ, and
steps that differ by design look like noise, of which thousands would have to be averaged.

A period of P beats is believed once 4 P were seen and the median of each place in the period tells the steps apart: the
time per step, logarithmic, lies on average at most .4 times as far from its place's median as from the median of all
(where nothing repeats, that is .83 for four values a place). Distances, not squares, so that a stall now and then hides
no period. Each configuration has its own pace: what counts is how far a step is from the median there. Steps that
differ by less than 4 % on average are left to averaging.

Longer periods are left to stalls.py, since so rare are stalls, too, unless the slow steps come after always the same
number of beats and are most of the time: a program that says many steps at once, and then is silent until the next.
"""

from __future__ import annotations

from math import inf, log
from statistics import median

from ceml.domain.values import NAN

LONGEST = 32
TIMES = 4  # a period has to be seen
TELLS = 0.4  # what is left of the distances, at most
LEAST = 0.04  # mean distance from the median that is worth the trouble
FEWEST = 3  # steps in one configuration that tell its pace
FULL = TIMES * LONGEST  # steps in a row
LOOKS = frozenset((16, 24, 32, 48, 64, 96, FULL))  # steps after which to look
FARTHEST = 4096  # beats between two slow steps that are most of the time
LEAP = log(2.0)  # above the usual, ln, is a slow step


class Rhythm:
    """Looks for the period of one program, beat by beat; once found, that is it.

    Attributes:
        beats: In a period; 1 where none was found.
        work: Steps in a period, by what a beat is usually worth; 0 where none was found.
    """

    __slots__ = (
        "_at_s",
        "_here",
        "_known",
        "_pause",
        "_paused",
        "_row",
        "_since_s",
        "_slow",
        "_works",
        "beats",
        "work",
    )

    def __init__(self) -> None:
        self.beats = 1
        self.work = 0.0
        self._row: list[float] = []  # each beat's ln seconds per step above the median of its configuration; NaN
        self._here = 0  # where those of the present configuration begin: their median is still to be taken off
        self._known = 0  # how many are no NaN
        self._works: list[float] = []
        self._pause = 0  # beats between this row and the next; later ones are ever longer
        self._paused = 0
        self._slow = _Slow()
        self._at_s = NAN
        self._since_s = inf

    def change(self, since_s: float = inf) -> None:
        """Another configuration is in force since then; infinity: not yet."""
        if since_s < inf and self._known >= FULL:
            self._begin()
        self._row[self._here :] = self._levelled()
        self._here, self._since_s, self._slow = len(self._row), since_s, _Slow()

    def _begin(self) -> None:
        self._row, self._here, self._works, self._known = [], 0, [], 0

    def beat(self, at_s: float, work: float) -> bool:
        """Take in any beat of the program, also between configurations; whether the period was found with it."""
        if self.work:
            return False
        before_s, self._at_s = self._at_s, at_s
        if not at_s > before_s:  # the first one, or one that came late
            return False
        counts = before_s >= self._since_s
        value = log(at_s - before_s) - log(work) if counts else NAN
        if self._known >= FULL:
            self._wait()
        if self._known < FULL and self._add(value, work) and self._known in LOOKS:
            self._slow.usual = _usual(self._row[self._here :])
            self.beats = period([*self._row[: self._here], *self._levelled()])
        if counts and self.beats == 1:
            self.beats = self._slow.beat(value, at_s - before_s)
        if self.beats > 1:
            self.work = self.beats * median(self._works)
        return self.beats > 1

    def _wait(self) -> None:
        """A row was in vain: the next begins after a pause, so that a program without a rhythm costs ever less."""
        self._paused += 1
        if self._paused > self._pause:
            self._paused, self._pause = 0, 2 * max(self._pause, FULL)
            self._begin()

    def _add(self, value: float, work: float) -> bool:
        """One more place, and whether it tells anything: where work was carried over, nobody knows which was slow."""
        times = work / min(self._works) if self._works else 1.0
        if value == value and times < 1.5:
            self._known += 1
            self._works.append(work)
            self._row.append(value)
            return True
        self._row.extend([NAN] * int(min(max(times + 0.5, 1.0), LONGEST)))
        return False

    def _levelled(self) -> list[float]:
        """Those of the present configuration without their median."""
        here = self._row[self._here :]
        usual = _usual(here)
        return [each - usual for each in here]


class _Slow:
    """Looks for slow steps that are most of the time and equally far apart, in one configuration."""

    __slots__ = ("_all_s", "_gaps", "_since", "_slow_s", "usual")

    def __init__(self) -> None:
        self.usual = NAN  # ln seconds per step
        self._since = 0  # beats since the latest slow one
        self._gaps: list[int] = []
        self._all_s = self._slow_s = 0.0

    def beat(self, value: float, seconds: float) -> int:
        """Take in a beat; the beats between two slow ones where it shows with it, else 1."""
        self._since, self._all_s = self._since + 1, self._all_s + seconds
        if not value > self.usual + LEAP:
            return 1
        self._gaps, self._since, self._slow_s = [*self._gaps, self._since][-TIMES:], 0, self._slow_s + seconds
        even = len(self._gaps) == TIMES and min(self._gaps) == max(self._gaps)
        return self._gaps[0] if even and LONGEST < self._gaps[0] <= FARTHEST and 2 * self._slow_s > self._all_s else 1


def period(values: list[float]) -> int:
    """After how many values they repeat, the fewest if several tell them apart about as well; 1: they do not.

    NaN is a value that nobody knows.
    """
    known = [each for each in values if each == each]
    around = _spread(known)
    if around < LEAST * len(known):
        return 1
    left = {beats: _left(values, beats) for beats in range(2, min(LONGEST, len(known) // TIMES) + 1)}
    good = {beats: each for beats, each in left.items() if each <= TELLS * around}
    return next((beats for beats, each in good.items() if each <= 1.5 * min(good.values())), 1)


def _left(values: list[float], beats: int) -> float:
    """Distances of values from the median of their place in a period, summed up."""
    return sum([_spread([each for each in values[place::beats] if each == each]) for place in range(beats)])


def _usual(values: list[float]) -> float:
    """Their median; NaN of too few."""
    known = [each for each in values if each == each]
    return median(known) if len(known) >= FEWEST else NAN


def _spread(values: list[float]) -> float:
    """Distances from the median, summed up."""
    if not values:
        return 0.0
    middle = median(values)
    return sum([abs(each - middle) for each in values])
