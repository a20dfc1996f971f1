"""Signals that end programs: they wake the loop, and what keeps the loop from answering is said, then interrupted.

The loop is one thread. A plugin that never returns would make the run deaf for ever; a handler of Python's own still
runs, between two instructions of whatever holds the loop up.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from ceml.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import FrameType

ENDING = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,  # the terminal was closed
    signal.SIGQUIT,
    signal.SIGUSR1,  # these two mean nothing to us, and would end us with the knobs turned
    signal.SIGUSR2,
)
PATIENCE_S = 4.0  # a loop that lives answers within milliseconds; service managers kill after 10 s and more
HANGS = 5  # times in a row that it did not answer: nobody guards a cap, nor hears that the program is over
START_S = 60.0  # a plugin may import much, on a small board; what takes longer than this will not come
DEAF = 10  # times that it was interrupted in vain: it swallows whatever is raised


async def interruptible(work: Callable[..., Awaitable[object]], *given: object) -> bool:
    """Do some work in a loop of its own, which Ctrl-C ends: it is cancelled until it is over. Returns whether it was.

    The loop's own answer to Ctrl-C cancels the task once. That is lost where a scope inside of it is cancelled in the
    same turn, as a played program's is whenever another configuration comes, and the run would go on.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) in (
        signal.SIG_IGN,
        signal.SIG_DFL,
        None,
    ):
        await work(*given)
        return False
    loop, came = asyncio.get_running_loop(), False

    def told(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:  # it does not hear
            signal.default_int_handler(number, frame)
        came = True
        loop.call_soon_threadsafe(scope.cancel)

    with anyio.CancelScope() as scope:
        before = signal.signal(signal.SIGINT, told)
        try:
            await work(*given)
        finally:
            signal.signal(signal.SIGINT, before)
    return came


@contextmanager
def heard_once(came: Callable[[], bool]) -> Generator[None]:
    """Have Ctrl-C pressed twice mean what it means pressed once: what follows, such as a summary, is not cut short.

    To be entered before the loop runs, whose own handler would cancel what is being put in order; what it replaces
    comes back only where no signal came, since otherwise the program is about to end.

    Args:
        came: Whether the signal that ends the run has come.
    """

    def told(number: int, frame: FrameType | None) -> None:
        if not came():
            signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, told)
    try:
        yield
    finally:
        if came():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        elif before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


class HeldUp(BaseException):
    """Raised inside of what holds the loop up; no Exception, so that a plugin's own `except Exception` lets it pass."""


@contextmanager
def start_watched() -> Generator[None]:
    """Say what a start waits for where it takes long, e.g. a plugin that never returns; any signal ends it.

    Raises:
        Unavailable: It takes longer than `START_S`.
    """
    took_s = PATIENCE_S

    def told(_number: int, frame: FrameType | None) -> None:
        nonlocal took_s
        place = _place(frame)
        if took_s < START_S:
            took_s += HANGS * PATIENCE_S
            sys.stderr.write(f"ceml: still starting, and no pipe yet: a plugin or a disk holds it up, in {place}\n")
            return
        raise HeldUp(place)

    before = signal.signal(signal.SIGALRM, told)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S, HANGS * PATIENCE_S)
    try:
        yield
    except HeldUp as error:
        raise Unavailable(
            f"the start took longer than {START_S:g} s: a plugin, a driver or a disk holds it up, in {error}. Nothing "
            "was turned. ceml doctor names a file whose driver hangs, ceml plugin check a line in which a plugin does"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)


_LAST_WORDS = "ceml: {} held the run up and swallowed each interruption: {}\n"


class Ending:
    """The signals that end programs, while this context lasts; afterwards they do what they did before.

    The loop is asked every `PATIENCE_S` whether it lives. That it does not answer is said; what holds it up is
    interrupted at once where a signal came, else after `HANGS` times: a run that hears nothing is better ended. Where
    it swallows that `DEAF` times, nothing of this program is of use any more, and another takes its place.

    Attributes:
        reason: Name of the first signal; empty: none came.
        heir: Command line of the program that takes our place, puts back, and ends as we should; empty: none, we end.
        held_up: Where the loop was held up and interrupted; empty: it answered.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.held_up = ""
        self.heir: list[str] = []
        self._came = anyio.Event()
        self._answered = False
        self._missed = 0  # answers in a row
        self._interrupted = 0  # times
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Ending:
        deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # `nohup` promised that the run goes on
        numbers = [number for number in ENDING if not (deaf and number == signal.SIGHUP)]
        self._before = {number: signal.signal(number, self._told) for number in numbers}
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._look)
        self._ask_from_now()
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @property
    def waited(self) -> str:
        """How long nothing answered, and what for, in words."""
        if self.reason:
            return f"{self.reason} came, and nothing answered for {PATIENCE_S:g} s"
        return f"nothing answered for {HANGS * PATIENCE_S:g} s"

    async def wait(self) -> str:
        """Wait for the first signal; returns its name."""
        await self._came.wait()
        return self.reason

    def rest(self) -> None:
        """Interrupt nothing any more: knobs that are being put back may take their time."""
        signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _told(self, number: int, _frame: FrameType | None) -> None:
        if self.reason:  # it is on its way
            return
        self.reason = signal.Signals(number).name
        self._loop.call_soon_threadsafe(self._came.set)
        self._ask_from_now()

    def _ask_from_now(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S, PATIENCE_S)  # again and again: it may be held up twice
        self._ask()

    def _ask(self) -> None:
        self._answered = False
        self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._answered = True

    def _look(self, _number: int, frame: FrameType | None) -> None:
        if self._answered:
            self._missed = 0
            self._ask()
            return
        self._missed += 1
        where = _place(frame)
        if not self.reason and self._missed < HANGS:
            if self._missed == 1:
                _tell(where)
            return
        self.held_up = self.held_up or where
        self._interrupted += 1
        if self._interrupted > DEAF:
            self.rest()  # the alarm would outlive us
            ends = "this process becomes ceml restore" if self.heir else "this process ends, and puts nothing back"
            os.write(2, _LAST_WORDS.format(where, ends).encode())
            if self.heir:
                os.execv(self.heir[0], self.heir)
            os._exit(2)
        raise HeldUp(where)


def _place(frame: FrameType | None) -> str:
    return f"{frame.f_code.co_filename} line {frame.f_lineno}" if frame else "an unknown place"


def _tell(where: str) -> None:
    problem = (
        f"for {PATIENCE_S:g} s no beat, sample or cap was looked at: a plugin or a disk holds the run up, in {where}; "
        f"where that goes on for {HANGS * PATIENCE_S:g} s, the run is ended and the knobs are put back"
    )
    with suppress(RuntimeError):  # that very line may be held up while it writes to the log
        structlog.get_logger().warning("held_up", problem=problem)
