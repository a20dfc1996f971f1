"""The simulated machine as files. Not covered: who writes them (test_fileboard.py, test_app_simulated.py)."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.errors import SettingsError
from ceml.saved import Item
from ceml.store import board_file
from ceml.store.board_file import BoardFile

BOARD = BoardFile(
    plant={"kind": "jetson-tx2", "range": "paper"},
    configuration={"cpu_hz": 1e9, "mode": "eco"},
    before={"cpu_hz": 2e9, "mode": "eco"},
    in_force_s=4.25,
    origin_s=3.5,
    speed=40.0,
)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "board.json"
    board_file.write(path, BOARD)
    assert board_file.read(path) == BOARD
    assert [p.name for p in tmp_path.iterdir()] == ["board.json"]


def test_every_replacement_has_another_stamp_however_fast_they_come(tmp_path):
    path = tmp_path / "board.json"
    assert board_file.stamp(path) is None
    stamps = []
    for _ in range(200):
        board_file.write(path, BOARD)
        stamps.append(board_file.stamp(path))
    assert len({changed_ns for _, changed_ns in stamps}) == 200


def complaint(path) -> str:
    """The path, if the complaint names it and the remedy; nothing if there is no complaint."""
    try:
        board_file.read(path)
    except SettingsError as error:
        return str(error).split()[0] if "Remove it" in str(error) else "no remedy"
    return ""


def test_no_file_is_no_machine(tmp_path):
    assert board_file.read(tmp_path / "board.json") is None


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
fields = st.sampled_from(["plant", "configuration", "before", "in_force_s", "origin_s", "speed", "version", "other"])


@given(st.dictionaries(fields, json_values, max_size=4), st.sampled_from(["{}", "[]", "nul", "[" * 9999, "\xff"]))
def test_a_foreign_file_is_a_settings_error_and_nothing_else(tmp_path_factory, changes, garbage):
    path = tmp_path_factory.getbasetemp() / "board.json"
    good = json.loads(json.dumps(board_file.asdict(BOARD)))
    for text in (json.dumps(good | changes), garbage):
        path.write_text(text, encoding="latin-1")
        assert complaint(path) in ("", str(path))


def test_put_back_writes_the_saved_configuration_at_once_and_only_once(tmp_path):
    path = tmp_path / "board.json"
    board_file.write(path, BOARD)
    saved = board_file.saved_item(path, {"cpu_hz": 3e8, "mode": "fast"})
    for _ in range(2):
        assert board_file.put_back([saved, Item("sysfs", "/elsewhere", "1")]) == ()
        board = board_file.read(path)
        assert board == replace(
            BOARD, configuration={"cpu_hz": 3e8, "mode": "fast"}, before=board.configuration, in_force_s=0
        )


def test_put_back_needs_no_machine_and_says_what_it_could_not_do(tmp_path):
    path = tmp_path / "board.json"
    assert board_file.put_back([board_file.saved_item(path, {"cpu_hz": 1.0})]) == ()
    path.write_text("nonsense")
    spoilt = [board_file.saved_item(path, {"cpu_hz": 1.0}), Item(board_file.KIND, str(path), "[]")]
    failed = board_file.put_back(spoilt)
    assert [item.target for item in failed] == [str(path)] * 2
    assert "does not describe a simulated board" in failed[0].reason


def test_put_back_needs_the_standard_library_only():
    code = "import sys; from ceml.store.board_file import put_back; put_back([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"numpy", "anyio", "pydantic", "structlog"})


def test_a_load_counts_while_its_program_lives(tmp_path):
    with board_file.announced(tmp_path / "load", "vit") as mine:
        assert mine.name == f"{os.getpid()}.json"
        assert board_file.loads(tmp_path / "load") == ("vit",)
    assert board_file.loads(tmp_path / "load") == ()
    assert list((tmp_path / "load").iterdir()) == []


def test_the_file_of_a_killed_program_does_not_count_and_is_swept_by_the_next(tmp_path):
    code = (
        "import sys, pathlib; from ceml.store import board_file\n"
        "with board_file.announced(pathlib.Path(sys.argv[1]), 'lstm'): print('here', flush=True); sys.stdin.read()"
    )
    load = tmp_path / "load"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(load)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        program.stdout.readline()
        assert board_file.loads(load) == ("lstm",)
        program.kill()
        program.stdout.read()  # ends when the process does; it is a zombie now, not yet waited for
        while board_file.loads(load):
            pass
    assert [path.name for path in load.iterdir()] == [f"{program.pid}.json"]
    with board_file.announced(load, "vit"):
        assert [path.name for path in load.iterdir()] == [f"{os.getpid()}.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1}', '{"pid": "x", "started": 1, "workload": "a"}', "\xff"])
def test_a_spoilt_load_file_does_not_count(tmp_path, text):
    (tmp_path / "1.json").write_text(text, encoding="latin-1")
    assert board_file.loads(tmp_path) == ()


def test_another_process_of_the_same_number_is_another_process(tmp_path):
    load = {"pid": os.getpid(), "started": 1, "workload": "vit"}
    (tmp_path / f"{os.getpid()}.json").write_text(json.dumps(load))
    assert board_file.loads(tmp_path) == ()


def test_a_look_at_the_loads_sees_who_comes_and_goes_at_once_and_misses_the_dead_soon(tmp_path):
    running = board_file.Loads(tmp_path / "load")
    assert running.now() == ()
    with board_file.announced(tmp_path / "load", "vit"):
        assert running.now() == ("vit",)
        assert running.now() == ("vit",)
    assert running.now() == ()
    sleeper = subprocess.Popen([sys.executable, "-c", ANNOUNCE, str(tmp_path / "load")], stdout=subprocess.PIPE)
    assert sleeper.stdout is not None
    assert sleeper.stdout.readline() == b"running\n"
    assert running.now() == ("lstm",)
    sleeper.kill()
    sleeper.wait()
    sleeper.stdout.close()
    assert () in [running.now() for _ in range(board_file.LOOKS_BETWEEN)]


ANNOUNCE = """
import pathlib, sys, time
from ceml.store.board_file import announced
with announced(pathlib.Path(sys.argv[1]), "lstm"):
    print("running", flush=True)
    time.sleep(60)
"""
