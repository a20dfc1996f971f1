"""A machine's calibration on disk. Not covered: how it is measured (tests/commands/test_calibrate.py)."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.values import DevicePower
from ceml.errors import SettingsError
from ceml.store import device_power
from ceml.store.knowledge import KnowledgeStore

watts = st.floats(0.0, 1e4)
LINES = st.dictionaries(st.floats(1.0, 1e11), st.tuples(watts, watts), min_size=1, max_size=20)
BOARDS = st.dictionaries(st.sampled_from(["cpu", "cpu4", "gpu", "gpu1", "mem"]), LINES, min_size=1)


def power(lines: dict[float, tuple[float, float]]) -> DevicePower:
    levels = tuple(sorted(lines))
    return DevicePower(
        levels_hz=levels,
        slope_w=tuple(lines[level][0] for level in levels),
        idle_w=tuple(lines[level][1] for level in levels),
    )


@given(BOARDS)
def test_what_was_written_is_read(board: dict[str, dict[float, tuple[float, float]]]) -> None:
    store = KnowledgeStore(Path(mkdtemp()), "a-board")
    wanted = {device: power(lines) for device, lines in board.items()}
    device_power.write(store, wanted)
    assert device_power.read(store) == wanted


def test_nothing_there_is_nothing_known(tmp_path: Path) -> None:
    assert device_power.read(KnowledgeStore(tmp_path, "a-board")) == {}


GOOD = {"format": "ceml-power", "version": 1, "machine": "a-board", "devices": {}}
LEVEL = {"level_hz": 1e9, "slope_w": 1.0, "idle_w": 1.0}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not understood"),
        ("[]", "not understood"),
        (json.dumps(GOOD | {"machine": "another"}), "of machine another"),
        (json.dumps(GOOD | {"version": 2}), "version"),
        (json.dumps(GOOD | {"devices": {"cpu": []}}), "devices.cpu"),
        (json.dumps(GOOD | {"devices": {"cpu": [LEVEL, LEVEL]}}), "ascend"),
        (json.dumps(GOOD | {"devices": {"cpu": [LEVEL | {"slope_w": -1.0}]}}), "slope_w"),
        (json.dumps(GOOD | {"devices": {"cpu": [LEVEL | {"idle_w": "NaN"}]}}), "idle_w"),
        (json.dumps(GOOD | {"devices": {"cpu": [LEVEL | {"level_hz": 0}]}}), "level_hz"),
    ],
)
def test_a_file_that_is_no_good_is_told_with_its_place(tmp_path: Path, content: str, said: str) -> None:
    store = KnowledgeStore(tmp_path, "a-board")
    store.directory.mkdir()
    device_power.path_of(store).write_text(content)
    with pytest.raises(SettingsError, match=said):
        device_power.read(store)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.floats() | st.text(), lambda x: st.lists(x)).map(str))
def test_whatever_a_file_holds_it_is_read_or_refused(content: bytes | str) -> None:
    store = KnowledgeStore(Path(mkdtemp()), "a-board")
    store.directory.mkdir()
    device_power.path_of(store).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError):
        device_power.read(store)
