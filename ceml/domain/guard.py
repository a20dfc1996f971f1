"""The guard: what is measured over a cap, or short of a target, is left at once, before any model is asked.

A sensor scatters by some 2.5 %, so "two samples above the cap" would fire all the time on a state that is allowed.
Each bound has a sequential test instead, in standard deviations z of the signal's own scatter, which is learnt online:

- one sample of z >= 4, or two in a row of z >= 2: that is no noise;
- less than that by accumulation, Page's cumulative sum S <- max(S + z - 1/2, 0) >= 6. In a state that was just put in
  force it starts at 3 (the head start of Lucas and Crosier): what nobody has seen there yet is looked at harder.

In noise of 2.5 % (drawn with seeds) an excess of 10 % is found after 1 sample in the median and 2 in 95 of 100 cases,
5 % after 2 and 5, 3 % after 4 and 11. In a state that 50 readings have proven, an excess of a cap is counted from 1 %
above it: who runs at 99.5 % of a cap is driven away by noise once in four hours at 10 Hz instead of every few minutes,
and 98 % never. What cannot be told fast the margin of the choice must prevent (SURELY).

A temperature scatters hardly, but follows power only slowly, in both directions: see `Heat`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log, sqrt
from typing import TYPE_CHECKING

from ceml.domain.values import NAN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ceml.domain.events import Sampled
    from ceml.domain.knobs import Configuration
    from ceml.domain.values import Observation

BOARD = ""  # in place of a rail's name
STEP_TIME = "step time"  # in place of a rail's name: targets are bounds on seconds per step
HEAT = "hottest zone"  # in place of a rail's name: a bound on degrees Celsius
COOLING_S = 15.0  # over which temperatures are averaged to see whether the board cools
COOLING = 0.1  # of what is above the cap must go in that time: a board that settles above it falls ever more slowly
COOLED_C = 1.0  # below the cap, and the heat of an earlier state is gone
RISEN_C = 2.0  # above where a state was left for its heat: that is no cooling, nor a late rise of a heat sink
ALONE, TWICE = 4.0, 2.0  # standard deviations over the bound, of one sample and of two in a row
SLACK, LIMIT, HEAD_START = 0.5, 6.0, 3.0  # of the cumulative sum
PROVEN = 50  # readings after which a state is no new one
LENIENCE = 0.01  # of a cap: from there an excess of a proven state is counted, so that noise does not drive it away
SUSPECT_ALONE = 0.5  # standard deviations that the first reading must be above the bound for a first look to be over
USUAL_SD = 0.025  # of one power sample, relative, until it has been seen
USUAL_STEP_SD = 0.02  # of one step's time
BELIEF, MEMORY = 10.0, 300.0  # differences that this weighs as much as, and that are remembered
LEAST_SD, MOST_SD = 0.003, 0.08  # sensors are quantised; and a program that swings is no excuse
HYSTERESIS = 0.01  # of the bound that a violator must be expected below to come back; doubled each time
MOST_RETURNS = 3  # of one state under one bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What must not be exceeded: watts of a rail (`BOARD`: of all), seconds per step, or degrees of the hottest zone.

    Attributes:
        name: What a person calls it, e.g. `power cap 8 W`.
        signal: The rail, `BOARD`, `STEP_TIME` or `HEAT`.
        most: The bound, W, s or C.
    """

    name: str
    signal: str
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A bound is broken, beyond noise; `measured` (W, s or C) is the mean since it began."""

    bound: Bound
    measured: float


class Excess:
    """The sequential test of one bound; in a proven state an excess is counted from `lenience` above it, a share."""

    def __init__(self, lenience: float = 0.0) -> None:
        self._lenience = lenience
        self.open()

    def open(self) -> None:
        """Another state is in force."""
        self._sum, self._before = HEAD_START, 0.0
        self._total, self._count = 0.0, 0
        self._over, self._readings, self._sd = 0.0, 0, 0.0

    def update(self, value: float, most: float, sd: float) -> float | None:
        """Take in one reading, `sd` its relative standard deviation; the mean since the excess began, or None."""
        z = (value / most - 1.0 - (self._lenience if self._readings >= PROVEN else 0.0)) / sd
        self._over, self._readings, self._sd = self._over + value / most - 1.0, self._readings + 1, sd
        self._total, self._count = self._total + value, self._count + 1
        self._sum += z - SLACK
        twice, self._before = min(z, self._before) >= TWICE, z
        if z >= ALONE or twice or self._sum >= LIMIT:
            return self._total / self._count
        if self._sum <= 0.0:
            self._sum, self._total, self._count = 0.0, 0.0, 0
        return None

    def suspected(self, over: float = 0.0, count: int = 0) -> bool:
        """Whether the first reading in this state, or the mean of all, is above the bound: it may be noise alone.

        `over` is the sum of the relative excesses of `count` readings of an earlier look: then the mean of all must be
        as clearly above the bound as a first reading.
        """
        if count and self._readings:
            return over + self._over > SUSPECT_ALONE * self._sd * sqrt(count + self._readings)
        if self._readings == 1:
            return self._before > SUSPECT_ALONE
        return self._readings > 1 and self._over > 0.0


class Scatter:
    """Relative standard deviation of one reading, from the differences between neighbours: drift is no noise."""

    def __init__(self) -> None:
        self._squares, self._count, self._before = BELIEF * USUAL_SD**2, BELIEF, NAN

    def open(self) -> None:
        """Another state is in force: the step to it is no noise."""
        self._before = NAN

    def update(self, value: float) -> None:
        """Take in a reading above 0; a jump counts as four standard deviations at most."""
        before, self._before = self._before, value
        if before != before:
            return
        half = min(log(value / before) ** 2 / 2.0, (ALONE * self.sd) ** 2)
        if self._count >= MEMORY:
            self._squares *= 1.0 - 1.0 / MEMORY
            self._count -= self._count / MEMORY
        self._squares, self._count = self._squares + half, self._count + 1.0

    @property
    def sd(self) -> float:
        """As far as it is known."""
        return min(max(sqrt(self._squares / self._count), LEAST_SD), MOST_SD)


class Heat:
    """The test of a cap on temperature, by the readings of one sensor.

    Two readings in a row above the cap are an excess, and the state in force is to be left. Then, and where the cap
    was new to a board that is too hot, the board is given time to cool: until it is well below the cap, or was
    below it for `COOLING_S`, only that it rises further, or does not fall towards the cap by the means of two
    stretches of `COOLING_S`, is an excess. So one hot state does not put the blame on all that follow. Heat is the
    board's: it stays when another state is in force.
    """

    def __init__(self) -> None:
        self._before = NAN
        self._cooling, self._left_c, self._below_s = False, NAN, NAN
        self._rest()

    def _rest(self, mean: float = NAN) -> None:
        self._mean, self._since_s, self._sum, self._count = mean, NAN, 0.0, 0

    def above(self, most: float) -> bool:
        """Whether the latest reading is above the cap, an excess or not."""
        return self._before > most

    def update(self, at_s: float, hottest_c: float, most: float) -> float | None:
        """Take in one reading; the temperature where it is an excess, else None."""
        before, self._before = self._before, hottest_c
        if before != before and hottest_c > most:
            self._cooling, self._left_c = True, hottest_c
        elif self._cooled(at_s, hottest_c, most):
            self._cooling = False
            self._rest()
        if not (before > most and hottest_c > most):
            return None
        risen = min(before, hottest_c) > self._left_c + RISEN_C
        if self._cooling and not risen and not self._stays(at_s, hottest_c, most):
            return None
        self._cooling, self._left_c = True, hottest_c
        self._rest()
        return (before + hottest_c) / 2.0

    def _cooled(self, at_s: float, hottest_c: float, most: float) -> bool:
        if hottest_c > most:
            self._below_s = NAN
            return False
        if self._below_s != self._below_s:
            self._below_s = at_s
        return hottest_c <= most - COOLED_C or at_s - self._below_s >= COOLING_S

    def _stays(self, at_s: float, hottest_c: float, most: float) -> bool:
        """Whether a stretch is over, and it was hardly cooler than the one before."""
        if not self._count:
            self._since_s = at_s
        self._sum, self._count = self._sum + hottest_c, self._count + 1
        if at_s - self._since_s < COOLING_S:
            return False
        before, mean = self._mean, self._sum / self._count
        self._rest(mean)
        return before - mean < COOLING * (mean - most)  # of the first stretch nothing can be said: NaN


class PowerGuard:
    """Looks at each sample of power and temperature. O(1) a sample, and next to nothing where there is no cap.

    Args:
        total_rails: Rails whose sum is the power of the whole board.
        lag_s: By how much samples trail the truth.
    """

    def __init__(self, total_rails: Sequence[str], lag_s: float = 0.0) -> None:
        self._total_rails = tuple(total_rails)
        self._lag_s = lag_s
        self._bounds: tuple[Bound, ...] = ()
        self._tests: dict[str, Excess] = {}
        self._scatter: dict[str, Scatter] = {}
        self._latest: dict[str, float] = {}
        self._heat: dict[str, Heat] = {}  # by sensor
        self._from_s = float("inf")

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The caps in force."""
        return self._bounds

    def limit(self, bounds: Sequence[Bound]) -> None:
        """Other caps are in force."""
        bounds = tuple(bounds)
        if bounds != self._bounds:
            self._bounds, self._tests = bounds, {bound.signal: Excess(LENIENCE) for bound in bounds}
            self._heat = {}

    def open(self, from_s: float) -> None:
        """Another state is in force from then on."""
        self._from_s, self._latest = from_s + self._lag_s, {}
        for each in (*self._tests.values(), *self._scatter.values()):
            each.open()

    def suspects(self, before: Callable[[Bound], tuple[float, int]]) -> bool:
        """Whether the state in force looks as if it broke a cap on power, sure or not.

        `before` tells of a bound what earlier looks there showed: see `Excess.suspected`.
        """
        return any(self._tests[each.signal].suspected(*before(each)) for each in self._bounds if each.signal != HEAT)

    @property
    def hot(self) -> bool:
        """Whether the board was above its cap on temperature when it was last read, whatever heats it."""
        caps = [bound for bound in self._bounds if bound.signal == HEAT]
        return any(heat.above(cap.most) for cap in caps for heat in self._heat.values())

    def shut(self) -> None:
        """Nothing of ours is in force."""
        self._from_s = float("inf")

    def sampled(self, sample: Sampled) -> Alarm | None:
        """Look at one poll; the first bound that is broken beyond noise."""
        if not self._bounds or not sample.at_s - sample.covers_s >= self._from_s:
            return None
        self._latest.update({rail: watts for rail, watts in sample.rails_w.items() if isfinite(watts)})
        for bound in self._bounds:
            if bound.signal == HEAT:
                degrees = self._too_hot(sample, bound)
                if degrees is not None:
                    return Alarm(bound=bound, measured=degrees)
                continue
            watts = self._reading(bound.signal, sample.rails_w)
            if not watts > 0.0:
                continue
            scatter = self._scatter.setdefault(bound.signal, Scatter())
            measured = self._tests[bound.signal].update(watts, bound.most, scatter.sd)
            scatter.update(watts)
            if measured is not None:
                return Alarm(bound=bound, measured=measured)
        return None

    def _too_hot(self, sample: Sampled, cap: Bound) -> float | None:
        hottest_c = max(filter(isfinite, sample.temperatures_c.values()), default=None)
        if hottest_c is None:
            return None
        return self._heat.setdefault(sample.sensor, Heat()).update(sample.at_s, hottest_c, cap.most)

    def _reading(self, signal: str, rails_w: Mapping[str, float]) -> float:
        """What the poll says of a signal, in W; NaN where it says nothing new."""
        if signal != BOARD:
            return rails_w.get(signal, NAN)
        if not any(rail in rails_w for rail in self._total_rails):
            return NAN
        return sum([self._latest.get(rail, NAN) for rail in self._total_rails])


class TargetGuard:
    """Looks at each idle window: whether a target is missed, beyond noise."""

    def __init__(self) -> None:
        self._test = Excess()

    def open(self) -> None:
        """Another state is in force."""
        self._test.open()

    def measured(self, seen: Observation, bound: Bound) -> Alarm | None:
        """Take in a window; `bound` is one on seconds per step."""
        if not seen.rate_hz > 0.0:
            return None
        sd = max(seen.step_cv, USUAL_STEP_SD / 4.0) if seen.step_cv == seen.step_cv else USUAL_STEP_SD
        late_s = self._test.update(1.0 / seen.rate_hz, bound.most, sd / seen.beats**0.5)
        return None if late_s is None else Alarm(bound=bound, measured=late_s)


@dataclass(slots=True, kw_only=True)
class Violation:
    """A state that broke a bound.

    Attributes:
        most: The largest bound that it was seen to break, or what was measured, whichever is larger, W, s or C.
        times: How often it was left.
    """

    most: float
    times: int = 1


class Violators:
    """States known to break a bound, and all tighter ones of its kind; whether one may come back is for evidence.

    It comes back when it is expected below the bound, surely and by a margin that doubles each time it had to be left,
    and three times at most: so a state at its very cap cannot make the machine flap for ever.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Configuration, str], Violation] = {}

    def __len__(self) -> int:
        return len(self._known)

    def forget(self) -> None:
        """The program changed."""
        self._known = {}

    def add(self, configuration: Configuration, alarm: Alarm) -> None:
        """A state broke a bound."""
        key, most = (configuration, alarm.bound.signal), max(alarm.bound.most, alarm.measured)
        known = self._known.get(key)
        if known is None:
            self._known[key] = Violation(most=most)
        else:
            known.most, known.times = max(known.most, most), known.times + 1

    def forbidden(
        self, bounds: Sequence[Bound], surely: Callable[[Configuration, str], float]
    ) -> frozenset[Configuration]:
        """The states to be kept out of.

        Args:
            bounds: What must hold now.
            surely: The amount (W, s per step or C) that a signal surely stays below in a configuration; NaN: not known.
        """
        gone: set[Configuration] = set()
        for bound in bounds:
            for (configuration, signal), known in self._known.items():
                if signal != bound.signal or bound.most > known.most or configuration in gone:
                    continue
                margin = 1.0 + HYSTERESIS * 2.0 ** (known.times - 1)
                if known.times > MOST_RETURNS or not surely(configuration, signal) * margin <= bound.most:
                    gone.add(configuration)
        return frozenset(gone)
