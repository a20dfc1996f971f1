"""The runtime directory. Not covered: /run/ceml itself, which needs root."""

import os
import stat
from pathlib import Path

import pytest

from ceml.errors import SettingsError
from ceml.store.paths import PlatformContext, RuntimePaths, read_lines


def test_the_directory_given_wins_then_the_sessions_then_the_systems(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert RuntimePaths.at(tmp_path).root == tmp_path
    assert RuntimePaths.at().root == Path("/run/user/7/ceml")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "not/absolute")
    assert RuntimePaths.at().root == Path("/run/ceml")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert RuntimePaths.at().root == Path("/run/ceml")


def test_the_names_are_fixed(tmp_path):
    paths = PlatformContext(runtime_dir=tmp_path).paths
    names = [
        path.relative_to(tmp_path).name for path in (paths.beats, paths.board, paths.load, paths.lock, paths.journal)
    ]
    assert names == ["beats", "board.json", "load", "lock", "journal.json"]


def test_it_is_made_on_demand_with_its_own_mode_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        paths = RuntimePaths.at(tmp_path / "a" / "ceml").made()
    finally:
        os.umask(before)
    assert stat.S_IMODE(paths.root.stat().st_mode) == 0o750


def test_a_directory_that_is_there_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o700)
    RuntimePaths.at(tmp_path).made()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_directory_that_cannot_be_made_is_the_persons_to_change(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"runtime_dir=.*/file/ceml cannot be made: .*--runtime-dir DIR"):
        RuntimePaths.at(tmp_path / "file" / "ceml").made()
    with pytest.raises(SettingsError, match=r"runtime_dir=.*/file cannot be made"):
        RuntimePaths.at(tmp_path / "file").made()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_of_somebody_else_is_the_persons_to_change(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SettingsError, match="cannot be written to by this user"):
        RuntimePaths.at(tmp_path).made()


def test_a_text_that_cannot_be_read_is_named_with_its_setting(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfa,b\r\nc,d")
    assert read_lines(tmp_path / "t.csv", "table") == ["a,b\n", "c,d"]
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, says in (
        ("none.csv", "No such file"),
        ("", "Is a directory"),
        ("binary", "is not a text file"),
        ("\0", ""),
    ):
        with pytest.raises(SettingsError, match=f"table=.*{says}"):
            read_lines(tmp_path / name, "table")
