"""Running sums in O(1) memory: mean and scatter of a stream of numbers, area under a sampled signal."""

from __future__ import annotations

from math import sqrt

from ceml.domain.values import NAN

BATCH_BEATS, MOST_BATCHES = 8, 16


class Spread:
    """Mean and variance of a stream of numbers, one at a time (Welford)."""

    __slots__ = ("count", "mean", "squares")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0

    def add(self, value: float) -> None:
        """Take in one number."""
        self.count += 1
        off = value - self.mean
        self.mean += off / self.count
        self.squares += off * (value - self.mean)

    def merge(self, other: Spread) -> None:
        """Take in all numbers of another (Chan, Golub, LeVeque 1979)."""
        count = self.count + other.count
        if not count:
            return
        off = other.mean - self.mean
        self.squares += other.squares + off * off * self.count * other.count / count
        self.mean += off * other.count / count
        self.count = count

    @property
    def cv(self) -> float:
        """Standard deviation over mean; NaN below two numbers or for a mean of zero."""
        if self.count < 2 or self.mean == 0.0:
            return NAN
        return sqrt(self.squares / (self.count - 1)) / abs(self.mean)


class Batches:
    """Scatter of a step as far as it moves the mean of many (batch means, Conway 1963).

    Steps that slow ones interrupt in a regular way scatter much one by one, and their mean is known all the same: the
    next hundred take as long as this. So consecutive beats are put into batches of one size, 8 beats at first, twice
    as many whenever there are 16 batches, and what the means of the batches scatter is scaled to one step.
    """

    __slots__ = ("_beats", "_full", "_seconds", "_size", "_steps")

    def __init__(self) -> None:
        self._size = BATCH_BEATS
        self._full: list[tuple[float, float]] = []  # seconds and steps of each
        self._beats = 0  # in the batch that is not full yet
        self._seconds = self._steps = 0.0

    def add(self, seconds: float, steps: float) -> None:
        """Take in one beat."""
        self._beats += 1
        self._seconds += seconds
        self._steps += steps
        if self._beats == self._size:
            self._full.append((self._seconds, self._steps))
            self._beats, self._seconds, self._steps = 0, 0.0, 0.0
            if len(self._full) == MOST_BATCHES:
                self._double()

    def _double(self) -> None:
        ends = zip(self._full[::2], self._full[1::2], strict=False)  # an odd one at the end is left out
        self._full = [(one[0] + two[0], one[1] + two[1]) for one, two in ends]
        self._size *= 2

    def merge(self, later: Batches) -> None:
        """Take in the full batches of another; those that are not full count in neither."""
        other = Batches()
        other._size, other._full = later._size, list(later._full)
        while self._size < other._size:
            self._double()
        while other._size < self._size:
            other._double()
        self._full += other._full
        while len(self._full) >= MOST_BATCHES:
            self._double()

    @property
    def cv(self) -> float:
        """Coefficient of variation of one beat's time per step; NaN below 8 batches."""
        count = len(self._full)
        if count < MOST_BATCHES // 2:
            return NAN
        means = [seconds / steps for seconds, steps in self._full]
        mean = sum(means) / count
        return sqrt(self._size * sum([(each - mean) ** 2 for each in means]) / (count - 1)) / mean


class Integral:
    """Area under a sampled signal: trapezoid between instantaneous readings, rectangle under readings that are means.

    Sums over timestamps, never count times nominal period, so lost and late samples do no harm.
    """

    __slots__ = ("area", "count", "last", "last_s", "only", "span_s")

    def __init__(self, before: Integral | None = None) -> None:
        """Start from nothing, or where the integral before ended: the piece between the two belongs to this one."""
        self.area = 0.0  # signal x seconds: joules for watts
        self.span_s = 0.0
        self.count = 0
        self.only = NAN
        self.last = before.last if before else NAN
        self.last_s = before.last_s if before else NAN

    def add(self, at_s: float, value: float, covers_s: float = 0.0) -> bool:
        """Take in one reading; one that is not a number, or not later than the last, changes nothing: False."""
        if value != value or at_s <= self.last_s:  # NaN, or reordered
            return False
        if covers_s > 0.0:
            self.area += value * covers_s
            self.span_s += covers_s
        elif self.last_s == self.last_s:
            self.area += (value + self.last) / 2 * (at_s - self.last_s)
            self.span_s += at_s - self.last_s
        else:
            self.only = value
        self.count += 1
        self.last, self.last_s = value, at_s
        return True

    def merge(self, other: Integral) -> None:
        """Take in the area of another; where each of them ends stays its own."""
        self.area += other.area
        self.span_s += other.span_s
        self.count += other.count
        if self.only != self.only:
            self.only = other.only

    @property
    def mean(self) -> float:
        """Mean over the time covered; NaN without a reading."""
        if self.span_s > 0.0:
            return self.area / self.span_s
        return self.only if self.count else NAN
