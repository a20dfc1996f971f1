"""The journal: what is written comes back, and what cannot be read says what to do.

Not covered here: kill -9 of a whole server (tests/test_restore.py).
"""

from __future__ import annotations

import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.errors import SettingsError
from ceml.saved import Item, Saved
from ceml.store import journal

items = st.builds(Item, st.text(max_size=20), st.text(max_size=50), st.none() | st.text(max_size=50))


@given(st.lists(items, max_size=10))
def test_what_is_written_comes_back_in_order(tmp_path_factory, entries) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.json"
    saved = Saved(tuple(entries))
    journal.Journal(path).write(saved)
    left = journal.read(path)
    assert left is not None
    assert (left.saved, left.claims, left.root) == (saved, (), path.parent)
    assert list(path.parent.iterdir()) == [path]  # no half-written file left beside it


@pytest.fixture
def copies(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "COPIES", tmp_path / "machine" / "journals")
    return tmp_path / "machine" / "journals"


SAVED = Saved((Item("sysfs", "/sys/x", "1"),))


def test_of_what_belongs_to_the_machine_there_is_a_copy_until_it_is_cleared(tmp_path, copies) -> None:
    path = tmp_path / "session" / "journal.json"
    path.parent.mkdir()
    prior = journal.Journal(path, ["/sys"])
    prior.write(SAVED)
    (copy,) = journal.copies()
    assert copy == journal.copy_of(path.parent)
    assert journal.read(copy) == journal.read(path)
    assert copies.parent.stat().st_mode & 0o777 == 0o750
    prior.clear()
    assert journal.copies() == []
    assert not path.exists()
    journal.Journal(path).write(SAVED)  # nothing of the machine's: no copy
    assert journal.copies() == []


def test_what_somebody_removed_is_written_again_with_its_directory(tmp_path, copies) -> None:
    path = tmp_path / "session" / "journal.json"
    path.parent.mkdir()
    prior = journal.Journal(path, ["/sys"])
    prior.write(SAVED)
    prior.ensure(SAVED)
    before = path.stat().st_mtime_ns
    shutil.rmtree(path.parent)
    shutil.rmtree(copies)
    prior.ensure(SAVED)
    assert path.stat().st_mtime_ns > before
    for each in (path, journal.copy_of(path.parent)):
        left = journal.read(each)
        assert left is not None
        assert left.saved == SAVED


def test_where_no_copy_can_be_made_it_goes_without(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(journal, "COPIES", tmp_path / "file" / "journals")
    path = tmp_path / "journal.json"
    journal.Journal(path, ["/sys"]).write(SAVED)
    assert path.exists()
    assert journal.copies() == []


def test_what_a_kill_in_the_midst_of_writing_left_goes_with_the_journal_of_the_next(tmp_path, copies) -> None:
    path = tmp_path / "session" / "journal.json"
    prior = journal.Journal(path, ["/sys"])
    for whose in (path, journal.copy_of(path.parent)):
        whose.parent.mkdir(parents=True)
        whose.with_name(f"{whose.name}.new").write_text('{"version": 2, "bo')
    prior.clear()  # nothing was ever whole
    assert not list(path.parent.iterdir())
    assert not list(copies.iterdir())


def test_it_says_which_process_wrote_it_for_good(tmp_path) -> None:
    path = tmp_path / "journal.json"
    journal.Journal(path).write(SAVED)
    content = json.loads(path.read_text())
    assert content["pid"] == os.getpid()
    assert content["start_ticks"] > 0


def test_no_journal_means_nothing_to_put_back(tmp_path) -> None:
    assert journal.read(tmp_path / "journal.json") is None
    journal.remove(tmp_path / "journal.json")


def test_after_another_boot_it_is_discarded(tmp_path) -> None:
    path = tmp_path / "journal.json"
    journal.Journal(path).write(SAVED)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "boot_id": "another"}))
    assert journal.read(path) is None
    assert not path.exists()


@given(st.binary(max_size=200))
def test_garbage_says_what_to_do_and_is_kept(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="by hand"):
        journal.read(path)
    assert path.exists()


def test_a_foreign_version_is_refused(tmp_path) -> None:
    path = tmp_path / "journal.json"
    path.write_text('{"version": 99, "boot_id": "", "items": []}')
    with pytest.raises(SettingsError, match="version 99"):
        journal.read(path)
