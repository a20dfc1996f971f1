"""The rows of a measured table: text lines in, checked values out. Whatever is wrong is said with line and column."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ceml.domain.knobs import Level, level_text
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_TEXT = ("device", "workload")
_VALUE = re.compile(r"step_s|epoch_s|\w+_smooth_\w+|power_w|power_\w+_w|util_\w+")
_KNOB_W = re.compile(r"\w*limit_w")  # power_limit_w is a knob, though it looks like a rail
_NUMERIC = re.compile(r"\w+_(hz|w|cores|threads|count)")  # by its unit this column must hold numbers
_NOT_SI = re.compile(r"(?P<what>\w+)_(?P<prefix>[kmgun])?(?P<unit>hz|w|s)", re.IGNORECASE)
_LEAST_HZ = 1e6  # no clock that anybody turns is slower; a smaller number is in MHz or GHz
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """One measured state.

    Attributes:
        line: Its line in the file, from 1.
        device: The board; empty where the table has no such column.
        workload: The program.
        batch: Batch size; None where the table has no such column.
        knobs: Level per knob column.
        values: What was measured, per column.
    """

    line: int
    device: str
    workload: str
    batch: float | None
    knobs: Mapping[str, Level]
    values: Mapping[str, float]


def parse_rows(lines: Iterable[str], name: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Row, ...]]:
    """Read a table: its knob columns, its columns of measured values, its rows.

    Args:
        lines: The text, header first.
        name: What messages call the table.

    Raises:
        SettingsError: Not such a table; the text names line and column.
    """
    reader = csv.reader(lines, strict=True)
    try:
        cells = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise SettingsError(f"{name}, line {reader.line_num}: no comma-separated values: {error}") from None
    if len(cells) < 2:
        raise SettingsError(f"{name} has no rows: a table needs a header and one line per measured state")
    header = [title.strip() for title in cells[0][1]]
    knobs = _check_header(header, name)
    for line, row in cells[1:]:
        if len(row) != len(header):
            raise SettingsError(f"{name}, line {line}: {len(row)} cells under {len(header)} columns")
    texts = _text_knobs(header, cells[1:], knobs, name)
    rows = tuple(_row(name, line, header, row, texts) for line, row in cells[1:])
    _no_duplicates(name, rows)
    return knobs, tuple(title for title in header if _is_value(title)), rows


def _is_value(title: str) -> bool:
    return bool(_VALUE.fullmatch(title)) and not _KNOB_W.fullmatch(title)


def _check_header(header: list[str], name: str) -> tuple[str, ...]:
    twice = sorted({title for title in header if header.count(title) > 1})
    if twice:
        raise SettingsError(f"{name}, line 1: column {', '.join(repr(t) for t in twice)} is there twice")
    if "" in header:
        raise SettingsError(f"{name}, line 1: a column has no name")
    if "workload" not in header:
        raise SettingsError(f"{name}, line 1: no column 'workload'; is this a table of measured states?")
    if "step_s" not in header and "epoch_s" not in header:
        raise SettingsError(f"{name}, line 1: no column 'step_s' (or 'epoch_s'): the time per step is needed")
    for title in header:
        _check_unit(title, name)
    values = [at for at, title in enumerate(header) if _is_value(title)]
    knobs = tuple(title for title in header if title not in (*_TEXT, "batch") and not _is_value(title))
    stray = [title for title in knobs if header.index(title) > values[0] and not _NUMERIC.fullmatch(title)]
    if stray:
        raise SettingsError(
            f"{name}, line 1: column {', '.join(map(repr, stray))} behind the measurements is neither one nor a knob; "
            "remove it, or name a knob by its unit (_hz, _w, _cores)"
        )
    if not knobs:
        raise SettingsError(f"{name}, line 1: no knob column (e.g. cpu_hz, gpu_hz, mem_hz, power_limit_w, cpu_cores)")
    return knobs


def _check_unit(title: str, name: str) -> None:
    found = _NOT_SI.fullmatch(title)
    if found is None or _is_value(title) or (not found["prefix"] and found["unit"] in ("hz", "w")):
        return
    unit = {"hz": "Hz", "w": "W", "s": "s"}[found["unit"].lower()]
    right = f"{found['what']}_{found['unit'].lower()}"
    told = "tables know no time but step_s and epoch_s" if unit == "s" and not found["prefix"] else f"write {right}"
    raise SettingsError(
        f"{name}, line 1: column {title!r} is in a unit that tables do not use: {told}, in {unit} "
        "(knobs end in _hz, _w, or are counts: _cores, _threads, _count)"
    )


def _text_knobs(
    header: list[str], cells: Sequence[tuple[int, list[str]]], knob_names: tuple[str, ...], name: str
) -> frozenset[str]:
    """Knob columns that hold names instead of numbers: all of one kind, or it is a mistake."""
    texts: set[str] = set()
    for knob in knob_names:
        column = header.index(knob)
        numbers = [bool(_NUMBER.fullmatch(row[column])) for _, row in cells]
        if _NUMERIC.fullmatch(knob) or all(numbers):
            continue
        if any(numbers):
            line = next(at for (at, _), number in zip(cells, numbers, strict=True) if number is not numbers[0])
            raise SettingsError(f"{name}, line {line}, column {knob!r}: numbers and names mixed; use one kind")
        texts.add(knob)
    return frozenset(texts)


def _row(name: str, line: int, header: list[str], cells: list[str], texts: frozenset[str]) -> Row:
    row = dict(zip(header, cells, strict=True))
    knobs: dict[str, Level] = {}
    values: dict[str, float] = {}
    batch: float | None = None
    for title, cell in row.items():
        where = f"{name}, line {line}, column {title!r}"
        if title in _TEXT or title in texts:
            if not cell.strip():
                raise SettingsError(f"{where}: the cell is empty")
            if title in texts:
                knobs[title] = cell.strip()
        elif title == "batch":
            batch = _number(where, cell)
        elif _is_value(title):
            values[title] = _number(where, cell, zero_is_fine=title.startswith("util_"))
        else:
            level = knobs[title] = _number(where, cell)
            if title.endswith("_hz") and level < _LEAST_HZ:
                raise SettingsError(f"{where}: {cell.strip()[:40]} Hz is no clock: write it in Hz, 800 MHz as 800e6")
    return Row(line, row.get("device", "").strip(), row["workload"].strip(), batch, knobs, values)


def _number(where: str, cell: str, *, zero_is_fine: bool = False) -> float:
    if not cell.strip():
        raise SettingsError(f"{where}: the cell is empty; leave a state that was not measured out of the table")
    number = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    if not math.isfinite(number):
        raise SettingsError(f"{where}: {cell[:40]!r} is not a number")
    if number < 0.0 or (number == 0.0 and not zero_is_fine):
        raise SettingsError(f"{where}: {cell[:40]!r} must be above zero")
    return number


def _no_duplicates(name: str, rows: tuple[Row, ...]) -> None:
    seen: dict[tuple[object, ...], int] = {}
    for row in rows:
        key = (row.device, row.workload, row.batch, *row.knobs.values())
        first = seen.setdefault(key, row.line)
        if first != row.line:
            state = " ".join(f"{knob}={level_text(knob, level)}" for knob, level in row.knobs.items())
            columns = ", ".join(repr(knob) for knob in row.knobs)
            raise SettingsError(f"{name}, line {row.line}, columns {columns}: {state} was already in line {first}")
