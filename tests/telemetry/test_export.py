"""Records as tables. Not covered: the command's own words (tests/commands/test_record_export.py)."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from any_event import any_event
from hypothesis import given
from hypothesis import strategies as st

from ceml.errors import SettingsError
from ceml.telemetry.export import LARGE, Table, flat, to_csv, to_parquet
from ceml.telemetry.record import as_json
from tests.commands.test_record_show import a_run, recorded

scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(max_size=5)
few = st.text(max_size=3)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(few, inner, max_size=3), max_leaves=6
)
entries = st.dictionaries(st.text(max_size=4), trees, max_size=4).map(lambda d: {**d, "event": "e", "at_s": 1.0})


def test_nested_fields_are_columns_and_lists_are_json():
    row = flat({"event": "e", "at_s": 1.0, "a": {"b": {"c": 2}}, "l": [1, 2], "big": LARGE, "inf": math.inf})
    assert row == {"event": "e", "at_s": 1.0, "a.b.c": 2, "l": "[1,2]", "big": str(LARGE), "inf": None}


@given(st.lists(entries | any_event.map(as_json), min_size=1, max_size=5))
def test_any_events_become_a_table_in_both_forms_with_the_same_cells(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, object]]
):
    folder = tmp_path_factory.mktemp("tables")
    path = folder / "r"
    usable = [line for line in lines if isinstance(line["at_s"], float)] or [{"event": "e", "at_s": 1.0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in usable))
    table = Table(path, ["all"])
    assert table.rows == len(usable) == len(list(table))
    to_csv(table, folder / "t.csv")
    with (folder / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(table.columns)
    assert set(rows[0]) == {as_written(name) for line in usable for name in uncleaned(line)}
    assert rows[1:] == [["" if cell is None else str(cell) for cell in row.values()] for row in table]
    if find_spec("pyarrow") is None:  # the extra parquet; the tests below are skipped for it by name
        return
    to_parquet(table, folder / "t.parquet")
    found = import_module("pyarrow.parquet").read_table(folder / "t.parquet")
    assert found.column_names == rows[0]
    texts = [name for name, kind in table.columns.items() if kind == "str"]
    read = [["" if row[name] is None else row[name] for name in texts] for row in found.to_pylist()]
    assert read == [[cells[rows[0].index(name)] for name in texts] for cells in rows[1:]]


def as_written(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def uncleaned(entry: dict[str, object], front: str = "") -> Iterator[str]:
    for key, value in entry.items():
        if isinstance(value, dict):
            yield from uncleaned(value, f"{front}{key}.")
        else:
            yield f"{front}{key}"


def test_a_nul_is_replaced_in_names_and_cells(tmp_path: Path):
    (tmp_path / "r").write_text(json.dumps({"event": "e", "at_s": 1.0, "a\0b": {"c\0": "d\0e"}}) + "\n")
    to_csv(Table(tmp_path / "r", ["e"]), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == "event,at_s,a\ufffdb.c\ufffd\ne,1.0,d\ufffde\n"


def test_parquet_holds_the_numbers_as_numbers(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow (extra parquet) is not installed")
    table = Table(recorded(tmp_path / "r", a_run()), ["window_closed"])
    to_parquet(table, tmp_path / "t.parquet")
    found = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert [row["observation.rate_hz"] for row in found] == [10.0, 8.0, 8.0]
    assert [row["observation.configuration.cpu_hz"] for row in found] == [2e9, 1e9, 1e9]
    assert found[0]["predicted_rate_hz"] is None


def test_parquet_takes_the_same_odd_cells(tmp_path: Path):
    pytest.importorskip("pyarrow", reason="pyarrow (extra parquet) is not installed")
    odd = [{"a": 1, "b": None}, {"a": 1.5, "b": None}, {"a": "x", "c": True}, {"a": 10**30, "c": "\ud800"}]
    (tmp_path / "r").write_text("".join(json.dumps({"event": "e", "at_s": 1, **line}) + "\n" for line in odd))
    to_parquet(Table(tmp_path / "r", ["e"]), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size > 0


def test_kinds_that_are_not_there_are_told_with_those_that_are(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"--events sampled: .* has none; it has .*window_closed \(3\)"):
        Table(recorded(tmp_path / "r", a_run()), ["sampled"])


def test_a_file_of_countless_fields_is_refused(tmp_path: Path):
    line = {"event": "e", "at_s": 1.0, **{f"f{at}": at for at in range(5000)}}
    (tmp_path / "r").write_text(json.dumps(line) + "\n")
    with pytest.raises(SettingsError, match="more than 4000 different fields"):
        Table(tmp_path / "r", ["e"])
