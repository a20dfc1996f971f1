"""The form behind Eq. 1 and Eq. 3 of the paper, for any space, and its least squares (C8, C10, C12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.values import NAN, FitStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ceml.domain.knobs import Configuration, KnobSpace, States

    Array = NDArray[np.float64]

DEVICES = ("cpu", "gpu", "mem")
_PAIRS = (("cpu", "gpu"), ("gpu", "mem"), ("mem", "cpu"))  # in the order of Eq. 1
_RANK_TOLERANCE = 1e-9  # smallest singular value that counts, as part of the largest; the seven states have 1e-2


class Columns:
    """One column for each state of a space: for the whole product, and cut out once for the present states."""

    def __init__(self, states: States, every: Array) -> None:
        """Keep `every`, shape (rows, states of the product); `states` are the present ones."""
        full = len(states) == every.shape[1]
        self._states = states
        self._every: Array = np.ascontiguousarray(every)
        self._present: Array = self._every if full else np.ascontiguousarray(every[:, states])

    def at(self, states: States) -> Array:
        """Columns of n states, shape (rows, n); nothing is copied for the present states themselves."""
        return self._present if states is self._states else self._every[:, states]


class BilinearForm:
    """The terms f_C, f_G, f_M, f_C f_G, f_G f_M, f_M f_C, 1 as far as a space has them, and their values in its states.

    Columns are divided by their value at the highest clocks: no prediction changes, but the numbers stay comparable.

    Attributes:
        clocks_ghz: Clock of each device that the space has a knob for, in every state of the product, GHz.
        top_ghz: Highest clock of each of these devices, GHz.
        devices: Those whose clock can be turned.
        fixed: Those that have no clock, or a single level of it; their terms are missing.
        others: Knobs that the form does not know. States with one of them below its maximum have NaN columns.
        terms: Devices whose clocks are multiplied, for each term; () is the constant.
        scale: Value of each term at the highest clocks, GHz or GHz^2, shape (terms,).
        columns: The scaled terms in all states, shape (terms, states).
        states: The present states.
    """

    def __init__(self, space: KnobSpace) -> None:
        every = np.arange(space.present.size, dtype=np.intp)
        values, places = space.values(every), space.places(every)
        axes = {knob.name: axis for axis, knob in enumerate(space.knobs)}
        known = {device: axes.pop(f"{device}_hz") for device in DEVICES if f"{device}_hz" in axes}
        self.states = space.states  # not the space itself: the model forgets a form when its space is gone
        self.clocks_ghz: Mapping[str, Array] = {device: values[:, axis] / 1e9 for device, axis in known.items()}
        self.top_ghz = {device: float(ghz.max()) for device, ghz in self.clocks_ghz.items()}
        self.devices = tuple(d for d, axis in known.items() if len(set(places[space.states, axis].tolist())) > 1)
        self.fixed = tuple(device for device in DEVICES if device not in self.devices)
        self.others = tuple(axes)
        pairs = tuple(pair for pair in _PAIRS if set(pair) <= set(self.devices))
        self.terms: tuple[tuple[str, ...], ...] = (*((device,) for device in self.devices), *pairs, ())
        self.scale: Array = self._rows(self.top_ghz)
        rows = self._rows(self.clocks_ghz, every.size) / self.scale[:, None]
        for axis in axes.values():
            rows[:, places[:, axis] < places[space.states, axis].max(initial=0)] = np.nan
        self.columns = Columns(space.states, rows)

    def seen(self, configurations: Sequence[Configuration]) -> Array:
        """Scaled columns of measured configurations, shape (terms, n); NaN where one lacks a clock."""
        clocks = {device: ghz_of(configurations, device) for device in self.devices}
        return self._rows(clocks, len(configurations)) / self.scale[:, None]

    def _rows(self, clocks_ghz: Mapping[str, Array] | Mapping[str, float], *shape: int) -> Array:
        """Unscaled terms, shape (terms, *shape)."""
        rows: Array = np.ones((len(self.terms), *shape))
        for row, term in enumerate(self.terms):
            for device in term:
                rows[row] *= clocks_ghz[device]
        return rows


def ghz_of(configurations: Sequence[Configuration], device: str) -> Array:
    """The clock of a device in each configuration, GHz, shape (n,); NaN where there is none."""
    levels = [configuration.get(f"{device}_hz") for configuration in configurations]
    return np.array([NAN if level is None or isinstance(level, str) else level / 1e9 for level in levels])


def least_squares(columns: Array, targets: Array) -> tuple[int, Array]:
    """Rank and coefficients (q, k) of targets (q, m) on columns (k, m): of all best fits the one of least norm.

    Raises:
        LinAlgError: The numbers are not finite, or no solution was found.
    """
    solution, _, rank, _ = np.linalg.lstsq(np.transpose(columns), np.transpose(targets), rcond=_RANK_TOLERANCE)
    return int(rank), np.transpose(solution).astype(np.float64, copy=False)


def solve(columns: Array, targets: Array) -> tuple[FitStatus, Array]:
    """Least squares with a status instead of exceptions: coefficients (q, k), all NaN unless GOOD."""
    unknowns, samples = columns.shape
    nothing: Array = np.full((len(targets), unknowns), np.nan)
    if samples < unknowns:
        return FitStatus.TOO_FEW, nothing
    try:
        rank, coefficients = least_squares(columns, targets)
    except np.linalg.LinAlgError:
        return FitStatus.NOT_FINITE, nothing
    if rank < unknowns:
        return FitStatus.SINGULAR, nothing
    return (FitStatus.GOOD, coefficients) if np.isfinite(coefficients).all() else (FitStatus.NOT_FINITE, nothing)
