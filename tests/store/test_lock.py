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
from ceml.store.lock import holder_lives, locked

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


def test_a_holder_lives_as_long_as_its_process(tmp_path) -> None:
    path = tmp_path / "lock"
    assert not holder_lives(path)
    with locked(path):
        assert holder_lives(path)
    for nobody in ("", "x", "4194999", "99999999999999999999"):
        path.write_text(nobody)
        assert not holder_lives(path)
