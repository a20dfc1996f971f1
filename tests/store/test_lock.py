"""The lock: one holder, refused politely, free when its process is gone.

Not covered here: two whole servers on one runtime directory (tests/test_serve.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ceml.errors import SettingsError
from ceml.store.lock import claimed, holder_lives, locked

HOLD = """
import pathlib, sys, time
from ceml.store.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path) -> None:
    with (
        locked(tmp_path / "lock"),
        pytest.raises(SettingsError, match=rf"pid {os.getpid()}"),
        locked(tmp_path / "lock"),
    ):
        pass


def test_it_is_free_again_afterwards(tmp_path) -> None:
    for _ in range(2):
        with locked(tmp_path / "lock"):
            pass


def test_a_killed_holder_leaves_no_stale_lock(tmp_path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(SettingsError, match=rf"pid {holder.pid}"), locked(path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with locked(path):
        assert path.read_text() == f"{os.getpid()}\n"


CLAIM = """
import sys, time
from ceml.store.lock import claimed
with claimed(sys.argv[1:]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_what_another_process_claims_is_refused_with_its_number_and_free_when_it_is_killed(tmp_path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    words = [sys.executable, "-c", CLAIM, str(mine), str(mine), str(tmp_path / "absent")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with claimed([str(other)]):
            pass
        for _ in range(2):
            with (
                pytest.raises(SettingsError, match=rf"another ceml \(.*\) .* it holds {mine}\. Stop it") as refused,
                claimed([str(other), str(mine)]),
            ):
                pass
            with claimed([str(other)]):  # nothing of what was refused is held
                pass
        holder.kill()
    assert f"(pid {holder.pid})" in str(refused.value)
    with claimed([str(mine)]):
        pass
    assert list(mine.iterdir()) == []


def test_what_cannot_be_locked_is_no_obstacle(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with claimed([str(tmp_path / "absent"), str(tmp_path / "file"), "/sys"]):
        pass


def test_a_holder_lives_as_long_as_its_process(tmp_path) -> None:
    path = tmp_path / "lock"
    assert not holder_lives(path)
    with locked(path):
        assert holder_lives(path)
    for nobody in ("", "x", "4194999", "99999999999999999999"):
        path.write_text(nobody)
        assert not holder_lives(path)
