"""Which steps are stalls: far slower than their neighbours, and too rare to be part of the program.

A data loader runs dry, a checkpoint is written, an evaluation pauses the training: such steps say nothing about the
configuration in force. A step is *slow* where its ln time is above the median of its window by more than
max(ln 1.25, 6 s sqrt(1 + 1.57 / n)), where s pools the scatter usual before anything was seen (10 % with the weight of
10 steps, so that a short window of a noisy program accuses nobody) with the window's own (1.48 x median absolute
deviation), and 1.57 / n is the variance of a median. Only slow steps are suspected: nothing stalls ahead of time.

Slow steps are *stalls* while they are rare among all steps of the program so far: at most one onset in 20 steps, and
at most 10 % of the steps (or 8: one burst). Anything more regular, such as every 10th step, is the program's own way
and counts. The rarest, i.e. the slowest, are judged first: a pause of seconds is a stall also in a program in which
every 10th step takes three times as long. Nor are those stalls that came four times and took four fifths of the
time, or claimed two thirds of the power samples: there is hardly a moment without them. Nor is what is at most 1.6
times as slow as the program's own: pauses of random length have a tail, without which it would look too fast. A
program that keeps to a clock hurries after a pause: what it catches up with has cost no time.

Everything is counted in bins of ln seconds per step, a thirty-second wide: O(1) a step, some dozens of bins a window.
"""

from __future__ import annotations

from math import ceil, exp, inf, log, sqrt
from typing import TYPE_CHECKING, NamedTuple

from ceml.domain.sums import Integral, Spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BINS = 32  # per unit of ln seconds
NEVER = 1 << 40  # a bin above all bins
FEWEST = 3  # steps in a window that can accuse one of them
SIGMAS = 6.0
LEAST = log(1.25)  # slower than that, or it is no stall: small hiccups do no harm, and are many
USUAL, BELIEF = 0.10, 10.0
RARE, SHARE, BURST = 0.05, 0.10, 8
OFTEN, MOST = 4, 0.8  # onsets, and share of the time
CLAIMED = 2 / 3  # share of the power samples, likewise
ONSET = BINS // 5  # a step a fifth slower than the one before begins something
COARSE = BINS // 4  # bins that share one memory of past stalls
CAUGHT_UP = 0.5  # share of the time that slow steps took
NEAR = 2  # of those above what is the program's own: the tail of the same
MEMORY = 2000.0  # steps remembered in full; beyond, the past fades


class Powers:
    """Power and utilisation of some part of a window."""

    __slots__ = ("devices", "rails", "watts")

    def __init__(self) -> None:
        self.rails: dict[str, Integral] = {}
        self.devices: dict[str, Integral] = {}
        self.watts = Spread()

    def merge(self, other: Powers) -> None:
        """Take in another part."""
        for ours, theirs in ((self.rails, other.rails), (self.devices, other.devices)):
            for name, integral in theirs.items():
                ours.setdefault(name, Integral()).merge(integral)
        self.watts.merge(other.watts)


class Bin:
    """Steps of about the same length: what they were, and the power meanwhile."""

    __slots__ = ("beats", "onsets", "powers", "seconds", "squares", "steps", "times")

    def __init__(self) -> None:
        self.beats = 0
        self.steps = 0.0
        self.seconds = 0.0
        self.times = 0.0  # sum of seconds per step over beats
        self.squares = 0.0  # and of its square
        self.onsets = 0  # beats much slower than the one before
        self.powers: Powers | None = None

    def merge(self, other: Bin) -> None:
        """Take in the same bin of another window."""
        self.beats += other.beats
        self.steps += other.steps
        self.seconds += other.seconds
        self.times += other.times
        self.squares += other.squares
        self.onsets += other.onsets
        if other.powers is not None:
            self.powers = self.powers or Powers()
            self.powers.merge(other.powers)


Bins = dict[int, Bin]


class _Slow(NamedTuple):
    """Slow steps of about the same kind, over windows."""

    onsets: float = 0.0
    beats: float = 0.0
    samples: float = 0.0  # of power, while one of them went on

    def plus(self, other: _Slow, times: float = 1.0) -> _Slow:
        return _Slow(*(times * (one + two) for one, two in zip(self, other, strict=True)))


_NONE = _Slow()


def spread_of(bins: Iterable[Bin]) -> float:
    """Coefficient of variation of the time per step, beat by beat; NaN below two beats."""
    some = list(bins)
    beats, times = sum([b.beats for b in some]), sum([b.times for b in some])
    if beats < 2:
        return float("nan")
    mean = times / beats
    return sqrt(max(sum([b.squares for b in some]) - times * mean, 0.0) / (beats - 1)) / mean


def _middle(weights: Iterable[tuple[int, int]]) -> int:
    """Median of ascending (value, count)."""
    counted = list(weights)
    half, seen = sum([count for _, count in counted]) / 2, 0
    for value, count in counted:
        seen += count
        if seen >= half:
            return value
    return counted[-1][0]


def suspects(bins: Bins) -> tuple[int, int]:
    """The bin of the median, and the bin above which steps are slow (`NEVER` where too few steps were seen)."""
    filled = sorted([(key, b.beats) for key, b in bins.items() if b.beats])
    beats = sum([count for _, count in filled])
    if beats < FEWEST:
        return 0, NEVER
    median = _middle(filled)
    own = 1.48 * _middle(sorted([(abs(key - median), count) for key, count in filled])) / BINS
    scatter = sqrt((BELIEF * USUAL**2 + beats * own**2) / (BELIEF + beats))
    if beats > BELIEF:
        scatter = max(scatter, own)
    bar = median + ceil(BINS * max(LEAST, SIGMAS * scatter * sqrt(1.0 + 1.57 / beats)))
    return median, NEVER if _caught_up(bins, median, bar) else bar


def _caught_up(bins: Bins, median: int, bar: int) -> bool:
    """Whether other steps were so much shorter than is usual that they made good what the slow ones took."""
    if bar >= max(bins):
        return False
    usual = [b for key, b in bins.items() if abs(key - median) <= LEAST * BINS]
    usual_s = sum([b.times for b in usual]) / sum([b.beats for b in usual])
    took_s = sum([b.times - b.beats * usual_s for key, b in bins.items() if key > bar])
    others = [b for key, b in bins.items() if key <= bar and abs(key - median) > LEAST * BINS]
    return sum([b.beats * usual_s - b.times for b in others]) > CAUGHT_UP * took_s


class Stalls:
    """What one program has shown of slow steps so far: how many, how much slower, how often."""

    __slots__ = ("_all", "_claim", "_seen")

    def __init__(self) -> None:
        self._all = _Slow()  # of all steps, slow or not
        self._claim = CLAIMED  # half as much is enough once it was reached: a program's own way does not come and go
        self._seen: dict[int, _Slow] = {}  # by how much slower, coarsely

    def learn(self, bins: Bins) -> None:
        """Remember a window's slow steps, and how many steps it had."""
        slow, every = _slow(bins)
        self._seen, self._all = _added(self._seen, slow), self._all.plus(every)
        if self._all.beats > MEMORY:
            fade = MEMORY / self._all.beats
            self._seen = {at: each.plus(_NONE, fade) for at, each in self._seen.items()}
            self._all = self._all.plus(_NONE, fade)
        often = sum([each.onsets for each in self._seen.values()]) >= OFTEN
        reached = sum([each.samples for each in self._seen.values()]) > self._claim * self._all.samples
        self._claim = CLAIMED / 2 if often and reached else CLAIMED

    def above(self, bins: Bins, *, learnt: bool = False) -> int:
        """The bin above which a window's steps are stalls.

        Args:
            bins: The window.
            learnt: Whether its steps are among those remembered already.
        """
        median, bar = suspects(bins)
        if bar == NEVER:
            return NEVER
        slow, every = ({}, _NONE) if learnt else _slow(bins)
        both, allowed = _added(self._seen, slow), self._all.plus(every)
        took = {ratio: each.beats * exp(min((ratio + 0.5) * COARSE / BINS, 500.0)) for ratio, each in both.items()}
        usual = allowed.beats - sum([each.beats for each in both.values()])
        most = MOST * (sum(took.values()) + usual)  # usual steps' worth
        so_far, time = _NONE, 0.0
        for ratio in sorted(both, reverse=True):
            so_far, time = so_far.plus(both[ratio]), time + took[ratio]
            rare = so_far.onsets <= max(1.0, RARE * allowed.beats) and so_far.beats <= max(BURST, SHARE * allowed.beats)
            everywhere = time > most or so_far.samples > self._claim * allowed.samples
            if not rare or (so_far.onsets >= OFTEN and everywhere):
                while above := [near for near in range(ratio + 1, ratio + NEAR + 1) if near in both]:
                    ratio = above[-1]
                return max(bar, median + (ratio + 1) * COARSE - 1)
        return bar


def _added(one: Mapping[int, _Slow], other: Mapping[int, _Slow]) -> dict[int, _Slow]:
    both = dict(one)
    for ratio, each in other.items():
        both[ratio] = both.get(ratio, _NONE).plus(each)
    return both


def _slow(bins: Bins) -> tuple[dict[int, _Slow], _Slow]:
    """A window's slow steps by how much slower they are, and all of its steps."""
    median, bar = suspects(bins)
    slow: dict[int, _Slow] = {}
    every = _NONE
    for key, b in bins.items():
        each = _Slow(b.onsets, b.beats, 0.0 if b.powers is None else b.powers.watts.count)
        every = every.plus(each)
        if key > bar and b.beats:
            ratio = (key - median) // COARSE
            slow[ratio] = slow.get(ratio, _NONE).plus(each)
    return slow, every


def bin_of(step_s: float) -> int:
    """The bin of a time per step above 0; too long for a number is the highest that there is."""
    return int(BINS * log(step_s) + 65536.0) if step_s < inf else NEVER - 1  # the offset makes int() round down
