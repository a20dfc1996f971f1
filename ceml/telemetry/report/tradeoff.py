"""State by state: predictions against measurements, and energy against time with the Pareto front and the choice."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (matplotlib leaves the types of its keyword arguments open)

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from ceml.telemetry.report.space import chosen_state, expected, tried_states
from ceml.telemetry.report.style import (
    BLACK,
    GREY,
    ORANGE,
    VERMILLION,
    Picture,
    headed,
    plain,
    sheet,
)
from ceml.telemetry.report.timeline import said_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ceml.telemetry.report.digest import Digest, Told

    Numbers = NDArray[np.float64]


def agreement(run: Digest, told: Told) -> Picture | None:
    """Rate and power as expected against as measured; None where nothing can be compared."""
    seen, states = expected(run.started, told.predicted), tried_states(told)
    fitted: list[tuple[float, float, float, float]] = []  # measured and expected rate, power
    if seen is not None and run.started is not None:
        for configuration, state in states.items():
            at = seen.at(run.started.knobs, configuration)
            if at is not None:
                fitted.append((state.rate_hz, float(seen.rate_hz[at]), state.power_w, float(seen.power_w[at])))
    ahead = [
        (state.rate_hz, sums.predicted_rate_hz / sums.windows, state.power_w, sums.predicted_power_w / sums.windows)
        for configuration, sums in told.agreements.items()
        if (state := states.get(configuration)) is not None
    ]
    pairs = [(np.array(fitted).reshape(-1, 4), "o", "white", "states tried, after the fit")]
    pairs.append((np.array(ahead).reshape(-1, 4), "s", GREY, "later windows, predicted before"))
    shown = [what for what in (0, 2) if any(np.isfinite(p[:, what] * p[:, what + 1]).any() for p, *_ in pairs)]
    if not shown:
        return None
    figure = sheet(3.2, 3.5 * len(shown) + 0.2)
    said: list[str] = []
    for panel, what in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True):
        name, unit = ("rate", "steps/s") if what == 0 else ("power", "W")
        most = 0.0
        for points, marker, colour, label in pairs:
            x, y = points[:, what], points[:, what + 1]
            known = np.isfinite(x) & np.isfinite(y) & (x > 0)
            if not known.any():
                continue
            error = float(np.mean(np.abs(y[known] / x[known] - 1.0)))
            said.append(f"{name}, {label}: {error:.1%} off on average")
            most = max(most, float(np.max(x[known])), float(np.max(y[known])))
            panel.scatter(
                x[known], y[known], marker=marker, s=26, color=colour, edgecolors=BLACK, linewidths=0.7, label=label,
                zorder=3,
            )  # fmt: skip
        most *= 1.08
        panel.plot([0, most], [0, most], color=BLACK, linewidth=0.7)
        for share in (0.9, 1.1):
            panel.plot([0, most], [0, most * share], color=GREY, linewidth=0.6, linestyle=":")
        panel.set_xlim(0, most)
        panel.set_ylim(0, most)
        panel.set_aspect("equal")
        panel.set_xlabel(f"measured {name} in {unit}")
        panel.set_ylabel(f"expected {name} in {unit}")
        panel.legend(loc="upper left")
    headed(figure, f"Predicted against measured, {plain(told.chapter.app, 30)}{said_of(run)}")
    caption = "On the line the model is right; dotted: 10 % off. " + "; ".join(said) + "."
    return Picture("agreement", "Predicted against measured", caption, figure)


def pareto(run: Digest, told: Told) -> Picture | None:
    """Joules against seconds per step: all states as expected, the front, what was measured, the choice."""
    seen, states = expected(run.started, told.predicted), tried_states(told)
    figure = sheet(3.6, 5.2)
    axes = figure.add_subplot()
    drawn = False
    if seen is not None:
        with np.errstate(all="ignore"):
            time_s, energy_j = 1.0 / seen.rate_hz, seen.energy_j
        known = np.isfinite(time_s) & np.isfinite(energy_j) & (time_s > 0) & (energy_j > 0)
        if known.any():
            drawn = True
            axes.scatter(time_s[known], energy_j[known], s=5, color="#bdbdbd", linewidths=0, label="expected states")
            front = pareto_front(time_s[known], energy_j[known])
            at, joules = time_s[known][front], energy_j[known][front]
            axes.step(at, joules, where="post", color=BLACK, linewidth=1.0, label="Pareto front, expected")
    chosen = chosen_state(told)
    for configuration, state in states.items():
        if isfinite(state.energy_j) and state.rate_hz > 0 and configuration != chosen:
            drawn = True
            axes.scatter(
                1 / state.rate_hz, state.energy_j, marker="o", s=26, color="white", edgecolors=BLACK, linewidths=0.8,
                zorder=3, label="measured",
            )  # fmt: skip
    settled = states.get(chosen) if chosen is not None else None
    if settled is not None and isfinite(settled.energy_j) and settled.rate_hz > 0:
        drawn = True
        axes.scatter(
            1 / settled.rate_hz, settled.energy_j, marker="*", s=150, color=ORANGE, edgecolors=BLACK, linewidths=0.8,
            zorder=5, label="chosen, measured",
        )  # fmt: skip
    base = told.chapter.baseline
    if base is not None and isfinite(base.energy_j) and base.rate_hz > 0:
        axes.scatter(
            1 / base.rate_hz, base.energy_j, marker="^", s=42, color=VERMILLION, edgecolors=BLACK, linewidths=0.8,
            zorder=4, label=told.chapter.baseline_name.replace(", as the model expects them", ", expected"),
        )  # fmt: skip
    if not drawn:
        return None
    axes.set_xlabel("time in s/step")
    axes.set_ylabel("energy in J/step")
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(
        once.values(), once.keys(), loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2,
        handlelength=1.8,
    )  # fmt: skip
    headed(figure, f"Energy and time, {plain(told.chapter.app, 30)}{said_of(run)}")
    caption = "Left and low is good; no state is expected to be better than the front in both. "
    caption += "The record has no predictions of the space." if seen is None else ""
    return Picture("pareto", "Energy against time, and the choice", caption, figure)


def pareto_front(time_s: Numbers, energy_j: Numbers) -> NDArray[np.intp]:
    """The states that no other is better than in both, in order of time."""
    order = np.lexsort((energy_j, time_s))
    least = np.minimum.accumulate(energy_j[order])
    better = np.concatenate([[True], energy_j[order][1:] < least[:-1]])
    return order[better]
