"""What it cost and what it saved: the energy ledger of a run with its uncertainty, and several runs side by side."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (matplotlib leaves the types of its keyword arguments open)

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ceml.domain.values import NAN
from ceml.telemetry.chapter import SURELY, Estimated, saving_between
from ceml.telemetry.report.style import (
    BLACK,
    JOULES,
    Picture,
    above,
    headed,
    plain,
    sheet,
    time_unit,
    unit_of,
)
from ceml.telemetry.report.timeline import said_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from ceml.telemetry.report.digest import Digest, Told

Reading = Callable[["Told"], float]
_LOOKS = (("white", "////"), ("#9e9e9e", ""), ("white", "...."))
MOST_RECORDS = 12  # side by side


class Balance(NamedTuple):
    """The energy of one application's time, J.

    Attributes:
        profiling_j: While states were tried before the first decision and after changes of the program.
        running_j: While the decided configuration was in force.
        other_j: While control was paused.
        steps: Steps that the energy belongs to.
        baseline_j: What those steps would have cost in the baseline; NaN where unknown.
        baseline: What the baseline is, in words.
        saved_j: Baseline less what was spent.
        sd_j: Standard deviation of the saved energy, as far as known: of the baseline; NaN where nobody states one.
        by_windows: Whether only windows of measurement were recorded, so that the time between them is left out.
        total_j: What was spent.
    """

    profiling_j: float
    running_j: float
    other_j: float
    steps: float
    baseline_j: float
    baseline: str
    saved_j: float
    sd_j: float
    by_windows: bool

    @property
    def total_j(self) -> float:
        """What was spent."""
        return self.profiling_j + self.running_j + self.other_j

    @property
    def saving(self) -> float:
        """Share of the baseline that was saved; NaN where unknown."""
        return self.saved_j / self.baseline_j if self.baseline_j > 0 else NAN

    @property
    def between(self) -> tuple[float, float] | None:
        """Where `saving` lies with 95 %; None where nobody states an uncertainty."""
        sd = self.sd_j / self.baseline_j if self.baseline_j > 0 else NAN
        return saving_between(self.saving, sd) if isfinite(sd) else None

    def in_words(self) -> str:
        """`saved 15.6 % (95 %: 13.4 % to 17.7 %) against max frequencies`."""
        if not isfinite(self.saving):
            return "what was saved is not known"
        between = self.between
        sure = f" (95 %: {between[0]:.1%} to {between[1]:.1%})" if between else ", uncertainty not stated"
        return f"saved {self.saving:.1%}{sure} against {self.baseline}"


def balance(told: Told) -> Balance | None:
    """The ledger of one application's time; None where no power was measured."""
    chapter, base = told.chapter, told.chapter.baseline
    by_windows = not told.joules
    if by_windows:
        profiling_j, running_j, other_j = told.window_joules_profiling, told.window_joules_running, 0.0
        steps, spent_j = told.window_steps, profiling_j + running_j
        priced_j = steps * base.energy_j if base is not None else NAN
    else:
        steps, spent_j = chapter.steps, chapter.energy_j
        profiling_j = min(told.joules.get("profiling", 0.0), spent_j)
        other_j = min(told.joules.get("paused", 0.0), spent_j - profiling_j)
        running_j = spent_j - profiling_j - other_j
        share = chapter.saving_so_far  # of the whole chapter, changes of the program included
        priced_j = spent_j / (1.0 - share) if isfinite(share) and share < 1.0 else NAN
    if not spent_j > 0.0:
        return None
    return Balance(
        profiling_j, running_j, other_j, steps, priced_j, chapter.baseline_name if base is not None else "",
        priced_j - spent_j, priced_j * _baseline_sd(told), by_windows,
    )  # fmt: skip


def _baseline_sd(told: Told) -> float:
    """Relative standard deviation of the baseline's joules per step: by its windows, or as the model states it."""
    base = told.chapter.baseline
    if base is None:
        return NAN
    if not isinstance(base, Estimated):
        count, total = told.spread.get(base.configuration, (0, NAN))
        return sqrt(total) / count if count and isfinite(total) else NAN
    return base.energy_sd


def ledger(run: Digest, told: Told) -> Picture | None:
    """Energy spent, by what for, beside the same steps in the baseline; None where no power was measured."""
    sums = balance(told)
    if sums is None:
        return None
    unit = unit_of(max(sums.total_j, sums.baseline_j if isfinite(sums.baseline_j) else 0.0), JOULES)
    figure = sheet(1.9)
    axes = figure.add_subplot()
    left = 0.0
    names = ("profiling", "running as decided", "paused")
    for name, joules, (colour, hatch) in zip(
        names, (sums.profiling_j, sums.running_j, sums.other_j), _LOOKS, strict=True
    ):
        if joules > 0.0:
            label = f"{name}: {joules / unit.size:.4g} {unit.name}"
            axes.barh(
                1, joules / unit.size, left=left / unit.size, height=0.6, color=colour, hatch=hatch, edgecolor=BLACK,
                linewidth=0.6, label=label,
            )  # fmt: skip
            left += joules
    rows = ["spent"]
    if isfinite(sums.baseline_j):
        rows = [f"the same {sums.steps:.0f} steps:\n{sums.baseline.replace(', as', ',' + chr(10) + 'as')}", "spent"]
        sd = sums.sd_j / unit.size * SURELY if isfinite(sums.sd_j) else None
        axes.barh(
            0, sums.baseline_j / unit.size, height=0.6, color="white", edgecolor=BLACK, linewidth=0.6, xerr=sd,
            capsize=3, error_kw={"linewidth": 0.9},
        )  # fmt: skip
        if sums.saved_j > 0:
            axes.annotate(
                "", (sums.baseline_j / unit.size, 1.0), (sums.total_j / unit.size, 1.0),
                arrowprops={"arrowstyle": "<->", "linewidth": 0.8},
            )  # fmt: skip
            axes.plot([sums.baseline_j / unit.size] * 2, [0.3, 1.25], color=BLACK, linewidth=0.5, linestyle=":")
    else:
        axes.set_ylim(0.3, 1.7)
    axes.set_yticks([1] if len(rows) == 1 else [0, 1], rows)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(left=0.0)
    axes.set_xlabel(f"energy of the whole board in {unit.name}")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.8)
    headed(figure, f"Energy, {plain(told.chapter.app, 30)}: {sums.in_words()}{said_of(run)}")
    caption = f"{sums.in_words()[0].upper()}{sums.in_words()[1:]}. "
    if sums.between:
        caption += "The interval is that of the baseline alone: the power sensor's own error shifts both bars alike. "
    if sums.by_windows:
        caption += "Samples were not recorded, so the energy is that inside windows of measurement. "
    if told.chapter.others:
        caption += f"Another program, {plain(told.chapter.others_in_words)}, ran meanwhile. "
    return Picture("ledger", "Where the energy went", caption, figure)


# Several records ------------------------------------------------------------------------------------------------------


def letter(place: int) -> str:
    """What a record is called in pictures: A, B, ... Z, 27."""
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def comparison(runs: Sequence[Digest]) -> Picture | None:
    """Energy, rate and power of several records side by side; None for one, or where nothing can be compared."""
    if len(runs) < 2:
        return None
    left_out = len(runs) - MOST_RECORDS
    bars = [(letter(at), run, told) for at, run in enumerate(runs[:MOST_RECORDS]) for told in run.told[:1]]
    if not bars:
        return None
    traces = [
        (letter(at), run) for at, run in enumerate(runs[:MOST_RECORDS]) if run.lines.window_power or run.lines.power
    ]
    figure = sheet(2.3 + (0.62 * len(traces) + 0.4 if traces else 0.0))
    parts: list[Any] = [figure]
    if traces:
        parts = list(cast("Any", figure.subfigures(2, 1, height_ratios=[2.2, 0.62 * len(traces) + 0.5])))
    upper: list[Axes] = list(parts[0].subplots(1, 3))
    _pairs(upper[0], bars, "energy in J/step", lambda told: told.chapter.before_j, lambda told: told.chapter.after_j)
    _pairs(
        upper[1], bars, "rate in steps/s",
        lambda told: told.chapter.baseline.rate_hz if told.chapter.baseline else NAN,
        lambda told: told.chapter.settled.rate_hz if told.chapter.settled else NAN,
    )  # fmt: skip
    _savings(upper[2], bars)
    above(upper[0], 2)
    if traces:
        _powers(parts[1].subplots(len(traces), 1, sharex=True, sharey=True, squeeze=False)[:, 0].tolist(), traces)
    labels = sorted({label for run in runs for label in (run.started.labels if run.started else ())})
    headed(figure, "Side by side" + (f"  ({plain(', '.join(labels), 70)})" if labels else ""))
    caption = "; ".join(f"{letter(at)}: {plain(run.name, 60)}" for at, run in enumerate(runs[:MOST_RECORDS])) + ". "
    caption += "Of each record the first program; before: its baseline, after: since the latest decision. "
    caption += "Whiskers: 95 % of the baseline's uncertainty, where it is stated. "
    caption += f"{left_out} more records are in the table only." if left_out > 0 else ""
    return Picture("comparison", "Records side by side", caption, figure)


def _pairs(axes: Axes, bars: Sequence[tuple[str, Digest, Told]], label: str, before: Reading, after: Reading) -> None:
    places = np.arange(len(bars))
    for shift, value, (colour, hatch), name in (
        (-0.2, before, ("white", "////"), "before"),
        (0.2, after, ("#9e9e9e", ""), "after"),
    ):
        numbers = [value(told) for _, _, told in bars]
        known = [number if isfinite(number) else 0.0 for number in numbers]
        axes.bar(places + shift, known, 0.38, color=colour, hatch=hatch, edgecolor=BLACK, linewidth=0.6, label=name)
        for place, number in zip(places, numbers, strict=True):
            if not isfinite(number):
                axes.text(place + shift, 0.0, "?", ha="center", va="bottom")
    axes.set_xticks(places, [name for name, _, _ in bars])
    axes.set_ylabel(label)


def _savings(axes: Axes, bars: Sequence[tuple[str, Digest, Told]]) -> None:
    axes.axhline(0.0, color=BLACK, linewidth=0.6)
    for place, (_, _, told) in enumerate(bars):
        sums = balance(told)
        if sums is None or not isfinite(sums.saving):
            axes.text(place, 0.0, "?", ha="center", va="bottom")
            continue
        ends = sums.between
        wide = None if ends is None else [[100 * (sums.saving - ends[0])], [100 * (ends[1] - sums.saving)]]
        axes.bar(
            place, 100 * sums.saving, 0.5, color="#9e9e9e", edgecolor=BLACK, linewidth=0.6, yerr=wide, capsize=3,
            error_kw={"linewidth": 0.9},
        )  # fmt: skip
    axes.set_xticks(range(len(bars)), [name for name, _, _ in bars])
    axes.set_ylabel("saved so far in %")


def _powers(rows: Sequence[Axes], traces: Sequence[tuple[str, Digest]]) -> None:
    span_s = max(run.end_s - run.begun_s for _, run in traces)
    unit = time_unit(span_s)
    most = 0.0
    for axes, (name, run) in zip(rows, traces, strict=True):
        trace = run.lines.window_power if run.lines.window_power else run.lines.power
        at, values = trace.points()
        axes.plot((at - run.begun_s) / unit.size, values, color=BLACK, linewidth=0.7)
        most = max(most, float(np.nanmax(values)))
        axes.set_ylabel(name, rotation=0, labelpad=10, va="center")
    rows[0].set_xlim(0.0, span_s / unit.size)
    rows[0].set_ylim(0.0, most * 1.08 if most > 0 else 1.0)
    rows[0].set_title("power in W")
    rows[-1].set_xlabel(f"time since each record began in {unit.name}")
