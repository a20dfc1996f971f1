"""The paper's figures 8, 9 and 10 as pictures, in the style of the reports."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (matplotlib leaves the types of its keyword arguments open)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ceml.bench.paper import PAPER
from ceml.bench.paper_runs import BEST32, CEML_E, CEML_L, MAX, OURS, SIMULATED, STRATEGIES
from ceml.telemetry.report.style import BLACK, BLUE, VERMILLION, Picture, above, headed, plain, sheet, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from ceml.bench.paper import Capped, Line, Paper

_LOOKS = {
    MAX: ("white", ""),
    BEST32: ("white", "////"),
    CEML_L: ("#d0d0d0", "\\\\\\\\"),
    CEML_E: ("#9e9e9e", ""),
    OURS: ("#404040", ""),
}


def pictures(found: Paper) -> list[tuple[str, Picture]]:
    """All of them, with names for files: figure 8, 9 of every board, 10 of the first program of every board."""
    made: list[tuple[str, Picture]] = []
    with styled():
        for at, board in enumerate(found.boards):
            back = "" if at == 0 else f"-{at + 1}"
            lines = [line for line in found.lines if line.board == board]
            made.append((f"figure8{back}", _figure8(found, board, lines)))
            made.append((f"figure9{back}", _figure9(found, board, lines)))
            capped = [run for run in found.capped if run.board == board]
            first = [run for run in capped if run.name == _shown(capped)]
            if first:
                made.append((f"figure10{back}", _figure10(board, first)))
    return made


def _shown(capped: Sequence[Capped]) -> str:
    """The program that is drawn: `lstm` where there is one, else the first."""
    names = [run.name for run in capped]
    return "lstm" if "lstm" in names else names[0] if names else ""


def _of(board: str) -> str:
    return plain(board if board == SIMULATED else f"{board} (replayed measurements)", 80)


def _groups(axes: Axes, names: Sequence[str], bars: Sequence[tuple[str, Sequence[float | None]]], width: float) -> None:
    """Bars of several strategies for every name."""
    places = np.arange(len(names))
    for at, (strategy, ratios) in enumerate(bars):
        colour, hatch = _LOOKS[strategy]
        heights = [0.0 if ratio is None else 100 * ratio for ratio in ratios]
        shift = (at - (len(bars) - 1) / 2) * width
        axes.bar(
            places + shift, heights, width, color=colour, hatch=hatch, edgecolor=BLACK, linewidth=0.5, label=strategy
        )
    axes.set_xticks(places, [plain(name, 18) for name in names], rotation=20 if len(names) > 4 else 0)


def _figure8(found: Paper, board: str, lines: Sequence[Line]) -> Picture:
    figure = sheet(2.6)
    panels = figure.subplots(1, 2, sharey=True)
    names = [*(line.name for line in lines), "mean"]
    pooled = found.pooled(board)
    for panel, what, number in zip(panels, ("rate", "power"), ("rate_error", "power_error"), strict=True):
        bars = [
            (strategy, [*(getattr(line, number)[strategy] for line in lines), pooled[f"{number} {strategy}"]])
            for strategy in (CEML_E, OURS)
        ]
        _groups(panel, names, bars, 0.38)
        panel.axhline(100 * PAPER[number], color=VERMILLION, linestyle="--", linewidth=1.0, label="the paper's mean")
        panel.set_ylabel(f"mean error of {what} in %")
        panel.tick_params(labelleft=True)
    above(panels[1], 3)
    headed(figure, f"Model error over states it was not shown: {_of(board)}")
    return Picture("figure8", "Figure 8: model error", "Of 25 states that were never in force.", figure)


def _figure9(found: Paper, board: str, lines: Sequence[Line]) -> Picture:
    figure = sheet(2.9)
    axes = figure.add_subplot()
    pooled = found.pooled(board)
    names = [*(line.name for line in lines), "geometric mean"]
    bars = [
        (strategy, [*(line.energy[strategy] for line in lines), pooled[f"energy {strategy}"]])
        for strategy in STRATEGIES
    ]
    _groups(axes, names, bars, 0.16)
    best = [*(line.best_energy for line in lines), _rest(pooled["possible saving"])]
    for place, ratio in enumerate(best):
        if ratio is not None:
            label = "true best state" if place == 0 else "_"
            axes.plot([place - 0.42, place + 0.42], [100 * ratio] * 2, color=BLUE, linewidth=1.2, label=label)
    axes.axhline(
        100 * (1 - PAPER["saving"]), color=VERMILLION, linestyle="--", linewidth=1.0, label="the paper's CEML-E, mean"
    )
    axes.set_ylabel("energy of the whole run in % of\nthat at maximum frequencies")
    axes.set_ylim(0.0, max(105.0, axes.get_ylim()[1]))
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.2)
    headed(figure, f"Energy, profiling included: {_of(board)}")
    return Picture("figure9", "Figure 9: energy", "Bars: the whole run; lines: the true best state.", figure)


def _rest(share: float | None) -> float | None:
    return None if share is None else 1.0 - share


def _figure10(board: str, capped: Sequence[Capped]) -> Picture:
    figure = sheet(3.6)
    rows = figure.subplots(2, len(capped), sharex=True, sharey="row", squeeze=False)
    for column, run in enumerate(capped):
        power, rate = rows[0][column], rows[1][column]
        from_s = np.array([piece[:2] for piece in run.trace]).ravel()
        power.plot(
            from_s, np.repeat([piece[2] for piece in run.trace], 2), color=BLACK, linewidth=0.9, label="true power"
        )
        rate.plot(
            from_s, np.repeat([piece[3] for piece in run.trace], 2), color=BLACK, linewidth=0.9, label="true rate"
        )
        for at, stretch in enumerate(run.stretches):
            ends, first = [stretch.from_s, stretch.to_s], at == 0
            if stretch.cap_w is not None:
                budget = "budget" if first else "_"  # matplotlib leaves such names out of legends
                power.plot(ends, [stretch.cap_w] * 2, color=VERMILLION, linestyle="--", linewidth=1.1, label=budget)
            best = "best in budget" if first else "_"
            rate.plot(ends, [stretch.best_rate_hz] * 2, color=BLUE, linestyle=":", linewidth=1.4, label=best)
        power.set_title(run.strategy)
        rate.set_xlabel("time in s")
        power.set_ylim(bottom=0.0)
        rate.set_ylim(bottom=0.0)
    rows[0][0].set_ylabel("power in W")
    rows[1][0].set_ylabel("rate in steps/s")
    above(rows[0][-1], 2)
    above(rows[1][-1], 2)
    headed(figure, f"A budget that falls and rises, {plain(capped[0].name, 30)}: {_of(board)}")
    return Picture("figure10", "Figure 10: a budget that changes", "Noise-free truth of the run.", figure)
