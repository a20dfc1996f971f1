"""The figures of many runs as tables for people, and a bar while they run."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from ceml.bench.report import Report
    from ceml.bench.summary import GridLine, RivalLine, Row

MOST_COLUMNS = 12  # of grids beside the rivals; more do not fit on a screen, the JSON has them all
MEDIANS = "medians over seeds; shares in %, whole run and chosen state above the best state"
_TITLES = {True: "Grids", False: "Grids without smoothed columns, played as measured, never pooled"}
_BESIDE = (
    "Others on the same work: energy of the whole run above the best state's (median / 95th percentile), and by how\n"
    "many points we lead (median over grids, and the least); a column [n] is grid n above"
)
_BAR = 30
_UNITS = {"%": (100.0, 2, " %"), "s": (1e3, 1, " ms"), "B": (1e-6, 1, " MB"), "states": (1.0, 1, "")}


class Progress:
    """How many runs are done, on standard error: a bar on a terminal, else a line for every tenth part."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._begun_s = perf_counter()
        self._said = 0
        self._open = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._stream.write("\n")

    def __call__(self, done: int, total: int) -> None:
        """So many are done, of so many."""
        took_s = perf_counter() - self._begun_s
        left_s = took_s / done * (total - done)
        if self._live:
            full = _BAR * done // total
            bar = "#" * full + "." * (_BAR - full)
            self._stream.write(f"\r[{bar}] {done}/{total} runs, {_clock(took_s)} gone, about {_clock(left_s)} to go ")
            self._open = True
        elif (tenth := 10 * done // total) > self._said:
            self._said = tenth
            self._stream.write(f"ceml: {done} of {total} runs done in {_clock(took_s)}\n")
        self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def everything(report: Report) -> str:
    """The whole report."""
    asked = report.settings
    seeds = asked["seeds"]
    count = len({(line.table, line.grid) for line in report.grids})
    parts = [
        f"{count} grid{'s' if count != 1 else ''}, seeds {seeds[0]}..{seeds[-1]}, {asked['steps']} steps, "
        f"model {asked['model']}, sampler {asked['sampler'] or 'as suits the model'}, noise of time "
        f"{asked['noise_time']:.1%}, of power {asked['noise_power']:.1%}"
    ]
    if report.rows:
        parts.append(promises(report.rows))
    for smoothed, title in _TITLES.items():
        lines = [line for line in report.grids if line.pooled is smoothed]
        if lines:
            parts.append(f"{title} ({MEDIANS}):\n\n{grids(lines)}")
        beside = report.rivals if smoothed else report.rivals_apart
        if beside:
            parts.append(f"{_BESIDE}:\n\n{rivals(beside)}")
    parts += report.left_out
    return "\n\n".join(parts)


def promises(rows: Sequence[Row]) -> str:
    """The rows with what must hold and what is aimed at beside them."""
    lines = [("", "of", "measured", "must", "aim", "")]
    for row in rows:
        measured = _joined(row.unit, row.values, row.values)
        must, aim = (_joined(row.unit, bound, row.values) if bound else "" for bound in (row.must, row.aim))
        verdict = row.verdict or ("not all measured" if row.must else "")
        if row.failed:
            verdict += f", {row.failed} runs failed"
        lines.append((row.name, " / ".join(row.values), measured, must, aim, verdict))
    return _table(lines, left=(0, 1, 5))


def grids(lines: Sequence[GridLine]) -> str:
    """Medians grid by grid; the numbers in front are those of the table of rivals."""
    head = ("", "grid", "for", "states", "runs", "failed", "possible", "whole run", "chosen", "captured", "tried")
    cells: list[tuple[str, ...]] = [(*head, "rate err.", "power err.")]
    numbers = {name: str(at) for at, name in enumerate(dict.fromkeys((line.table, line.grid) for line in lines), 1)}
    for line in lines:
        ratios = [line.possible_saving, line.run_excess, line.regret, line.captured]
        tried = "-" if line.states_tried is None else f"{line.states_tried:g}"
        cells.append(
            (
                numbers[line.table, line.grid],
                f"{line.table.removesuffix('.csv')} {line.grid}",
                line.objective,
                str(line.states),
                str(line.runs),
                str(line.failed),
                *map(_percent, ratios),
                tried,
                *map(_percent, (line.rate_error, line.power_error)),
            )
        )
    return _table(cells, left=(1, 2))


def rivals(lines: Sequence[RivalLine]) -> str:
    """Each strategy by the energy of its whole run above the best state's, grid by grid where there is room."""
    count = len(lines[0].medians)
    columns = [f"[{at}]" for at in range(1, count + 1)] if count <= MOST_COLUMNS else []
    head = ("strategy", "whole run", "chosen", "tried", "we are ahead", "by (least)", *columns)
    cells: list[tuple[str, ...]] = [head]
    for line in lines:
        ahead = "" if line.of is None else f"on {line.ahead_on} of {line.of}"
        lead = "" if not line.of else f"{_percent(line.lead['median'])} ({_percent(line.lead['least'])})"
        tried = "-" if line.states_tried is None else f"{line.states_tried:g}"
        pair = _joined("%", line.run_excess, line.run_excess)
        shown = map(_percent, line.medians.values()) if columns else ()
        name = f"{line.name} (reference)" if line.offline else line.name
        cells.append((name, pair, _percent(line.regret), tried, ahead, lead, *shown))
    return _table(cells, left=(0,))


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio * 100:.2f}"


def _joined(unit: str, values: Mapping[str, float | None], names: Mapping[str, object]) -> str:
    """The numbers, each in its unit; a sign that all share stands once, at the end."""
    numbers = [values.get(name) for name in names]
    if all(number is None for number in numbers):
        return "-"
    units = unit.split(" / ")
    shared = len(units) == 1
    known = [_UNITS.get(one, _UNITS["states"]) for one in (units * len(numbers) if shared else units)]
    texts = [
        "-" if n is None else f"{n * factor:.{digits}f}".removesuffix(".0") + ("" if shared else sign)
        for n, (factor, digits, sign) in zip(numbers, known, strict=True)
    ]
    return " / ".join(texts) + (known[0][2] if shared else "")


def _table(cells: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if at in left else c.rjust(w) for at, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
