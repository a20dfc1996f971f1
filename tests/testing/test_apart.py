"""Work in a process of its own. Not covered: what is asked there (tests/commands/test_plugin.py)."""

from __future__ import annotations

import os
import signal
import time

import pytest

from ceml.errors import SettingsError
from ceml.testing.apart import Apart, Silent


def heard(work, quiet_s: float = 20.0) -> list[tuple[str, str]]:
    found = []
    with Apart(work) as apart:
        while (said := apart.next(quiet_s)) is not None:
            found.append(said)
    return found


def test_what_is_said_is_heard_in_order_however_long_it_is():
    words = ["", "a\nb", "größe", "x" * 200_000]

    def work(say) -> None:
        for word in words:
            say("word", word)

    assert heard(work) == [("word", word) for word in words]


def test_it_is_another_process_and_gone_afterwards():
    def work(say) -> None:
        say("pid", str(os.getpid()))

    ((_, pid),) = heard(work)
    assert int(pid) != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_an_error_for_a_person_is_said_and_a_bug_is_a_silence(capfd: pytest.CaptureFixture[str]):
    def mistaken(say) -> None:
        raise SettingsError("mend this")

    def wrong(say) -> None:
        raise KeyError("a bug")

    with Apart(mistaken) as apart:
        assert apart.next(20.0) == ("error", "mend this")
    with Apart(wrong) as apart, pytest.raises(Silent, match="exit status 1"):
        apart.next(20.0)
    with Apart(lambda say: os.kill(os.getpid(), signal.SIGKILL)) as apart, pytest.raises(Silent, match="SIGKILL"):
        apart.next(20.0)


def test_one_that_never_answers_is_ended():
    def work(say) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        say("first", "")
        time.sleep(600)

    begun_s = time.monotonic()
    with Apart(work) as apart:
        assert apart.next(20.0) == ("first", "")
        with pytest.raises(Silent, match=r"no answer within 0.3 s"):
            apart.next(0.3)
    assert time.monotonic() - begun_s < 20
