"""Over the space of configurations: the predicted surface, and the states tried."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (matplotlib leaves the types of its keyword arguments open)

from __future__ import annotations

from itertools import combinations
from math import isfinite, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ceml.telemetry.chapter import max_configuration
from ceml.telemetry.report.style import (
    BLACK,
    BLUE,
    ORANGE,
    PALE,
    SCALE,
    Picture,
    headed,
    knob_unit,
    plain,
    sheet,
)
from ceml.telemetry.report.timeline import said_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from ceml.domain.events import RunStarted, SpacePredicted
    from ceml.domain.knobs import Configuration
    from ceml.telemetry.chapter import Measured
    from ceml.telemetry.report.digest import Digest, Told

    Numbers = NDArray[np.float64]

MOST_KNOBS = 3  # of which pairs are drawn
MOST_NUMBERED = 40  # states that get a number


class Expected(NamedTuple):
    """What the model expected of some states, with their places on the axes of the knobs."""

    knobs: tuple[str, ...]
    shape: tuple[int, ...]
    places: NDArray[np.intp]  # (n, knobs)
    rate_hz: Numbers
    power_w: Numbers
    energy_sd: Numbers  # empty: not stated

    @property
    def energy_j(self) -> Numbers:
        """Joules per step."""
        with np.errstate(all="ignore"):
            return np.where(self.rate_hz > 0, self.power_w / self.rate_hz, np.nan)

    def at(self, levels: Mapping[str, Sequence[float | str]], configuration: Mapping[str, float | str]) -> int | None:
        """Which of the states a configuration is."""
        wanted = place_of(levels, configuration)
        if wanted is None:
            return None
        found = np.flatnonzero((self.places == np.array(wanted)).all(axis=1))
        return int(found[0]) if len(found) else None


def place_of(
    levels: Mapping[str, Sequence[float | str]], configuration: Mapping[str, float | str]
) -> tuple[int, ...] | None:
    """Where a configuration lies on the axes; None where it is off the grid."""
    place: list[int] = []
    for knob, known in levels.items():
        level = configuration.get(knob)
        if level not in known:
            return None
        place.append(known.index(level))
    return tuple(place)


def expected(started: RunStarted | None, told: SpacePredicted | None) -> Expected | None:
    """The predictions in a record; None where there are none, or they do not fit to the knobs in it."""
    if started is None or told is None or not told.states or not started.knobs:
        return None
    shape = tuple(len(levels) for levels in started.knobs.values())
    states = np.array(told.states, dtype=np.int64)
    if 0 in shape or states.min() < 0 or states.max() >= prod(shape):
        return None
    spread = told.energy_sd if len(told.energy_sd) == len(states) else ()
    return Expected(
        tuple(started.knobs),
        shape,
        np.stack(np.unravel_index(states, shape), axis=1).astype(np.intp),
        np.array(told.rate_hz),
        np.array(told.power_w),
        np.array(spread, dtype=np.float64),
    )


def tried_states(told: Told) -> dict[Configuration, Measured]:
    """What was measured, those before a change of the program only where nothing came after it."""
    states = told.chapter.states
    measured = {configuration: state for configuration, state in states.items() if state.windows}
    return measured or told.chapter.before_change


def chosen_state(told: Told) -> Configuration | None:
    """The configuration of the latest decision."""
    return told.decided.configuration if told.decided else None


# The surface ----------------------------------------------------------------------------------------------------------


def surface(run: Digest, told: Told) -> Picture | None:
    """What the model expected over every two knobs, the best over the others, and the states tried; None without it."""
    seen = expected(run.started, told.predicted)
    if seen is None or run.started is None:
        return None
    by_rate = run.started.objective.startswith("performance") or not np.isfinite(seen.energy_j).any()
    values = seen.rate_hz if by_rate else seen.energy_j
    cap_w = run.started.limits.power_cap_w if told.decided is None else _cap_at(run, told.decided.at_s)
    allowed = np.isfinite(values)
    if cap_w is not None:
        allowed &= ~(seen.power_w > cap_w)
    axes_of = [axis for axis, count in enumerate(seen.shape) if count > 1]
    axes_of = sorted(sorted(axes_of, key=lambda axis: -seen.shape[axis])[:MOST_KNOBS])
    if not axes_of or not np.isfinite(values).any():
        return None
    what = "steps/s" if by_rate else "J/step"
    pairs = list(combinations(axes_of, 2)) or [(axes_of[0], axes_of[0])]
    figure = sheet(2.6 if len(pairs) > 1 else 3.2, 7.2 if len(pairs) > 1 else 4.2)
    panels: list[Axes] = list(np.atleast_1d(figure.subplots(1, len(pairs))))
    numbers = _numbers(told)
    if len(axes_of) == 1:
        _line(panels[0], run.started, seen, axes_of[0], values, told, what)
    else:
        low, high = float(np.nanmin(values[np.isfinite(values)])), float(np.nanmax(values[np.isfinite(values)]))
        image = None
        for panel, pair in zip(panels, pairs, strict=True):
            grid = _best(seen, pair, values, allowed, by_rate=by_rate)
            image = panel.imshow(
                grid.T, origin="lower", aspect="auto", cmap=SCALE, vmin=low, vmax=high, interpolation="nearest"
            )
            panel.set_facecolor("white")
            panel.patch.set_hatch("xxxx")
            panel.patch.set_edgecolor(PALE)
            _ticks(panel, run.started, seen, pair)
            _marks(panel, run.started, told, pair, numbers)
        if image is not None:
            figure.colorbar(image, ax=panels, label=f"{what} expected", shrink=0.9, aspect=25, pad=0.02)
    headed(figure, f"What the model expected, {plain(told.chapter.app, 30)}{said_of(run)}")
    others = " of each pair of knobs, the best over the other knobs" if len(axes_of) > 2 else ""
    caption = f"{'Steps per second' if by_rate else 'Joules per step'} expected at the latest decision{others}. "
    caption += "Circles: states tried, numbered in order (+: more than one here); star: chosen; "
    caption += "triangle: every knob at its highest. "
    caption += "Hatched: no such state" + (f", or none within the power cap of {cap_w:g} W." if cap_w else ".")
    if max(seen.shape) > 0 and len(seen.places) < prod(seen.shape):
        caption += f" The record has predictions of {len(seen.places)} states."
    return Picture("surface", "The predicted surface and the states tried", caption, figure)


def _cap_at(run: Digest, at_s: float) -> float | None:
    at, values = run.lines.cap.points()
    before = np.flatnonzero(at <= at_s)
    value = float(values[before[-1]]) if len(before) else float("nan")
    return value if isfinite(value) else None


def _best(
    seen: Expected, pair: tuple[int, int], values: Numbers, allowed: NDArray[np.bool_], *, by_rate: bool
) -> Numbers:
    """The best allowed value over the other knobs, shape (levels, levels); NaN where there is none."""
    grid = np.full((seen.shape[pair[0]], seen.shape[pair[1]]), -np.inf if by_rate else np.inf)
    at = (seen.places[allowed, pair[0]], seen.places[allowed, pair[1]])
    (np.maximum if by_rate else np.minimum).at(grid, at, values[allowed])
    return np.where(np.isfinite(grid), grid, np.nan)


def _ticks(panel: Axes, started: RunStarted, seen: Expected, pair: tuple[int, int]) -> None:
    for axis, which in zip(pair, ("x", "y"), strict=True):
        knob = seen.knobs[axis]
        unit, levels = knob_unit(knob), started.knobs[knob]
        count = len(levels)
        shown = list(range(count)) if count <= 6 else sorted({round(at) for at in np.linspace(0, count - 1, 5)})
        texts = [plain(level, 8) if isinstance(level, str) else f"{level / unit.size:.4g}" for level in levels]
        getattr(panel, f"set_{which}ticks")(shown, [texts[at] for at in shown])
        name = plain(knob.rpartition("_")[0] if unit.name else knob, 16)
        getattr(panel, f"set_{which}label")(f"{name} in {unit.name}" if unit.name else name)
    panel.tick_params(axis="x", labelrotation=45)


def _numbers(told: Told) -> dict[Configuration, int]:
    return {configuration: number for number, configuration in enumerate(tried_states(told), start=1)}


def _marks(
    panel: Axes, started: RunStarted, told: Told, pair: tuple[int, int], numbers: Mapping[Configuration, int]
) -> None:
    cells: dict[tuple[int, int], list[int]] = {}
    for configuration, number in numbers.items():
        place = place_of(started.knobs, configuration)
        if place is not None:
            cells.setdefault((place[pair[0]], place[pair[1]]), []).append(number)
    chosen = chosen_state(told)
    star = place_of(started.knobs, chosen) if chosen else None
    top = place_of(started.knobs, max_configuration(started.knobs, started.found))
    if top is not None:
        panel.scatter(top[pair[0]], top[pair[1]], marker="^", s=34, color="white", edgecolors=BLACK, linewidths=0.8)
    at = None if star is None else (star[pair[0]], star[pair[1]])
    for (x, y), which in cells.items():
        if (x, y) != at:
            panel.scatter(x, y, marker="o", s=70, color="white", edgecolors=BLACK, linewidths=0.7, zorder=3)
        if min(which) <= MOST_NUMBERED:
            text = f"{which[0]}" if len(which) == 1 or (x, y) == at else f"{which[0]}+"
            panel.text(x, y, text, ha="center", va="center_baseline", fontsize=5.5, zorder=5)
    if at is not None:
        panel.scatter(*at, marker="*", s=230, color="white", edgecolors=BLACK, linewidths=0.8, zorder=4)


def _line(panel: Axes, started: RunStarted, seen: Expected, axis: int, values: Numbers, told: Told, what: str) -> None:
    """The only knob that can be turned: a line instead of a surface."""
    knob = seen.knobs[axis]
    unit, levels = knob_unit(knob), started.knobs[knob]
    words = [isinstance(level, str) for level in levels]
    xs = [float(at) if words[at] else float(level) / unit.size for at, level in enumerate(levels)]
    order = np.argsort(seen.places[:, axis])
    panel.plot([xs[at] for at in seen.places[order, axis]], values[order], color=BLUE, label="expected")
    chosen = chosen_state(told)
    for configuration, state in tried_states(told).items():
        place = place_of(started.knobs, configuration)
        value = state.rate_hz if what == "steps/s" else state.energy_j
        if place is not None and isfinite(value):
            star = configuration == chosen
            panel.scatter(
                xs[place[axis]], value, marker="*" if star else "o", s=110 if star else 28, zorder=3,
                color=ORANGE if star else "white", edgecolors=BLACK, linewidths=0.7,
            )  # fmt: skip
    if any(words):
        panel.set_xticks(xs, [plain(str(level), 10) for level in levels])
    name = plain(knob.rpartition("_")[0] if unit.name else knob, 16)
    panel.set_xlabel(f"{name} in {unit.name}" if unit.name else name)
    panel.set_ylabel(what)
