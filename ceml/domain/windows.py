"""Beats and samples become an `Observation`: exactly the time in which one configuration was in force."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from ceml.domain.values import NAN, Observation

if TYPE_CHECKING:
    from ceml.domain.events import Heartbeat, Sampled
    from ceml.domain.knobs import Configuration


class Spread:
    """Mean and variance of a stream of numbers, one at a time (Welford)."""

    __slots__ = ("_squares", "count", "mean")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Take in one number."""
        self.count += 1
        off = value - self.mean
        self.mean += off / self.count
        self._squares += off * (value - self.mean)

    @property
    def cv(self) -> float:
        """Standard deviation over mean; NaN below two numbers or for a mean of zero."""
        if self.count < 2 or self.mean == 0.0:
            return NAN
        return sqrt(self._squares / (self.count - 1)) / abs(self.mean)


class Integral:
    """Area under a sampled signal: trapezoid between instantaneous readings, rectangle under readings that are means.

    Sums over timestamps, never count times nominal period, so lost and late samples do no harm.
    """

    __slots__ = ("_last", "_last_s", "_only", "area", "count", "span_s")

    def __init__(self) -> None:
        self.area = 0.0  # signal x seconds: joules for watts
        self.span_s = 0.0
        self.count = 0
        self._only = 0.0
        self._last = NAN
        self._last_s = NAN

    def add(self, at_s: float, value: float, covers_s: float = 0.0) -> None:
        """Take in one reading; one that is not a number, or not later than the last, changes nothing."""
        if value != value or at_s <= self._last_s:  # NaN, or reordered
            return
        if covers_s > 0.0:
            self.area += value * covers_s
            self.span_s += covers_s
        elif self.count:
            self.area += (value + self._last) / 2 * (at_s - self._last_s)
            self.span_s += at_s - self._last_s
        else:
            self._only = value
        self.count += 1
        self._last, self._last_s = value, at_s

    @property
    def mean(self) -> float:
        """Mean over the time covered; NaN without a reading."""
        if self.span_s > 0.0:
            return self.area / self.span_s
        return self._only if self.count else NAN


class Window:
    """Folds beats and samples in O(1) each, from the moment a configuration is in force.

    The first beat after `opens_s` only starts the clock: the step before it may have begun under another
    configuration. Samples count once they lie wholly inside, the sensor's lag included.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        opens_s: float,
        lag_s: float = 0.0,
        total_rails: tuple[str, ...] = (),
        started_s: float | None = None,
    ) -> None:
        """Open a window.

        Args:
            configuration: What is in force.
            opens_s: From when on (settle time included).
            lag_s: By how much samples trail the truth.
            total_rails: Rails whose sum is the power of the whole board.
            started_s: The beat that starts the clock, where it is already known (windows that follow each other).
        """
        self.configuration = configuration
        self.beats = 0
        self.steps = 0.0
        self._opens_s = opens_s
        self._samples_from_s = opens_s + lag_s
        self._total_rails = total_rails
        self._start_s = NAN if started_s is None else started_s
        self._end_s = self._start_s
        self._step_s = Spread()
        self._total_w = Spread()
        self._rails: dict[str, Integral] = {}
        self._devices: dict[str, Integral] = {}

    @property
    def end_s(self) -> float:
        """The last beat so far; NaN before the first."""
        return self._end_s

    @property
    def power_samples(self) -> int:
        """Samples of the whole board's power so far: those of the rail sampled least."""
        if not self._total_rails:
            return 0
        return min(self._rails[rail].count if rail in self._rails else 0 for rail in self._total_rails)

    def beat(self, beat: Heartbeat) -> None:
        """Fold in a heartbeat; one from before the window, or not later than the last, is left out."""
        if beat.at_s < self._opens_s:
            return
        if self._start_s != self._start_s:  # not started yet
            self._start_s = self._end_s = beat.at_s
            return
        interval_s = beat.at_s - self._end_s
        if interval_s <= 0.0:
            return
        self.beats += 1
        self.steps += beat.work
        self._step_s.add(interval_s / beat.work)
        self._end_s = beat.at_s

    def sample(self, sample: Sampled) -> None:
        """Fold in a sensor's poll; one that reaches back before the window is left out."""
        at_s, covers_s = sample.at_s, sample.covers_s
        if at_s - covers_s < self._samples_from_s:
            return
        for totals, readings in ((self._rails, sample.rails_w), (self._devices, sample.utilisation)):
            for name, value in readings.items():
                total = totals.get(name)
                if total is None:
                    total = totals[name] = Integral()
                total.add(at_s, value, covers_s)
        if self._total_rails:
            total_w = sum([sample.rails_w.get(rail, NAN) for rail in self._total_rails])
            if total_w == total_w:
                self._total_w.add(total_w)

    def observe(self) -> Observation:
        """What was measured so far; rate NaN where no interval between beats was counted."""
        duration_s = self._end_s - self._start_s
        total = [self._rails[rail].mean if rail in self._rails else NAN for rail in self._total_rails]
        return Observation(
            configuration=self.configuration,
            start_s=self._start_s,
            end_s=self._end_s,
            beats=self.beats,
            steps=self.steps,
            rate_hz=self.steps / duration_s if self.beats else NAN,
            power_w=sum(total) if total else NAN,
            rail_w={rail: power.mean for rail, power in self._rails.items() if power.count},
            utilisation={device: share.mean for device, share in self._devices.items() if share.count},
            power_samples=self.power_samples,
            step_cv=self._step_s.cv,
            power_cv=self._total_w.cv,
        )
