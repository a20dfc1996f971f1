"""A record as one table, CSV or Parquet: a row an event, nested values as columns with dots in their names.

Two passes over the record, so that memory does not grow with its length: the first finds the columns and what they
hold, the second writes. What is no number is an empty field. Units are in the names, as in the record. A NUL stands as
U+FFFD and half of a surrogate pair as a question mark, in both forms alike.
"""

from __future__ import annotations

import csv
import json
import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ceml.errors import SettingsError, Unavailable
from ceml.telemetry.record import SCHEMA_VERSION, read

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    Row = dict[str, "float | int | str | bool | None"]

MOST_COLUMNS = 4000
BATCH = 10_000  # rows of a record batch
ALL = "all"
NO_NUL = "\N{REPLACEMENT CHARACTER}"
LARGE = 1 << 63  # whole numbers from here on are text: nothing that runs counts so far


def flat(entry: Mapping[str, Any], front: str = "") -> Row:
    """One event as a row; lists stand as JSON."""
    row: Row = {}
    for key, value in entry.items():
        name = f"{front}{_clean(key)}"
        if isinstance(value, dict):
            row.update(flat(value, f"{name}."))  # type: ignore[arg-type]
        elif isinstance(value, list):
            row[name] = json.dumps(value, separators=(",", ":"))
        elif isinstance(value, float) and not math.isfinite(value):
            row[name] = None
        elif isinstance(value, int) and abs(value) >= LARGE:
            row[name] = str(value)
        elif isinstance(value, str):
            row[name] = _clean(value)
        else:
            row[name] = value
    return row


def _clean(text: str) -> str:
    """Text that both forms take: csv of Python 3.10 writes no NUL, and UTF-8 has no half of a surrogate pair."""
    return text.replace("\0", NO_NUL).encode("utf-8", "replace").decode("utf-8")


class Table:
    """The events of some kinds in a record.

    Attributes:
        columns: Names, in order of first appearance, and the kind of each: `float`, `int`, `bool` or `str`.
        rows: How many there are.
        bad_lines: Lines that are no event.
        kinds: Events of each kind in the record, exported or not.
        schema: Which one the record says it follows; ours where it does not say.
    """

    def __init__(self, path: Path, kinds: Collection[str]) -> None:
        """First pass.

        Raises:
            SettingsError: No record, no such events in it, or too many different fields.
        """
        self.columns: dict[str, str] = {}
        self.rows = 0
        self.bad_lines = 0
        self.kinds: dict[str, int] = {}
        self.schema: object = SCHEMA_VERSION
        self._path = path
        self._wanted = frozenset(kinds)
        for entry in read(path, on_bad_line=self._bad):
            kind = entry["event"]
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            if kind == "run_started":
                self.schema = entry.get("schema")
            if not self._wants(kind):
                continue
            self.rows += 1
            for name, value in flat(entry).items():
                self.columns[name] = _wider(self.columns.get(name), value)
            if len(self.columns) > MOST_COLUMNS:
                raise SettingsError(f"{path} has more than {MOST_COLUMNS} different fields; export fewer --events")
        if not self.rows:
            there = ", ".join(f"{kind} ({count})" for kind, count in sorted(self.kinds.items())) or "nothing"
            raise SettingsError(
                f"--events {','.join(sorted(self._wanted))}: {path} has none; it has {there}, or give --events all"
            )

    def _bad(self, number: int) -> None:
        self.bad_lines += 1

    def _wants(self, kind: str) -> bool:
        return kind in self._wanted or ALL in self._wanted

    def __iter__(self) -> Iterator[Row]:
        """Second pass: the rows, each with all columns."""
        empty: Row = dict.fromkeys(self.columns)
        for entry in read(self._path, on_bad_line=lambda number: None):
            if self._wants(entry["event"]):
                yield {**empty, **{name: _as(self.columns[name], value) for name, value in flat(entry).items()}}


def _wider(kind: str | None, value: object) -> str:
    """The narrowest kind that holds both what a column held so far and one more value; empty: nothing yet."""
    here = "" if value is None else type(value).__name__
    if kind in (None, "") or not here or kind == here:
        return kind or here
    return "float" if {kind, here} == {"int", "float"} else "str"


def _as(kind: str, value: Any) -> Any:
    if value is None or kind in ("int", "bool"):
        return value
    if kind == "float":
        return float(value)
    return value if isinstance(value, str) else json.dumps(value)


def to_csv(table: Table, target: Path) -> None:
    """Write CSV as in RFC 4180, UTF-8, one line of names first.

    Raises:
        SettingsError: It cannot be written.
    """
    try:
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(table.columns))
            writer.writeheader()
            writer.writerows(table)
    except OSError as error:
        raise SettingsError(f"cannot write {target}: {error.strerror}; give another file") from None


def to_parquet(table: Table, target: Path) -> None:
    """Write Parquet (zstd), in batches.

    Raises:
        Unavailable: pyarrow is not installed.
        SettingsError: It cannot be written.
    """
    try:
        lib, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise Unavailable(
            "--parquet needs pyarrow, which is not installed: pip install ceml-runtime[parquet], or use --csv"
        ) from None
    types = {"float": lib.float64(), "int": lib.float64(), "bool": lib.bool_()}  # int: JSON has larger ones than int64
    schema = lib.schema([(name, types.get(kind, lib.string())) for name, kind in table.columns.items()])
    try:
        with parquet.ParquetWriter(str(target), schema, compression="zstd") as writer:
            batch: list[Row] = []
            for row in table:
                batch.append({name: _for_arrow(table.columns[name], value) for name, value in row.items()})
                if len(batch) == BATCH:
                    writer.write_table(lib.Table.from_pylist(batch, schema=schema))
                    batch.clear()
            writer.write_table(lib.Table.from_pylist(batch, schema=schema))
    except OSError as error:
        raise SettingsError(f"cannot write {target}: {error.strerror or error}; give another file") from None


def _for_arrow(kind: str, value: Any) -> Any:
    return float(value) if kind == "int" and value is not None else value
