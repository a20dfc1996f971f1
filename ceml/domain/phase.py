"""Whether the program has changed: detectors on the rate or the power of successive windows (C21)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log, sqrt

from ceml.errors import SettingsError

_TINY = 1e-300  # a window that small against the first one may round to 0


class Difference:
    """The paper's "difference between samples", made precise (ceml.md 1.6): windows against the level so far.

    The level is the mean of all windows accepted since the last reset, their standard deviation is the noise. A window
    stands out when it is larger or smaller by more than max(threshold, sigmas * noise / level), taken of the smaller
    of the two: 15 % up and back down are the same change. `windows` of them in a row, all to the same side, are a
    change; fewer are outliers and are forgotten. Watts or kilowatts make no difference.
    """

    def __init__(self, *, threshold: float, sigmas: float, windows: int) -> None:
        self._threshold = threshold
        self._sigmas = sigmas
        self._windows = windows
        self.reset()

    def update(self, measured: float, *, predicted: float, std: float) -> bool:
        """Feed one window's value; True: it changed for good, and the past is forgotten.

        `predicted` and `std` are not looked at: the paper compares measurements with measurements only. Values that
        are not finite or not positive are no measurement and are left out.
        """
        if not (isfinite(measured) and measured > 0):
            return False
        if not self._count:
            self._unit = measured
        value = measured / self._unit  # in units of the first window, so that huge and tiny numbers are safe
        if not self._count:
            self._accept(value)
            return False
        up = value > self._mean
        change = (value / self._mean if up else self._mean / max(value, _TINY)) - 1.0
        if change <= max(self._threshold, self._sigmas * self._noise()):
            self._accept(value)
            return False
        side = 1 if up else -1
        self._outside = self._outside + side if self._outside * side > 0 else side
        if abs(self._outside) < self._windows:
            return False
        self.reset()
        return True

    def reset(self) -> None:
        """Forget the past, e.g. because the configuration changed."""
        self._unit = 1.0
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0  # sum of squared deviations from the mean (Welford)
        self._outside = 0  # windows outside in a row, with the sign of their side

    def _accept(self, value: float) -> None:
        self._outside = 0
        self._count += 1
        away = value - self._mean
        self._mean += away / self._count
        self._squares += away * (value - self._mean)

    def _noise(self) -> float:
        """Relative standard deviation of the accepted windows; 0 where there is only one."""
        return sqrt(self._squares / (self._count - 1)) / self._mean if self._count > 1 else 0.0


def difference(*, threshold: float = 0.10, sigmas: float = 4.0, windows: int = 2) -> Difference:
    """A change of more than 10 % (or 4 standard deviations) in two windows in a row.

    Args:
        threshold: Least relative change.
        sigmas: Least change in standard deviations of the windows so far.
        windows: Windows in a row that must show it.

    Raises:
        SettingsError: A number out of its range.
    """
    if not (isfinite(threshold) and threshold > 0):
        raise SettingsError(f"threshold = {threshold:g} of detector difference: give a relative change, e.g. 0.1")
    if not (isfinite(sigmas) and sigmas >= 0):
        raise SettingsError(f"sigmas = {sigmas:g} of detector difference: give 0 or more, e.g. 4")
    if windows < 1:
        raise SettingsError(f"windows = {windows} of detector difference: at least 1 window must show the change")
    return Difference(threshold=threshold, sigmas=sigmas, windows=windows)


class Cusum:
    """Page's cumulative sums, on what was measured against its level, and on the residual against the model.

    Everything is in logarithms. x - level, less a slack of half the shift to be found, adds up, to either side; above
    `rarity` s^2 / (2 slack) it is a change, s being the standard deviation of one window. In steady noise that is
    passed about once in e^rarity windows (Wald), whatever s is. s is learnt from the differences of neighbouring
    windows, and survives `reset`. One window counts for so little that no outlier alone is a change.

    Against the model the same, with a slack of its own: a residual of a few percent is a model's right.
    """

    def __init__(self, *, shift: float, model_error: float, rarity: float) -> None:
        self._slack = log(1.0 + shift) / 2.0
        self._model_slack = log(1.0 + model_error)
        self._rarity = rarity
        self._squares, self._seen = 0.0, 0.0  # of half differences between neighbours, ln^2
        self.reset()

    def update(self, measured: float, *, predicted: float, std: float) -> bool:
        """Feed one window's value; True: it changed for good, and the past is forgotten (but not how noisy it is).

        `std`, of the measured value, is what the noise is until windows have shown it. Values that are not finite or
        not positive are no measurement and are left out.
        """
        if not (isfinite(measured) and measured > 0.0):
            return False
        x, s = log(measured), self._noise(std / measured)
        self._learn(x, s)
        off_level = x - self._level if self._count else 0.0
        spread = s * sqrt(1.0 + 1.0 / max(self._count, 1.0))
        slack = max(self._slack, spread / 2.0)
        changed = self._add(0, off_level, slack, self._rarity * spread**2 / (2.0 * slack))
        if isfinite(predicted) and predicted > 0.0:
            slack = max(self._model_slack, s)  # twice the bar: half of the slack may be used up by the model's error
            changed |= self._add(2, x - log(predicted), slack, self._rarity * s**2 / slack)
        if changed:
            self.reset()
            return True
        if abs(off_level) <= max(self._slack, 2.0 * spread):  # the level follows slow drift, no jump
            self._count = min(self._count + 1.0, _LEVEL_WINDOWS)
            self._level = x if self._count == 1.0 else self._level + off_level / self._count
        return False

    def reset(self) -> None:
        """Forget the level, e.g. because the configuration changed; the noise is remembered."""
        self._level = self._count = 0.0
        self._sums = [0.0, 0.0, 0.0, 0.0]  # up and down, against the level and against the model
        self._before = float("nan")

    def _add(self, at: int, off: float, slack: float, bar: float) -> bool:
        bar = max(bar, slack / 2.0)
        for side, away in ((at, off), (at + 1, -off)):
            gain = min(away - slack, _ONE_WINDOW * bar)
            self._sums[side] = max(self._sums[side] + gain, 0.0)
        return max(self._sums[at : at + 2]) >= bar

    def _learn(self, x: float, s: float) -> None:
        before, self._before = self._before, x
        if before != before:
            return
        if self._seen >= _NOISE_WINDOWS:
            self._squares *= 1.0 - 1.0 / _NOISE_WINDOWS
            self._seen -= self._seen / _NOISE_WINDOWS
        self._squares += min((x - before) ** 2 / 2.0, (3.0 * s) ** 2)  # a jump is a change, not noise
        self._seen += 1.0

    def _noise(self, stated: float) -> float:
        """Standard deviation of ln of one window."""
        expected = max(stated, _LEAST_NOISE) if isfinite(stated) else _USUAL_NOISE
        return max(sqrt((_BELIEF * expected**2 + self._squares) / (_BELIEF + self._seen)), _LEAST_NOISE)


_BELIEF, _NOISE_WINDOWS = 5.0, 200.0  # windows that the stated noise weighs as much as; that are remembered
_LEAST_NOISE, _USUAL_NOISE = 0.002, 0.02
_LEVEL_WINDOWS = 100.0
_ONE_WINDOW = 0.6  # of the bar that one window may add


def cusum(*, shift: float = 0.10, model_error: float = 0.10, rarity: float = 13.0) -> Cusum:
    """Cumulative sums find lasting shifts of 10 % or more also in noise, and a model that is off by more than 10 %.

    False alarms: at most one in 10 000 windows with the default rarity, tested up to a window noise of 4 %.

    Args:
        shift: The relative change that is to be found fastest; half of it is put up with for ever.
        model_error: Relative error of the model's prediction that is put up with for ever.
        rarity: ln of the windows between two false alarms, about; more is slower.

    Raises:
        SettingsError: A number out of its range.
    """
    for name, value in (("shift", shift), ("model_error", model_error), ("rarity", rarity)):
        if not (isfinite(value) and value > 0):
            raise SettingsError(f"{name} = {value:g} of detector cusum: give a number above 0, e.g. 0.1; rarity 13")
    return Cusum(shift=shift, model_error=model_error, rarity=rarity)


# Why it changed -------------------------------------------------------------------------------------------------------

MODEL_SMALL = 0.08  # relative: a prediction this near was right
MORE_BUSY = 0.10  # of a device's time, while the program got slower: somebody else works there
SLOWER = 0.05  # relative
HOT_C, HOTTER_C = 75.0, 10.0  # boards begin to throttle somewhere above; or it got this much hotter


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What the sensors say of one window; NaN: nothing.

    Attributes:
        rate_hz: Steps per second.
        power_w: Watts of the board.
        busiest: Busy share of the busiest device, 0 to 1.
        hottest_c: Temperature of the hottest zone.
        throttled: What holds clocks down, as the hardware tells it; empty: nothing.
        others: Other programs that are known to run.
    """

    rate_hz: float = float("nan")
    power_w: float = float("nan")
    busiest: float = float("nan")
    hottest_c: float = float("nan")
    throttled: str = ""
    others: int = 0


def cause_of(before: Signs, after: Signs, *, model_was_right: bool) -> tuple[str, str]:
    """The likeliest cause of a change, and what speaks for it: `model`, `interference`, `throttling` or `program`.

    Comparisons with NaN are false: a sensor that is not there speaks for nothing, and what nothing speaks against is
    the program itself. Throttling is what the hardware says it is, else what lowers rate and power on a hot board;
    another program lowers the rate alone.
    """
    if not model_was_right:
        return "model", f"no window since the decision was within {MODEL_SMALL:.0%} of the prediction"
    slower = after.rate_hz < before.rate_hz * (1.0 - SLOWER)
    if slower and after.others > before.others:
        return "interference", f"{after.others - before.others} more program(s) on the machine"
    if slower and after.busiest > before.busiest + MORE_BUSY:
        return "interference", f"slower, and the busiest device went from {before.busiest:.0%} to {after.busiest:.0%}"
    if slower and after.throttled and not before.throttled:
        return "throttling", f"slower, and {after.throttled}"
    hot = after.hottest_c >= HOT_C or after.hottest_c >= before.hottest_c + HOTTER_C
    if slower and hot and after.power_w < before.power_w * (1.0 - SLOWER):
        return "throttling", f"slower and with less power at {after.hottest_c:.0f} C"
    return "program", "nothing speaks for another load, for throttling or for a wrong model"
