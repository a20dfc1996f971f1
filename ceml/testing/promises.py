"""What a promise is, and how to find out whether a part keeps it: alone, within a time limit, whatever it raises."""

from __future__ import annotations

import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from ceml.errors import CemlError, raised_by_code

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import FrameType

T = TypeVar("T")

LIMIT_S = 20.0  # for one promise; what takes longer hangs, as far as a control loop is concerned
WHOLE_S = 60.0  # for all of them; our own parts take half a second
SLOW_S = 0.05  # for one question about 540 states: our own take 20 to 200 us, and a decision asks several times


class BrokenPromise(CemlError):
    """A part does not do what its contract says; the text names the promise and what came instead."""


class _TooLong(BaseException):
    """Raised inside of what takes too long; no Exception, so that a plugin's own `except Exception` lets it pass."""


def promise(held: object, text: str) -> None:
    """Raise where a promise does not hold.

    Raises:
        BrokenPromise: It does not.
    """
    if not held:
        raise BrokenPromise(text)


def broken(promises: Iterable[Callable[[], None]]) -> list[str]:
    """Ask for one promise after the other; what is wrong, in words, each fault once. Empty: all are kept."""
    return list(dict.fromkeys(filter(None, answers(promises))))


def answers(promises: Iterable[Callable[[], None]]) -> Iterator[str]:
    """What is wrong with one promise after the other, in words; empty where it is kept.

    The first promise is that there are sensible answers at all: if it is broken the others are not asked for. Nor are
    they after one that gave no answer in time, or when all together take too long.
    """
    begun_s = time.monotonic()
    for number, ask in enumerate(promises):
        if time.monotonic() - begun_s > WHOLE_S:
            yield f"it took more than {WHOLE_S:g} s to answer so far, and was asked for no more"
            return
        asked_s = time.monotonic()
        fault = _fault(ask)
        yield fault or ""
        if fault is not None and (number == 0 or time.monotonic() - asked_s >= LIMIT_S):
            return


def insist(promises: Iterable[Callable[[], None]]) -> None:
    """Ask for all of them.

    Raises:
        BrokenPromise: Some do not hold; one line each.
    """
    faults = broken(promises)
    promise(not faults, "\n".join(faults))


def _fault(ask: Callable[[], None]) -> str | None:
    try:
        with _limited(LIMIT_S), np.errstate(all="ignore"):
            ask()
    except CemlError as error:
        return str(error)
    except _TooLong as error:
        return _too_long(error, "a decision must take milliseconds")
    except BaseException as error:  # the part's own code: whatever it raises is said in words
        if not raised_by_code(error):
            raise
        return f"it raised {type(error).__name__}: {error} ({_place(error)})"
    return None


def in_time(ask: Callable[[], T], why: str) -> T:
    """What it answers; for what runs outside of a promise, such as making the plugin.

    Raises:
        BrokenPromise: It took too long, and was interrupted.
    """
    try:
        with _limited(LIMIT_S):
            return ask()
    except _TooLong as error:
        raise BrokenPromise(_too_long(error, why)) from None


def _too_long(error: BaseException, why: str) -> str:
    return f"it gave no answer within {LIMIT_S:g} s: it hangs, sleeps or waits, in {_place(error)}; {why}"


def _place(error: BaseException) -> str:
    """Where in somebody's file an error comes from: the last place that is none of ours, nor a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if "/ceml/testing/" not in frame.filename and "-packages" not in frame.filename]
    frame = (theirs or frames)[-1]
    return f"{frame.filename} line {frame.lineno}"


@contextmanager
def _limited(seconds: float) -> Generator[None]:
    """Interrupt what takes longer, where that is possible: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def told(_number: int, _frame: FrameType | None) -> None:
        raise _TooLong

    before = cast("Any", signal.signal(signal.SIGALRM, told))
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again and again: it may be caught by a bare except
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)


def quick(ask: Callable[[], object], what: str, most_s: float = SLOW_S) -> None:
    """Promise that an answer takes milliseconds, and say whether it is work or waiting that takes longer.

    The best of three attempts counts, for a first call may have something to prepare. What the machine gave to others
    meanwhile is neither work nor waiting: only who gives the processor away of his own accord waits.

    Raises:
        BrokenPromise: It does not.
    """
    works, waits = zip(*(_taken(ask) for _ in range(3)), strict=True)
    promise(
        min(works) <= most_s,
        f"too slow: {what} took {min(works):.2f} s of work; a decision asks several times and must take milliseconds. "
        "Compute with whole arrays, and prepare in the factory what does not change",
    )
    promise(
        min(waits) <= most_s,
        f"it waits: {what} took {min(waits):.2f} s, of which {min(works):.2f} s were work. It sleeps or asks something "
        "outside; a decision waits for nobody: look things up once, in the factory",
    )


def _taken(ask: Callable[[], object]) -> tuple[float, float]:
    """Seconds of work, and seconds on the clock where it waited meanwhile (else 0)."""
    wall_s, work_s = time.monotonic(), time.process_time()
    given_away = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    ask()
    waited = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw > given_away
    return time.process_time() - work_s, time.monotonic() - wall_s if waited else 0.0


def lines_run(ask: Callable[[], object]) -> int:
    """How many lines of Python it takes to answer: the same for few states as for many, if arrays do the work."""
    ask()  # what is prepared once does not count
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        ask()
    finally:
        sys.settrace(before)
    return count
