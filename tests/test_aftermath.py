"""What dead servers left. Not covered: kill -9 of real ones (tests/test_serve.py, test_jetson_endings.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ceml.aftermath import others, own, put_back_left
from ceml.errors import SettingsError
from ceml.platforms import sysfs
from ceml.saved import Item, Saved
from ceml.store import journal
from ceml.store.journal import Journal
from ceml.store.lock import claimed, locked
from tests.test_serve import wait_until


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands for what is turned, with one knob in it."""
    monkeypatch.setattr(journal, "COPIES", tmp_path / "run" / "journals")
    sys = tmp_path / "sys"
    sys.mkdir()
    (sys / "knob").write_text("5\n")
    return sys


def left_by(folder: Path, machine: Path, *more: Item) -> Path:
    """A dead server's journal: the knob stood at 7."""
    folder.mkdir()
    path = folder / "journal.json"
    saved = Saved((Item(sysfs.KIND, str(machine / "knob"), "7"), *more))
    Journal(path, [str(machine)]).write(saved)
    return path


def test_what_a_dead_one_left_is_put_back_once(tmp_path: Path, machine: Path):
    path = left_by(tmp_path / "one", machine)
    assert own(tmp_path / "one") == path
    came = put_back_left(path)
    assert came is not None
    assert (came.count, came.failed, came.beware) == (1, (), ())
    assert (machine / "knob").read_text() == "7\n"
    assert own(tmp_path / "one") is None
    assert journal.copies() == []


def test_another_runtime_directory_finds_it_by_what_was_turned(tmp_path: Path, machine: Path):
    left_by(tmp_path / "one", machine)
    other = tmp_path / "other"
    assert own(other) is None
    assert others(other, ["/somewhere/else"]) == []
    (copy,) = others(other, [str(machine)])
    assert others(other) == [copy]
    assert put_back_left(copy) is not None
    assert (machine / "knob").read_text() == "7\n"
    assert not (tmp_path / "one" / "journal.json").exists()
    assert others(other) == []


def test_a_runtime_directory_that_went_with_its_session_changes_nothing(tmp_path: Path, machine: Path):
    path = left_by(tmp_path / "one", machine)
    path.unlink()
    path.parent.rmdir()
    copy = own(tmp_path / "one")
    assert copy == journal.copy_of(tmp_path / "one")
    assert copy is not None
    assert put_back_left(copy) is not None
    assert (machine / "knob").read_text() == "7\n"


def test_who_lives_puts_back_himself(tmp_path: Path, machine: Path):
    path = left_by(tmp_path / "one", machine)
    for held in (locked(tmp_path / "one" / "lock"), claimed([str(machine)])):
        with held, pytest.raises(SettingsError, match="While it lives it puts the knobs back itself"):
            put_back_left(path, wait_s=0.1)
        assert (machine / "knob").read_text() == "5\n"


def test_a_driver_that_never_comes_back_does_not_keep_the_others_turned(
    tmp_path: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sysfs, "HANGS_S", 0.2)
    os.mkfifo(machine / "hangs")  # nobody reads: to open it for writing waits for ever
    hangs = Item(sysfs.KIND, str(machine / "hangs"), "1")
    folder = tmp_path / "one"
    folder.mkdir()
    knob = Item(sysfs.KIND, str(machine / "knob"), "7")
    Journal(folder / "journal.json").write(Saved((hangs, knob)))
    came = put_back_left(folder / "journal.json")
    assert came is not None
    ((target, why),) = came.failed
    assert target == str(machine / "hangs")
    assert "no answer within 0.2 s" in why
    assert (machine / "knob").read_text() == "7\n"
    assert (folder / "journal.json").exists()


def test_a_control_group_that_is_gone_with_its_program_leaves_nothing_to_put_back(tmp_path: Path, machine: Path):
    quota = Item(sysfs.KIND, f"{tmp_path}/fs/cgroup/cpu/gone/cpu.cfs_quota_us", "-1")
    path = left_by(tmp_path / "one", machine, quota)
    came = put_back_left(path)
    assert came is not None
    assert came.failed == ()
    assert not path.exists()


def test_what_is_written_and_reads_otherwise_is_said(tmp_path: Path, machine: Path):
    (machine / "deaf").symlink_to("/dev/null")  # takes anything, reads empty
    deaf = Item(sysfs.KIND, str(machine / "deaf"), "1300500000")
    came = put_back_left(left_by(tmp_path / "one", machine, deaf))
    assert came is not None
    assert came.failed == ()
    (told,) = came.beware
    assert f"{machine / 'deaf'} was written 1300500000 and reads " in told


def test_a_copy_that_cannot_be_read_stops_nobody(tmp_path: Path, machine: Path):
    left_by(tmp_path / "one", machine)
    (journal.COPIES / "0.json").write_text("{")
    (copy,) = others(tmp_path / "other", [str(machine)])
    assert copy.name != "0.json"


def test_who_was_killed_while_a_driver_holds_one_of_its_threads_does_not_keep_the_others_turned(
    tmp_path: Path, machine: Path
):
    path = left_by(tmp_path / "one", machine)
    with locked(tmp_path / "one" / "lock"), claimed([str(machine)]):  # as that thread does
        killed = os.fork()
        if not killed:
            os._exit(0)
        wait_until(lambda: Path(f"/proc/{killed}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "its end")
        (tmp_path / "one" / "lock").write_text(f"{killed}\n")
        came = put_back_left(path, wait_s=0.1)
        os.waitpid(killed, 0)
    assert came is not None
    assert (came.count, came.failed) == (1, ())
    assert (machine / "knob").read_text() == "7\n"
