"""`ceml top` under Textual's pilot, on a real server with a program that goes on beating.

Not covered: what the server answers (tests/test_control.py).
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from tests.test_serve import CEML, CLEAN, FAST, Server, app, ceml, serving, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest.importorskip("textual", reason="the extra tui is not installed")
from textual.events import Key
from textual.widgets import Input, Static

from ceml.screens.top import KEYS, Top


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("top")
    with serving(folder, *FAST, "--speed", 50) as server:  # fast enough to be decided soon, and the screen has its turn
        program = app(folder, "--workload", "gpu-bound", "--steps", 10_000_000)
        wait_until(lambda: bool(server.events("decided")), "a decision")
        yield server
        program.terminate()
        program.communicate()
        server.end()


def shown(top: Top) -> str:
    """All text on the screen."""
    return "\n".join(str(widget.render()) for widget in top.query(Static) if widget.display)


async def until(pilot, true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, f"waited for {what}; shown is:\n{shown(pilot.app)}"
        await pilot.pause(0.02)


def top_of(server: Server) -> Top:
    return Top(server.folder / "control.sock", period_s=0.05)


async def test_values_move(server: Server):
    top = top_of(server)
    async with top.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: "gpu-bound" in shown(top), "the program")
        text = shown(top)
        for word in ("W", "steps/s", "J/step", "MHz", "total rail", "cpu knob", "decided", "ago", "█"):
            assert word in text
        first = top.status
        assert first is not None
        await until(pilot, lambda: top.status["steps"] > first["steps"], "steps that grow")


async def test_keys_change_budget_and_objective_and_pause(server: Server):
    top = top_of(server)
    async with top.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: top.status is not None, "the status")
        await pilot.press("b")
        top.query_one("#wish", Input).value = "19W"
        await pilot.press("enter")
        await until(pilot, lambda: "of 19 W" in shown(top), "the cap")
        assert "limits power cap 19 W" in top.answer
        await pilot.press("b", *"nonsense", "enter")
        await until(pilot, lambda: "must be a power above 0" in shown(top), "the refusal")
        assert "of 19 W" in shown(top)
        await pilot.press("o", *"edp", "enter")
        await until(pilot, lambda: " edp " in shown(top).splitlines()[0], "the objective")
        await pilot.press("p")
        await until(pilot, lambda: shown(top).startswith("paused"), "the pause")
        assert re.search(r"rate +[\d.]+ steps/s before the pause", shown(top))
        await pilot.press("r")
        await until(pilot, lambda: not shown(top).startswith("paused"), "the resumption")
        await pilot.press("b", "7", "escape")
        assert not top.query_one("#wish").display
        await pilot.press("b", *"none", "enter")
        await until(pilot, lambda: top.status["budget_w"] is None, "no cap")


async def test_keys_that_come_in_one_go_are_what_was_written_and_no_commands(server: Server):
    top = top_of(server)
    async with top.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: top.status is not None, "the status")
        for letter in "operformance":  # a paste, a lagging connection: the field has no focus yet
            top.post_message(Key(letter, letter))
        top.post_message(Key("enter", "\r"))
        await until(pilot, lambda: "objective performance" in top.answer, "the objective")
        assert not server.events("control_paused")[1:], "p is a letter here"
        await pilot.press("o", *"edp", "enter")
        await until(pilot, lambda: "objective edp" in top.answer, "the objective before")


async def test_forty_columns_are_enough(server: Server):
    top = top_of(server)
    async with top.run_test(size=(40, 24)) as pilot:
        await until(pilot, lambda: "gpu-bound" in shown(top), "the program")
        assert "█" not in shown(top), "no room for bars"
        screen: list[str] = []

        def drawn() -> bool:
            screen[:] = [strip.text for strip in top.screen._compositor.render_strips()]
            words = re.sub(r"\s+", " ", " ".join(screen))
            return all(word in words for word in ("power", "W", "steps/s", "J/step", "MHz"))

        await until(pilot, drawn, "the figures")
        assert max(map(len, screen)) <= 40


def drawn(top: Top) -> list[str]:
    return [strip.text for strip in top.screen._compositor.render_strips()]


def bottom(top: Top) -> str:
    """The last lines, as one."""
    return re.sub(r"\s+", " ", " ".join(drawn(top)[-3:]))


@pytest.mark.parametrize("columns", [30, 40, 60, 69, 70, 80, 120])
async def test_all_keys_are_told_at_any_width(server: Server, columns: int):
    top = top_of(server)
    async with top.run_test(size=(columns, 24)) as pilot:
        await until(pilot, lambda: "gpu-bound" in shown(top), "the program")
        goal = "Objective" if columns >= KEYS else "Goal"
        words = ("Budget", goal, "Pause", "Resume", "Quit")
        await until(pilot, lambda: all(word in bottom(top) for word in words), "the keys")
        assert max(map(len, drawn(top))) <= columns
        await pilot.press("b")
        await until(pilot, lambda: "ever mind" in bottom(top), "the way back")
        await pilot.press("escape")
        await until(pilot, lambda: goal in bottom(top), "the keys again")


async def test_a_server_that_goes_and_comes_back(tmp_path: Path):
    with serving(tmp_path, *FAST) as server:
        top = top_of(server)
        async with top.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "waiting" in shown(top), "the status")
            server.end(signal.SIGKILL)
            await until(pilot, lambda: "NO ANSWER, what follows is old: no server" in shown(top), "the loss")
            with serving(tmp_path, *FAST, "--objective", "edp"):
                await until(pilot, lambda: "NO ANSWER" not in shown(top) and " edp " in shown(top), "the next server")


async def test_without_a_server_it_says_so_and_waits(tmp_path: Path):
    top = Top(tmp_path / "control.sock", period_s=0.05)
    async with top.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "nobody serves at" in shown(top), "the sentence")
        await pilot.press("p")
        await until(pilot, lambda: "no server" in top.answer, "the answer")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_without_a_terminal_it_points_elsewhere(tmp_path: Path, term: str):
    done = ceml("top", "--runtime-dir", tmp_path, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ceml: ceml top needs a terminal; elsewhere, and in pipes, ask: ceml status --watch\n"
    ours, theirs = pty.openpty()
    words = [*CEML, "top", "--runtime-dir", str(tmp_path)]
    if term == "dumb":
        told = subprocess.run(words, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=CLEAN | {"TERM": "dumb"})
        assert b"needs a terminal" in told.stderr
    os.close(ours)
    os.close(theirs)


def test_on_a_terminal_without_colour_it_draws_without_colour(server: Server):
    ours, theirs = pty.openpty()
    environment = CLEAN | {"TERM": "xterm-256color", "NO_COLOR": "1", "COLUMNS": "80", "LINES": "24"}
    words = [*CEML, "top", "--runtime-dir", str(server.folder)]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        drawn = b""
        deadline = time.monotonic() + 30
        while b"J/step" not in drawn and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                drawn += os.read(ours, 65536)
        os.write(ours, b"q")
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.05)[0]:
                try:
                    drawn += os.read(ours, 65536)
                except OSError:
                    break
        assert process.wait(10) == 0
    os.close(ours)
    assert b"J/step" in drawn
    colours = {tuple(map(int, found)) for found in re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", drawn)}
    assert all(max(colour) - min(colour) <= 1 for colour in colours), colours


def test_a_signal_leaves_the_terminal_as_it_was(server: Server):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    environment = CLEAN | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    words = [*CEML, "top", "--runtime-dir", str(server.folder)]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        drawn = b""
        deadline = time.monotonic() + 30
        while b"J/step" not in drawn and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                drawn += os.read(ours, 65536)
        assert b"\x1b[?1049h" in drawn
        process.terminate()
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.05)[0]:
                drawn += os.read(ours, 65536)
        while select.select([ours], [], [], 0.2)[0]:
            drawn += os.read(ours, 65536)
        assert process.wait(10) == 128 + 15
    assert b"\x1b[?1049l" in drawn
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_without_the_package_it_says_what_to_install(tmp_path: Path):
    code = (
        "import sys, pty, os\nsys.modules['textual'] = None\nfrom ceml.cli import main\n"
        "sys.exit(main(['top', '--runtime-dir', sys.argv[1]]))"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True, env=CLEAN | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 2
    assert "pip install 'ceml-runtime[tui]'" in done.stderr
