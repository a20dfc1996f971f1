"""Ctrl-C in a loop of its own. Not covered: signals that end a server (tests/test_serve.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from ceml.control import ending
from ceml.control.ending import Ending, HeldUp, heard_once, interruptible, start_watched
from ceml.errors import CemlError, Unavailable
from ceml.platforms import sysfs
from ceml.timeline import VirtualLoop

VIRTUAL = {"loop_factory": VirtualLoop}


@pytest.fixture(autouse=True)
def hears():
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def goes_on(turns: int) -> None:
    for _ in range(turns):
        await anyio.sleep(1.0)


@pytest.mark.parametrize("options", [{}, VIRTUAL])
def test_it_is_not_lost_where_a_scope_inside_is_cancelled_in_the_same_turn(options: dict[str, object]):
    async def work() -> None:
        with anyio.CancelScope() as inside:
            inside.cancel()
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(1.0)
        await goes_on(100_000)
        pytest.fail("it went on")

    assert anyio.run(interruptible, work, backend_options=options)


def test_what_is_put_back_at_the_end_is_put_back():
    done = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await goes_on(100_000)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(10.0)
                done.append("back")

    assert anyio.run(interruptible, work, backend_options=VIRTUAL)
    assert done == ["back"]


def test_without_a_signal_nothing_is_different():
    assert not anyio.run(interruptible, goes_on, 3, backend_options=VIRTUAL)
    with pytest.raises(ZeroDivisionError):
        anyio.run(interruptible, lambda: anyio.sleep(1 / 0), backend_options=VIRTUAL)


def test_a_loop_that_does_not_hear_is_interrupted_by_a_second_one():
    async def deaf() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        await goes_on(100_000)

    with pytest.raises(KeyboardInterrupt):
        anyio.run(interruptible, deaf, backend_options=VIRTUAL)


def test_a_start_that_takes_long_says_again_and_again_where_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(ending, "PATIENCE_S", 0.02)
    before = signal.getsignal(signal.SIGALRM)
    with start_watched():
        told = ""
        while told.count("still starting") < 2:
            told += capsys.readouterr().err
    assert " line " in told
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_start_that_never_ends_is_ended_and_a_plugin_that_swallows_errors_does_not_hide_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr(ending, "PATIENCE_S", 0.02)
    monkeypatch.setattr(ending, "START_S", 0.1)
    os.mkfifo(tmp_path / "driver")

    def hangs() -> None:
        try:
            sysfs.text(f"{tmp_path / 'driver'}")  # nobody ever opens the other end
        except CemlError:
            hangs()

    with pytest.raises(Unavailable, match=r"longer than 0\.1 s: .*sysfs\.py line \d+\. Nothing was turned"):
        with start_watched():
            hangs()
    assert capsys.readouterr().err.count("still starting") == 1
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_who_is_deaf_stays_deaf():
    async def work() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert not await interruptible(ends)

    async def ends() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await goes_on(3)

    anyio.run(work, backend_options=VIRTUAL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_loop_that_is_held_up_is_told_and_interrupted_in_the_end(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("ceml.control.ending.PATIENCE_S", 0.05)
    endings: list[Ending] = []

    async def work() -> None:
        with Ending() as ending:
            endings.append(ending)
            await anyio.sleep(0.3)  # it lives: nothing is said
            assert capsys.readouterr().out == ""
            end_s = time.monotonic() + 0.12
            while time.monotonic() < end_s:
                pass
            await anyio.sleep(0.1)  # it lives again
            while True:
                try:
                    time.sleep(0.001)
                except Exception:
                    pytest.fail("a plugin may catch whatever is an Exception")

    with pytest.raises(HeldUp):
        anyio.run(work)
    assert capsys.readouterr().out.count("held_up") == 2
    assert "test_ending.py line" in endings[0].held_up
    assert endings[0].waited == "nothing answered for 0.25 s"


@pytest.mark.parametrize("heir", [False, True])
def test_a_process_that_swallows_every_interruption_is_ended_or_replaced(heir: bool):
    code = """
import sys
import anyio, time
import ceml.control.ending as ending
ending.PATIENCE_S = 0.02
async def work():
    with ending.Ending() as made:
        if len(sys.argv) > 1:
            made.heir = [sys.executable, "-c", "import time; time.sleep(0.2); print('the heir'); raise SystemExit(5)"]
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass
anyio.run(work)
"""
    command = [sys.executable, "-c", code, *(["heir"] if heir else [])]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == (5 if heir else 2), "no alarm outlives it"
    assert ended.stdout.endswith("the heir\n") is heir
    assert ("becomes ceml restore" if heir else "puts nothing back") in ended.stderr
    assert "<string> line 12" in ended.stderr


def test_before_a_run_has_heard_the_first_ctrl_c_it_is_what_it_always_is():
    with pytest.raises(KeyboardInterrupt), heard_once(lambda: False):
        os.kill(os.getpid(), signal.SIGINT)


def test_after_the_first_one_more_of_them_mean_nothing():
    came = False
    try:
        with heard_once(lambda: came):
            came = True
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the summary is being written
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
