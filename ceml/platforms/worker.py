"""One thread for the slow files of one bus: nothing blocks the mind, and a stuck read never gets a second thread.

A driver may take seconds for a write, or never come back. The caller's deadline then ends its waiting, not the
write, so whoever comes next is told so (a reading, an order) or waits for the first to end (putting back). The thread
is a daemon: a call that never comes back does not keep the process alive once everything else is over, unless the
kernel does, since it sleeps there uninterruptibly.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from ceml.errors import Temporary
from ceml.platforms import sysfs

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Order = tuple["Callable[[], Any]", asyncio.AbstractEventLoop, "asyncio.Future[Any]"]

LOOK_S = 0.002  # between two looks whether a call that nobody waits for any more has ended
STUCK_S = 2.0  # drivers take milliseconds; what takes this long may never come back
IDLE_S = 5.0  # without a call, after which the thread ends; the next call begins another


class Worker:
    """Runs one blocking call at a time."""

    def __init__(self, what: str) -> None:
        """Name it: `what` goes into the message of one who comes too early."""
        self._what = what
        self._busy = False
        self._orders: SimpleQueue[Order] = SimpleQueue()
        self._alive = False  # the thread, or about to be
        self._change = threading.Lock()
        self._abandoned = threading.Event()

    async def run(self, work: Callable[[], T], *, wait: bool = False) -> T:
        """Run `work` in the thread. Cancelled, the call goes on alone and the worker stays busy until it ends.

        Args:
            work: What to run; its errors come through.
            wait: Wait while an earlier call is still running, `STUCK_S` at most.

        Raises:
            Temporary: An earlier call has not ended.
        """
        until_s = anyio.current_time() + STUCK_S
        while self._busy:
            if not wait or anyio.current_time() >= until_s:
                raise Temporary(f"{self._what} has not answered the call before; it is left alone until it does")
            await anyio.sleep(LOOK_S)
        self._busy = True
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._orders.put((work, loop, answer))
        with self._change:
            if not self._alive:
                threading.Thread(target=self._work, name=self._what, daemon=True).start()
                self._alive = True
        return await answer

    @property
    def busy(self) -> bool:
        """Whether a call has not ended."""
        return self._busy

    def abandon(self) -> None:
        """Another worker takes over: should the call that is under way ever go on, it gives no order any more."""
        self._abandoned.set()

    def _work(self) -> None:
        """The thread."""
        sysfs.orders.given_up = self._abandoned.is_set
        while True:
            try:
                work, loop, answer = self._orders.get(timeout=IDLE_S)
            except Empty:
                with self._change:
                    if self._orders.empty():
                        self._alive = False
                        return
                continue
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:  # whatever it is: who asked is told
                error = raised
            self._busy = False
            with suppress(RuntimeError):  # nobody waits any more: the loop is closed
                loop.call_soon_threadsafe(_tell, answer, result, error)
            del work, loop, answer, result, error  # nothing is kept alive while it waits


def _tell(answer: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if answer.done():  # who asked was cancelled
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
