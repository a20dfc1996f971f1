"""Which processes count as writers of our pipe; real ones. Not covered: what follows from it (test_roster.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ceml.apps.processes import Processes, _start_time

HOLD = "import os, sys, time; os.open(sys.argv[1], os.O_WRONLY); print('held', flush=True); time.sleep(60)"


def test_a_pid_counts_only_if_that_process_holds_our_pipe(tmp_path: Path):
    path = tmp_path / "beats"
    os.mkfifo(path)
    ours = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    processes = Processes(path, path.stat())
    writer = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"held\n"
        start = processes.identify(writer.pid)
        assert start is not None
        assert processes.alive(writer.pid, start)
        assert not processes.alive(writer.pid, start + 1)
        assert [processes.identify(pid) for pid in (1, os.getpid(), sleeper.pid, 2**31 - 1)] == [None] * 4
    finally:
        for process in (writer, sleeper):
            process.kill()
            process.communicate()
        os.close(ours)
    assert not processes.alive(writer.pid, start)
    assert processes.identify(writer.pid) is None


def test_a_program_with_parentheses_in_its_name_is_told_from_another(tmp_path: Path):
    named = tmp_path / "a) R 1 (b"  # the kernel shows what comes after the last slash
    named.symlink_to("/bin/sleep")
    process = subprocess.Popen([named, "60"])
    ours, theirs = _start_time(os.getpid()), _start_time(process.pid)
    process.kill()
    process.wait()
    assert ours is not None
    assert theirs is not None
    assert theirs >= ours > 0
    assert _start_time(process.pid) is None
