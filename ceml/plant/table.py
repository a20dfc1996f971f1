"""A measured table as a board: text lines in, a plant out. File access is somebody else's.

The format: CSV with a header, SI units, one row per measured state:
`device, workload, [batch,] knobs..., step_s | epoch_s, power_w [, power_<rail>_w ...] [, util_<device> ...]`.
`step_smooth_s` and `power_smooth_w` are the same measurements with their noise taken out; they are what is played
and scored where they exist. States that were not measured are absent and stay absent.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ceml.domain.knobs import Knob, KnobKind, KnobSpace, Level, level_text
from ceml.errors import SettingsError
from ceml.plant.machine import Plant
from ceml.plant.rows import Row, parse_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

SETTLE_S: Mapping[str, float] = {"cpu_hz": 0.001, "gpu_hz": 0.005, "mem_hz": 0.008}  # the Orin Nano's, see board.py
OTHER_SETTLE_S = 0.001
MOST_STATES = 10_000_000  # of the product of levels; a table that spans more is sparse beyond use

Asked = TypeVar("Asked")

_RAIL = re.compile(r"power_(?P<rail>(?!smooth_)\w+)_w")
_RAIL_NAMES = {"ddr": "mem"}
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*(?P<prefix>[kMG]?)(?P<unit>Hz|W|)", re.ASCII
)
_PREFIX = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Table:
    """A parsed table: any number of boards, workloads and batch sizes.

    Attributes:
        name: What messages call it.
        knob_names: The knob columns, in the order of the file.
        columns: The columns with measured values.
        rows: Every measured state.
    """

    name: str
    knob_names: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @staticmethod
    def parse(lines: Iterable[str], name: str) -> Table:
        """Read a table.

        Raises:
            SettingsError: Not such a table; the text names line and column.
        """
        return Table(name, *parse_rows(lines, name))

    @property
    def workloads(self) -> tuple[str, ...]:
        """The programs in the table, in the order of the file."""
        return tuple(dict.fromkeys(row.workload for row in self.rows))

    @property
    def smoothed(self) -> bool:
        """Whether it has the columns without noise, which are played unless the measured ones are asked for."""
        return self._played(False, 1)[0].endswith("_smooth_s")

    def grid(
        self,
        workload: str,
        batch: float | None = None,
        fix: Mapping[str, Level] | None = None,
        limit: Mapping[str, tuple[float, float]] | None = None,
        *,
        measured: bool = False,
        steps: int = 2000,
    ) -> Plant:
        """One workload at one batch size as a plant.

        Args:
            workload: Which program.
            batch: Which batch size; required where the workload has several.
            fix: Knobs held at one level; `device` picks a board where the workload was measured on several.
            limit: Knobs held between two values, both included.
            measured: Play the columns as measured, not the smoothed ones.
            steps: Into how many steps an epoch is cut, where the table has seconds per epoch.

        Raises:
            SettingsError: Names what is there when something asked for is not.
        """
        fix, limit = dict(fix or {}), dict(limit or {})
        rows = self._select(workload, batch, fix.pop("device", None))
        rows = self._narrow(rows, fix, limit)
        seconds, watts, scale = self._played(measured, steps)
        present, space, states = _span(self.knob_names, rows)
        rails = self._rails(watts)

        def over_product(column: str, factor: float = 1.0) -> NDArray[np.float64]:
            values = np.full(present.shape, np.nan)
            values[states] = [row.values[column] * factor for row in rows]
            return values

        return Plant(
            space=space,
            workload=workload,
            machine=rows[0].device or self.name,
            step_s=over_product(seconds, scale),
            power_w=over_product(watts) if watts else np.full(present.shape, np.nan),
            rail_w={rail: over_product(column) for rail, column in rails.items()},
            busy={c.removeprefix("util_"): over_product(c) for c in self.columns if c.startswith("util_")},
        )

    def _select(self, workload: str, batch: float | None, device: Level | None) -> list[Row]:
        rows = [row for row in self.rows if row.workload == workload]
        if not rows:
            raise SettingsError(f"workload={workload!r} is not in {self.name}; it has {', '.join(self.workloads)}")
        devices = tuple(dict.fromkeys(row.device for row in rows))
        if device is not None or len(devices) > 1:
            rows = [row for row in rows if row.device == device]
        if not rows:
            asked = f"device={device!r} did not run it" if device is not None else "say which with --fix device=NAME"
            raise SettingsError(f"{workload} in {self.name} was measured on {', '.join(devices)}: {asked}")
        batches = sorted({row.batch for row in rows if row.batch is not None})
        if batch is None and len(batches) > 1:
            known = ", ".join(f"{known:g}" for known in batches)
            raise SettingsError(f"{workload} in {self.name} has the batch sizes {known}: say which with --batch N")
        rows = [row for row in rows if batch is None or row.batch == batch]
        if not rows:
            known = ", ".join(f"{known:g}" for known in batches) or "none at all: leave --batch away"
            raise SettingsError(f"batch={batch:g} is not in {self.name} for {workload}; batch sizes: {known}")
        return rows

    def _narrow(self, rows: list[Row], fix: Mapping[str, Level], limit: Mapping[str, tuple[float, float]]) -> list[Row]:
        for name in (*fix, *limit):
            if name not in self.knob_names:
                raise SettingsError(f"{name} is no knob of {self.name}; its knobs are {', '.join(self.knob_names)}")
        for name, level in fix.items():
            kept = [row for row in rows if _same(row.knobs[name], level)]
            if not kept:
                shown = level if isinstance(level, str) else f"{level:.10g}"
                raise SettingsError(f"--fix {name}={shown}: no such level; levels are {_levels_text(name, rows)}")
            rows = kept
        for name, (low, high) in limit.items():
            if any(isinstance(row.knobs[name], str) for row in rows):
                raise SettingsError(f"--limit {name}: its levels have no order; use --fix {name}=LEVEL")
            slack = 1e-6  # so that a limit typed in GHz takes in the level that it names
            kept = [row for row in rows if low * (1 - slack) <= float(row.knobs[name]) <= high * (1 + slack)]
            if not kept:
                asked = "..".join(level_text(name, end) if end >= 1e6 else f"{end:g}" for end in (low, high))
                text = f"--limit {name}={asked}: no state left; levels are {_levels_text(name, rows)}"
                raise SettingsError(text)
            rows = kept
        return rows

    def _played(self, measured: bool, steps: int) -> tuple[str, str | None, float]:
        """Which columns are played: of time, of power (None: never measured), and what seconds are multiplied by."""
        unit, scale = ("step", 1.0) if "step_s" in self.columns else ("epoch", 1.0 / steps)
        watts = "power_w" if "power_w" in self.columns else None
        if not measured and f"{unit}_smooth_s" in self.columns and (not watts or "power_smooth_w" in self.columns):
            return f"{unit}_smooth_s", "power_smooth_w" if watts else None, scale
        return f"{unit}_s", watts, scale

    def _rails(self, total: str | None) -> dict[str, str]:
        rails: dict[str, str] = {}
        for column in self.columns:
            if match := _RAIL.fullmatch(column):
                rails[_RAIL_NAMES.get(match["rail"], match["rail"])] = column
        return rails | {"total": total} if total else rails


# Asked for in words -------------------------------------------------------------------------------------------------


def parse_fix(text: str) -> tuple[str, Level]:
    """`knob=value` -> (knob, value); numbers in SI or with a suffix (800MHz, 1.3GHz, 15W), anything else is a name.

    Raises:
        SettingsError: No such form.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise SettingsError(f"--fix {text}: write it as knob=value, e.g. mem_hz=1.866GHz")
    number = _quantity(f"--fix {text}", name, value)
    return name, value if number is None else number


def once(flag: str, pairs: Iterable[tuple[str, Asked]]) -> dict[str, Asked]:
    """What was asked for, knob by knob.

    Raises:
        SettingsError: A knob was named twice.
    """
    asked: dict[str, Asked] = {}
    for name, value in pairs:
        if name in asked:
            raise SettingsError(f"{flag} names {name} twice: {asked[name]} and {value}; give one of them")
        asked[name] = value
    return asked


def parse_limit(text: str) -> tuple[str, tuple[float, float]]:
    """`knob=LOW..HIGH` -> (knob, (low, high)), both included; numbers as in `parse_fix`.

    Raises:
        SettingsError: No such form, or the lower end above the upper.
    """
    name, _, ends = (part.strip() for part in text.partition("="))
    low, _, high = (_quantity(f"--limit {text}", name, end) for end in ends.partition(".."))
    if not name or low is None or high is None:
        raise SettingsError(f"--limit {text}: write it as knob=LOW..HIGH, e.g. cpu_hz=800MHz..2.1GHz")
    if low > high:
        raise SettingsError(f"--limit {text}: the lower end is above the upper; swap them")
    return name, (low, high)


def _quantity(asked: str, name: str, text: str) -> float | None:
    match = _QUANTITY.fullmatch(text)
    if match is None or (match["prefix"] and not match["unit"]):
        return None
    wanted = "Hz" if name.endswith("_hz") else "W" if name.endswith("_w") else "no unit"
    if match["unit"] not in ("", wanted):
        raise SettingsError(f"{asked}: {text} is in {match['unit']}, and {name} takes {wanted}")
    number = float(match["number"]) * _PREFIX[match["prefix"]]
    return number if math.isfinite(number) else None


# From rows to a space -----------------------------------------------------------------------------------------------


def _span(knob_names: tuple[str, ...], rows: list[Row]) -> tuple[NDArray[np.bool_], KnobSpace, list[int]]:
    """The space of the levels that occur, masked to the states that do, and the state of each row."""
    knobs: list[Knob] = []
    for name in knob_names:
        levels = dict.fromkeys(row.knobs[name] for row in rows)
        kind = _kind(name, next(iter(levels)))
        words = kind is KnobKind.CATEGORY  # by name: what order a table has its rows in says nothing
        ordered = tuple(sorted(map(str, levels)) if words else sorted(float(level) for level in levels))
        knobs.append(Knob(name=name, levels=ordered, kind=kind, settle_s=SETTLE_S.get(name, OTHER_SETTLE_S)))
    at = [{level: place for place, level in enumerate(knob.levels)} for knob in knobs]
    shape = tuple(len(knob.levels) for knob in knobs)
    if math.prod(shape) > 10_000_000:
        raise SettingsError(f"the levels span {math.prod(shape)} states; narrow them with --fix or --limit")
    places = [[at[axis][row.knobs[name]] for row in rows] for axis, name in enumerate(knob_names)]
    states = [int(state) for state in np.ravel_multi_index(places, shape)]
    present = np.zeros(math.prod(shape), dtype=np.bool_)
    present[states] = True
    return present, KnobSpace(knobs, present), states


def _kind(name: str, level: Level) -> KnobKind:
    if isinstance(level, str):
        return KnobKind.CATEGORY
    if name.endswith("_hz"):
        return KnobKind.FREQUENCY
    return KnobKind.POWER_LIMIT if name.endswith("_w") else KnobKind.COUNT


def _same(level: Level, asked: Level) -> bool:
    if isinstance(level, str) or isinstance(asked, str):
        return str(level) == str(asked)
    return math.isclose(level, asked, rel_tol=1e-6)


def _levels_text(name: str, rows: list[Row]) -> str:
    levels = {row.knobs[name] for row in rows}
    ordered = sorted(levels, key=lambda level: (isinstance(level, str), level))
    return ", ".join(level_text(name, level) for level in ordered)
