"""Memory of a real daemon. Not covered: how much it may be, which is a promise and no test."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ceml.bench.resident import resident, resident_bytes
from ceml.errors import Unavailable


def test_a_daemon_that_has_decided_is_measured_and_nothing_of_it_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CEML_MODEL", "paper")  # what the environment asks for is not the default that is measured
    bare = resident(os.getpid())
    taken = resident_bytes(after_s=20.0, speed=100.0)
    assert 20e6 < taken < 1e9
    assert 20e6 < bare < 10e9
    assert not any(tmp_path.iterdir())


def test_a_daemon_that_cannot_start_is_said_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(Unavailable, match=r"a process ended too early; it said last: .*speed"):
        resident_bytes(speed=-1.0)


def test_a_process_that_is_gone_has_no_memory():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(Unavailable, match=f"process {process.pid} cannot be read"):
        resident(process.pid)
