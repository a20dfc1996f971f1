"""Many tasks of one kind on all cores, in processes that know what the tasks share."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, TypeVar

from ceml.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Work = TypeVar("Work")
Task = TypeVar("Task")
Result = TypeVar("Result")


def each(
    task: Callable[[Work, Task], Result],
    work: Work,
    tasks: Sequence[Task],
    *,
    processes: int,
    tell: Callable[[int], None],
) -> list[Result]:
    """What comes of all tasks, in their order whatever the number of processes.

    Args:
        task: What is done with each; a function of a module, so that processes find it.
        work: What they share.
        tasks: What to do.
        processes: How many at once; 1: in this very process.
        tell: Called with the number of jobs done, after each.

    Raises:
        Unavailable: A process was killed from outside, e.g. for want of memory.
    """
    if processes == 1 or len(tasks) < 2:
        done: list[Result] = []
        for one in tasks:
            done.append(task(work, one))
            tell(len(done))
        return done
    spawn = multiprocessing.get_context("spawn")  # fork would copy what numpy's threads hold
    count = min(processes, len(tasks))
    results: dict[int, Result] = {}
    with ProcessPoolExecutor(count, mp_context=spawn, initializer=_begin, initargs=(work,)) as pool:
        try:
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # they are started deaf to Ctrl-C, which we hear
            try:
                places = {pool.submit(_shared_work, task, one): place for place, one in enumerate(tasks)}
            finally:
                signal.signal(signal.SIGINT, before)
            for future in as_completed(places):
                results[places[future]] = future.result()
                tell(len(results))
        except BrokenProcessPool as error:
            raise Unavailable("a process of the bench was killed from outside; try fewer of them: --jobs 1") from error
        except BaseException:  # Ctrl-C above all: nobody wants to wait for runs that nobody will see
            for child in multiprocessing.active_children():
                child.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[place] for place in range(len(tasks))]


_shared: list[Any] = []  # of a process of the pool: what all its tasks share, so that it travels once


def _begin(work: object) -> None:
    _shared.append(work)


def _shared_work(task: Callable[[Any, Task], Result], one: Task) -> Result:
    return task(_shared[0], one)
