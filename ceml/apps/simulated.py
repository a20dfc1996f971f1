"""The program that runs on the simulated board: a process of its own that paces itself by the board's clocks.

It is a program of the user's kind. It knows the daemon by two things only: it beats through the pipe like any other
program, and it reads from `board.json` how fast the (simulated) machine below it runs, which the silicon tells a real
program. Its clock is the board's: `origin_s + (monotonic - origin_s) * speed`.
"""

from __future__ import annotations

import math
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ceml.apps.client import attach
from ceml.errors import SettingsError, Unavailable
from ceml.plant.board import jetson_tx2
from ceml.plant.machine import progress
from ceml.plant.table import Table, parse_fix, parse_limit
from ceml.store import board_file
from ceml.store.lock import holder_lives
from ceml.store.paths import RuntimePaths, read_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ceml.plant.machine import Plant
    from ceml.store.board_file import BoardFile

LOOK_S = 0.005  # wall seconds between two looks at the board's file
STARTING_S = 2.0  # a board's file this young may be of a server that has not taken its lock yet
STALL_S = 0.02  # overslept by more than this, the process was stopped: that time was not worked in


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How the program ended.

    Attributes:
        app: The name it beat under.
        steps: Steps done.
        seconds: What they took, in board time.
        reason: `done`, or the name of the signal that ended it.
    """

    app: str
    steps: int
    seconds: float
    reason: str


class PacedBoard:
    """The machine as the program feels it: `step` takes as long as the configuration in force makes it take.

    Attributes:
        plant: How the program runs on the machine.
        at_s: Board time that the work done so far reaches: the exact end of the last step.
        began_s: Board time at which it began, on the clock of the server that is here now.
    """

    def __init__(self, path: Path, workload: str, wait_s: float) -> None:
        self._path = path
        self._seen = board_file.stamp(path)
        self._board = _in_our_time(_wait_for(path, wait_s))
        self.plant = plant_of(self._board.plant, workload)
        self.at_s = self.began_s = self._now_s()

    def clock(self) -> float:
        """Board time of the last step's end, for the beats: free of how late the operating system woke us."""
        return self.at_s

    def step(self, noise: float, stop: Stop) -> bool:
        """Work on one step until it is complete; False if the program was told to stop before."""
        left = 1.0
        while left > 0.0:
            if stop.reason:
                return False
            self._rest(left, noise)
            self._look()
            left = self._work(left, noise, self._now_s())
        return True

    def _rest(self, left: float, noise: float) -> None:
        """Sleep until the step should be complete or the board should be looked at; leave out time spent stopped."""
        board = self._board
        step_s = float(self.plant.step_s[self._state(self.at_s)])
        due_s = (self.at_s + left * step_s * noise - self._now_s()) / board.speed
        rest_s = min(LOOK_S, due_s)
        if rest_s > 0.0:
            before = time.monotonic()
            time.sleep(rest_s)
            overslept_s = time.monotonic() - before - rest_s
            if overslept_s > STALL_S:
                self.at_s += overslept_s * board.speed

    def _work(self, left: float, noise: float, until_s: float) -> float:
        """Progress from `at_s` to `until_s`, piecewise over a change of configuration between; what is left."""
        while left > 0.0 and self.at_s < until_s:
            change_s = self._board.in_force_s if self.at_s < self._board.in_force_s else math.inf
            available_s = min(until_s, change_s) - self.at_s
            left, used_s = progress(left, float(self.plant.step_s[self._state(self.at_s)]), noise, available_s)
            self.at_s = min(until_s, change_s) if left > 0.0 else self.at_s + used_s
        return left

    def _state(self, at_s: float) -> int:
        board, space = self._board, self.plant.space
        state = space.find(board.configuration if at_s >= board.in_force_s else board.before)
        return space.max_state if state is None else state

    def _now_s(self) -> float:
        board = self._board
        return board.origin_s + (time.monotonic() - board.origin_s) * board.speed

    def _look(self) -> None:
        """Read the board's file if it was replaced. Gone or unreadable: the machine stays what it was."""
        stamp = board_file.stamp(self._path)
        if stamp is None or stamp == self._seen:
            return
        self._seen = stamp
        try:
            found = board_file.read(self._path)
        except SettingsError:
            return
        if found is None or found.plant != self._board.plant:
            return  # another machine was put under a running program: finish on the one it began on
        found = _in_our_time(found)
        moved = (found.origin_s, found.speed) != (self._board.origin_s, self._board.speed)
        self._board = found
        if moved:  # a new daemon with another time base: go on from its now
            worked_s = self.at_s - self.began_s
            self.at_s = self._now_s()
            self.began_s = self.at_s - worked_s


def _in_our_time(board: BoardFile) -> BoardFile:
    """A board that was made on a clock that is ahead of ours is of another boot: its time begins anew, now."""
    now_s = time.monotonic()
    return board if board.origin_s <= now_s else replace(board, origin_s=now_s, in_force_s=0.0)


def _is_left_alone(paths: RuntimePaths) -> bool:
    """Whether nobody controls the board: no server lives, and none has just made the board to begin."""
    seen = board_file.stamp(paths.board)
    fresh = seen is not None and time.time() - seen[1] / 1e9 < STARTING_S
    return not fresh and not holder_lives(paths.lock)


def run(
    runtime_dir: Path | str | None,
    workload: str,
    steps: int,
    *,
    name: str | None = None,
    pipe: str | None = None,
    seed: int = 0,
    noise_time: float = 0.02,
    wait_s: float = 10.0,
    say: Callable[[str], None] = lambda told: None,
) -> Finished:
    """Run a program on the simulated board until it is done or told to stop by SIGINT or SIGTERM.

    Args:
        runtime_dir: Where the board is; None: the usual place (see `RuntimePaths.at`).
        workload: Which program.
        steps: How many steps.
        name: Name to beat under; None: the workload's.
        pipe: Where to beat; None: the pipe in `runtime_dir` where that is given, else where every client looks.
        seed: Of the noise in step times.
        noise_time: Its coefficient of variation; lognormal of mean 1.
        wait_s: Seconds to wait for the board to appear.
        say: Told what a person should know meanwhile.

    Raises:
        SettingsError: The workload or a number is no good for this board.
        Unavailable: No board within `wait_s`.
    """
    if steps < 1 or not 0.0 <= noise_time <= 1.0 or not wait_s >= 0.0:
        raise SettingsError(
            f"steps={steps}, noise_time={noise_time}, wait_s={wait_s}: a program needs at least one step, "
            "noise from 0 to 1 (0.02 = 2 %) and no negative wait"
        )
    paths = RuntimePaths.at(runtime_dir)
    if pipe is None and runtime_dir is not None:
        pipe = str(paths.beats)
    board = PacedBoard(paths.board, workload, wait_s)
    if _is_left_alone(paths):
        say(f"nobody controls the board {paths.board} (start `ceml serve`); running at the clocks it was left at")
    variance = math.log1p(noise_time**2)
    draws = np.random.default_rng((seed, 0)).lognormal(-variance / 2, math.sqrt(variance), steps)
    app, done, reason = name or workload, 0, "done"
    try:
        with (
            _told_by_signals() as stop,
            board_file.announced(paths.load, workload),
            attach(app, total_work=steps, pipe=pipe, clock=board.clock) as beats,
        ):
            for noise in draws.tolist():
                if not board.step(noise, stop):
                    reason = stop.reason
                    break
                beats.beat()
                done += 1
    except OSError as error:
        raise SettingsError(f"{paths.load} cannot be written: {error.strerror}; use another --runtime-dir") from None
    return Finished(app=app, steps=done, seconds=board.at_s - board.began_s, reason=reason)


def plant_of(description: Any, workload: str) -> Plant:
    """Build the plant that a board's file describes.

    Raises:
        SettingsError: The board does not run this workload, or the description is not one of ours.
    """
    try:
        if description["kind"] == "table":
            return _table_plant(description, workload)
        return jetson_tx2(workload, range=description["range"])
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"the board's file does not say what board it is ({error!r}); remove it") from None


def _table_plant(description: Any, workload: str) -> Plant:
    if workload != description["workload"]:
        raise SettingsError(f"workload={workload!r}: this board replays {description['workload']!r} and nothing else")
    path = Path(description["table"])
    return Table.parse(read_lines(path, "table"), path.name).grid(
        workload,
        description["batch"],
        dict(map(parse_fix, description["fix"])),
        dict(map(parse_limit, description["limit"])),
        measured=description["measured"],
        steps=description["steps"],
    )


def _wait_for(path: Path, wait_s: float) -> BoardFile:
    until = time.monotonic() + wait_s
    while (board := board_file.read(path)) is None:
        if time.monotonic() >= until:
            raise Unavailable(
                f"no simulated board at {path} after {wait_s:g} s: start `ceml serve --platform simulated` first, "
                "or give both the same --runtime-dir"
            )
        time.sleep(min(0.02, wait_s))
    return board


class Stop:
    """Whether the program was told to stop, and by what.

    Attributes:
        reason: Name of the signal; empty: not yet.
    """

    reason = ""


@contextmanager
def _told_by_signals() -> Generator[Stop]:
    """SIGINT and SIGTERM tell the program to stop while this lasts; it ends at the next look at the board."""
    stop = Stop()

    def told(number: int, frame: object) -> None:
        stop.reason = signal.Signals(number).name

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
