"""The journal: what is written comes back, and what cannot be read says what to do.

Not covered here: kill -9 of a whole server (tests/test_restore.py).
"""

from __future__ import annotations

import json

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
    journal.write(path, saved)
    assert journal.read(path) == saved
    assert list(path.parent.iterdir()) == [path]  # no half-written file left beside it


def test_no_journal_means_nothing_to_put_back(tmp_path) -> None:
    assert journal.read(tmp_path / "journal.json") is None
    journal.remove(tmp_path / "journal.json")


def test_after_another_boot_it_is_discarded(tmp_path) -> None:
    path = tmp_path / "journal.json"
    journal.write(path, Saved((Item("board_file", "x", "1"),)))
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
