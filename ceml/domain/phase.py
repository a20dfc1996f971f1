"""Whether the program has changed: detectors on the rate or the power of successive windows (C21)."""

from __future__ import annotations

from math import isfinite, sqrt

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
