"""Control groups of this machine. Not covered: what a quota does to a program (test_bandwidth.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ceml.errors import CemlError
from ceml.platforms import cgroup


def _hierarchy() -> Path | None:
    """Where groups can be made here."""
    mounts = [cgroup.mounted(unified=unified) for unified in (False, True)]
    return next((Path(mount) for mount in mounts if mount is not None and os.access(mount, os.W_OK)), None)


HIERARCHY = _hierarchy()
needs_groups = pytest.mark.skipif(HIERARCHY is None, reason="NO CONTROL GROUP CAN BE MADE HERE: none is tried")


@needs_groups
def test_a_program_has_a_group_of_its_own_while_it_is_held_and_none_is_left():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as program:
        before = cgroup.of(program.pid)
        with cgroup.own_group(program.pid) as made:
            if not made:
                pytest.skip("the cpu controller is not for groups here")
            now = cgroup.of(program.pid)
            assert now is not None
            assert now != before
            assert Path(now[0]).name == f"{cgroup.PREFIX}{program.pid}"
            program.communicate(b"\n")
    assert not Path(now[0]).exists()


@needs_groups
def test_groups_of_programs_that_are_gone_are_swept_others_stay():
    assert HIERARCHY is not None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as program:
        group = HIERARCHY / f"{cgroup.PREFIX}{program.pid}"
        group.mkdir()  # as `ceml run` does just before it moves its program there
        cgroup.sweep()
        assert group.exists()
        assert program.stdin is not None
        program.stdin.close()
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)  # a zombie now: nobody has waited for it
        cgroup.sweep()
        assert not group.exists()


def test_who_has_no_group_file_is_said():
    with pytest.raises(CemlError):
        cgroup.of(2**22 + 1)
