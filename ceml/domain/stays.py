"""When a stay has lasted long enough, and what a program's windows have taught of its stalls.

Sequential: after each new beat or sample the standard errors are looked at, from the window's own scatter pooled with
the one that was expected, s^2 = (B s0^2 + (n - 1) cv^2) / (B + n - 1) and se = s / sqrt(n), so that two beats that
happen to agree end nothing; what scatters far more ends by patience, once the rate is known within 5 %. Looks grow
rarer as a window grows (one in 32), which keeps a beat cheap.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from ceml.domain.rhythm import Rhythm
from ceml.domain.stalls import Stalls

if TYPE_CHECKING:
    from ceml.domain.values import Observation, Stay
    from ceml.domain.windows import Window

BELIEF = 10.0  # values that the expected scatter weighs as much as
LOOKS = 32
FAR, PROOF = 2.0, 4  # times as slow as expected, and the beats after which that is believed
ROUGH = 0.05  # standard error of the rate: known that well, a stay may end for want of patience


def standard_error(count: int, cv: float, expected_cv: float) -> float:
    """Relative standard error of a mean of `count` values, infinite for none; `cv` is NaN where it is not known."""
    if count < 1:
        return float("inf")
    own = count - 1 if cv == cv else 0
    pooled = BELIEF * expected_cv**2 + (own * cv**2 if own else 0.0)
    return sqrt(pooled / (BELIEF + own) / count)


def is_sure(seen: Observation, stay: Stay, *, powered: bool) -> bool:
    """Whether a window holds what its stay asked for; of power only where there is a sensor."""
    if seen.beats < max(stay.beats, 1) or seen.steps < stay.steps:
        return False
    if _is_long(seen, stay, powered=powered):
        return True
    per_beat = sqrt(seen.beats / seen.steps)  # a beat of several steps scatters less than each of them
    if standard_error(seen.beats, seen.step_cv, stay.step_cv * per_beat) > stay.rate_se:
        return False
    if not powered:
        return True
    if seen.power_samples < stay.power_samples:
        return False
    return not standard_error(seen.power_samples, seen.power_cv, stay.power_cv) > stay.power_se


def _is_long(seen: Observation, stay: Stay, *, powered: bool) -> bool:
    """Whether a stay took so many steps and samples that its program proves to scatter more than was thought.

    As long as the rate is hardly known, as after the first of some bursts, no patience is over.
    """
    steps, samples = _expected(stay)
    return (
        seen.step_cv <= ROUGH * sqrt(seen.beats)
        and seen.steps >= stay.patience * steps
        and not (powered and seen.power_samples < stay.patience * samples)
    )


def may_have_stalled(seen: Observation, expected_hz: float) -> bool:
    """Whether so few steps were so much slower than expected that one of them may have been a stall.

    Among a handful a stall shows by itself (stalls.py); of one or two steps only what other states showed can tell.
    """
    return 0 < seen.beats < PROOF and seen.rate_hz * FAR < expected_hz


def expected_s(stay: Stay, rate_hz: float, period_s: float) -> float:
    """Seconds that a trial will take where steps and samples scatter as its stay assumes, its first step included."""
    steps, samples = _expected(stay)
    return min(max((steps + 1.0) / rate_hz, samples * period_s), stay.longest_s) if rate_hz > 0.0 else float("inf")


def _expected(stay: Stay) -> tuple[float, float]:
    """Steps and samples that a trial will take where they scatter as it assumes."""
    steps = max(stay.steps, stay.beats, _needed(stay.step_cv, stay.rate_se))
    return steps, max(stay.power_samples, _needed(stay.power_cv, stay.power_se))


def _needed(cv: float, se: float) -> float:
    return (cv / se) ** 2 if se > 0.0 else 0.0


class Looks:
    """When to look at a window again: at each beat as long as there are few, at each new sample."""

    __slots__ = ("_beats", "_samples")

    def __init__(self) -> None:
        self._beats = 0
        self._samples: int = -1

    def due(self, window: Window, stay: Stay | None) -> bool:
        """Whether enough is new since the last look; if so, this is one. The first one is when the bounds are met."""
        if stay is not None and (window.beats < stay.beats or window.steps < stay.steps):
            return False
        if window.beats < self._beats and window.power_samples == self._samples:
            return False
        self._beats = window.beats + max(1, window.beats // LOOKS)
        self._samples = window.power_samples
        return True


class Lessons:
    """Windows in the list of observations, read anew when it turns out what a program's slow steps are.

    One slow step in the first window may be a stall; when every 10th step proves slow, it was none.
    """

    def __init__(self) -> None:
        self.stalls = Stalls()
        self.rhythm = Rhythm()
        self._doubtful: list[tuple[int, Window]] = []

    def read(self, window: Window) -> Observation:
        """What an open window shows so far."""
        return window.observe(self.stalls)

    def close(self, window: Window) -> Observation:
        """Learn from a window that is over, and say what it showed."""
        window.teach(self.stalls)
        return window.observe(self.stalls, learnt=True)

    def keep(self, window: Window, observations: list[Observation]) -> None:
        """Append what a closed window showed, and mend those before it."""
        for at, doubtful in self._doubtful:
            observations[at] = doubtful.observe(self.stalls, learnt=True)
        if window.has_slow:
            self._doubtful.append((len(observations), window))
        observations.append(window.observe(self.stalls, learnt=True))

    def discard(self, observations: list[Observation], since_s: float, until_s: float) -> bool:
        """Take out what was measured in that time, in which the knobs were not as they were thought to be."""
        kept = [at for at, seen in enumerate(observations) if not since_s < seen.end_s <= until_s]
        place = {before: after for after, before in enumerate(kept)}
        self._doubtful = [(place[at], window) for at, window in self._doubtful if at in place]
        found = len(kept) < len(observations)
        observations[:] = [observations[at] for at in kept]
        return found

    def start_over(self) -> None:
        """The program's rhythm was found: what was slow among single steps is not among periods."""
        self.stalls, self._doubtful = Stalls(), []

    def forget(self) -> None:
        """The program changed."""
        self.start_over()
        self.rhythm = Rhythm()
