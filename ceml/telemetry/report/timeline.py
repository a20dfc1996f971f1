"""Over time: power against its cap, rate, configuration, utilisation, phases of control and what was decided why."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (matplotlib leaves the types of its keyword arguments open)

from __future__ import annotations

import textwrap
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ceml.telemetry.report.style import (
    BLACK,
    BLUE,
    GREY,
    PALE,
    VERMILLION,
    Picture,
    above,
    from_zero,
    headed,
    knob_label,
    knob_unit,
    plain,
    sheet,
    time_unit,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from ceml.telemetry.report.digest import Digest, Lines, Remark
    from ceml.telemetry.report.style import Unit
    from ceml.telemetry.report.trace import Numbers

MOST_KNOBS = 6
MOST_DEVICES = 4
MOST_REASONS = 8  # written under the picture; a page has them all
SHOWN = {"decision": "v", "guard": "X", "change": "D", "budget": "s", "objective": "P", "sensor": "o"}
_LOOKS = {
    "profiling": {"facecolor": "white", "hatch": "/////", "label": "profiling"},
    "idle": {"facecolor": "#bdbdbd", "label": "decided, running"},
    "paused": {"facecolor": "white", "hatch": ".....", "label": "paused"},
    "waiting": {"facecolor": "white", "label": "no program"},
}
_WAVES = ("-", "--", ":", "-.")


def numbered(remarks: Sequence[Remark]) -> list[tuple[int, Remark]]:
    """The remarks that are drawn, with the numbers by which picture and page name them."""
    return list(enumerate((remark for remark in remarks if remark.kind in SHOWN), start=1))


def timeline(run: Digest, *, opening: bool = False) -> Picture | None:
    """A whole run, or its opening; None where nothing can be drawn."""
    lines = run.opening if opening else run.lines
    begun_s = run.begun_s
    end_s = min(run.opening_s, run.end_s) if opening else run.end_s
    knobs = [knob for knob, trace in lines.knobs.items() if trace][:MOST_KNOBS]
    watts, steps = bool(lines.power or lines.window_power), bool(lines.rate)
    if not (watts or steps or knobs) or not end_s > begun_s:
        return None
    busy = list(lines.busy)[:MOST_DEVICES]
    told = [(number, remark) for number, remark in numbered(run.remarks) if begun_s <= remark.at_s <= end_s]
    unit = time_unit(end_s - begun_s)
    reasons = _reasons(told, begun_s, unit, run.untold if not opening else 0)
    heights = [0.42] + [1.7] * watts + [1.1] * steps + [0.62] * len(knobs) + [0.8] * bool(busy)
    below = [0.125 * len(reasons) + 0.12] if reasons else []
    figure = sheet(sum(heights) + sum(below) + 0.9)
    grid = figure.add_gridspec(len(heights) + len(below), 1, height_ratios=heights + below)
    rows: list[Axes] = [figure.add_subplot(grid[0])]
    rows += [figure.add_subplot(grid[at], sharex=rows[0]) for at in range(1, len(heights))]
    _strip(rows[0], run, told, begun_s, end_s, unit)
    left = iter(rows[1:])
    if watts:
        _power(next(left), lines, begun_s, end_s, unit)
    if steps:
        axes = next(left)
        at, values = lines.rate.points()
        axes.plot((at - begun_s) / unit.size, values, color=BLUE, linewidth=0.9)
        axes.set_ylabel("rate\nin steps/s")
        from_zero(axes, _most(values))
    for knob in knobs:
        _knob(next(left), run, lines, knob, begun_s, end_s, unit)
    if busy:
        _busy(next(left), lines, busy, begun_s, unit)
    for axes in rows[:-1]:
        axes.tick_params(labelbottom=False)
    rows[-1].set_xlabel(f"time since the record began in {unit.name}")
    rows[-1].set_xlim(0.0, (end_s - begun_s) / unit.size)
    figure.align_ylabels(rows)
    if reasons:
        under = figure.add_subplot(grid[-1])
        under.axis("off")
        under.text(0.0, 1.0, "\n".join(reasons), va="top", ha="left", fontsize=6.5, linespacing=1.3)
    title = "The beginning in detail" if opening else "The run over time"
    headed(figure, f"{title}: {plain(run.name, 60)}{said_of(run)}")
    missing = [] if watts else ["power was not measured"]
    missing += [] if busy or not steps else ["utilisation was not measured"]
    caption = "Power of the whole board (thin: samples, with the least and the greatest of each pixel; bold: means of "
    caption += "windows), its cap (dashed), steps per second, the knobs"
    caption += ", share of time that devices were busy" if busy else ""
    caption += ". Marks on top: v decision, x guard, diamond change of the program, square limits, plus objective, "
    caption += "circle sensor; the numbers are those of the list."
    caption += f" Not shown: {', '.join(missing)}." if missing else ""
    return Picture("opening" if opening else "timeline", title, caption, figure)


def said_of(run: Digest) -> str:
    """What must be said beside every figure, e.g. that the board is simulated."""
    return f"  ({plain(', '.join(run.started.labels), 70)})" if run.started and run.started.labels else ""


def _strip(
    axes: Axes, run: Digest, told: Sequence[tuple[int, Remark]], begun_s: float, end_s: float, unit: Unit
) -> None:
    """Phases of control as a band, what happened as numbered marks above it."""
    span = (end_s - begun_s) / unit.size
    named: set[str] = set()
    for phase in run.spans:
        looks: dict[str, Any] = dict(_LOOKS.get("idle" if phase.phase == "resumed" else phase.phase, _LOOKS["waiting"]))
        label = looks.pop("label")
        from_, to = ((at_s - begun_s) / unit.size for at_s in (phase.from_s, min(phase.to_s, end_s)))
        if to > from_:
            more = {} if label in named else {"label": label}
            axes.broken_barh([(from_, to - from_)], (0.0, 0.8), edgecolor=BLACK, linewidth=0.4, **looks, **more)
            named.add(label)
    for kind, marker in SHOWN.items():
        at = [(remark.at_s - begun_s) / unit.size for _, remark in told if remark.kind == kind]
        axes.scatter(at, [1.35] * len(at), marker=marker, s=12, color=BLACK, linewidths=0.0, clip_on=False, zorder=3)
    for text, at in _labels(told, begun_s, unit, span):
        axes.text(at, 1.75, text, ha="center", va="bottom", fontsize=6.5, clip_on=False)
    axes.set_ylim(0.0, 2.9)
    axes.set_yticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(bottom=False)
    if named:
        above(axes, 4)


def _labels(told: Sequence[tuple[int, Remark]], begun_s: float, unit: Unit, span: float) -> list[tuple[str, float]]:
    """Numbers above marks; those too near to each other become one text: `3-6`."""
    groups: list[list[tuple[int, float]]] = []
    for number, remark in told:
        at = (remark.at_s - begun_s) / unit.size
        if groups and at - groups[-1][-1][1] < 0.035 * span:
            groups[-1].append((number, at))
        else:
            groups.append([(number, at)])
    return [
        (
            f"{group[0][0]}" if len(group) == 1 else f"{group[0][0]}-{group[-1][0]}",
            (group[0][1] + group[-1][1]) / 2,
        )
        for group in groups
    ]


def _reasons(told: Sequence[tuple[int, Remark]], begun_s: float, unit: Unit, untold: int) -> list[str]:
    lines: list[str] = []
    for number, remark in told[:MOST_REASONS]:
        moment = f"{(remark.at_s - begun_s) / unit.size:.4g} {unit.name}"
        text = f"{number:>3}  {moment}  {remark.kind}: {plain(remark.text, 260)}"
        lines += textwrap.wrap(text, 128, subsequent_indent="      ")
    more = len(told) - MOST_REASONS + untold
    return [*lines, f"     and {more} more"] if more > 0 else lines


def _power(axes: Axes, lines: Lines, begun_s: float, end_s: float, unit: Unit) -> None:
    most = 0.0
    if lines.power:
        at, values = lines.power.points()
        axes.plot((at - begun_s) / unit.size, values, color=GREY, linewidth=0.4, label="samples")
        most = _most(values)
    if lines.window_power:
        at, values = lines.window_power.points()
        axes.plot((at - begun_s) / unit.size, values, color=BLUE, linewidth=1.1, label="means of windows")
        most = max(most, _most(values))
    if lines.cap:
        at, values = lines.cap.steps(end_s)
        axes.plot((at - begun_s) / unit.size, values, color=VERMILLION, linestyle="--", linewidth=1.1, label="cap")
        most = max(most, _most(values))
    axes.set_ylabel("power\nin W")
    from_zero(axes, most)
    above(axes, 3)


def _knob(axes: Axes, run: Digest, lines: Lines, knob: str, begun_s: float, end_s: float, unit: Unit) -> None:
    shown = knob_unit(knob)
    at, values = lines.knobs[knob].steps(end_s)
    axes.plot((at - begun_s) / unit.size, values / shown.size, color=BLACK, linewidth=1.0)
    axes.set_ylabel(knob_label(knob))
    levels = run.started.knobs.get(knob, ()) if run.started else ()
    names = [level for level in levels if isinstance(level, str)]
    if names:
        axes.set_yticks(range(len(names)), [plain(name, 12) for name in names])
        axes.set_ylim(-0.5, len(names) - 0.5)
        return
    numbers = [float(level) / shown.size for level in levels if isfinite(float(level))]
    low, high = min([*numbers, _least(values) / shown.size]), max([*numbers, _most(values) / shown.size])
    air = 0.15 * (high - low) or max(0.1 * abs(high), 0.5)
    axes.set_ylim(low - air, high + air)
    axes.yaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
    axes.grid(axis="y", color=PALE, linewidth=0.4)


def _busy(axes: Axes, lines: Lines, devices: Sequence[str], begun_s: float, unit: Unit) -> None:
    for device, wave in zip(devices, _WAVES, strict=False):
        at, values = lines.busy[device].points()
        axes.plot((at - begun_s) / unit.size, 100 * values, linestyle=wave, color=BLACK, label=plain(device, 12))
    axes.set_ylabel("busy\nin %")
    axes.set_ylim(0.0, 105.0)
    axes.set_yticks([0, 50, 100])
    above(axes, MOST_DEVICES)


def _most(values: Numbers) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else 0.0


def _least(values: Numbers) -> float:
    known = values[np.isfinite(values)]
    return float(known.min()) if len(known) else 0.0
