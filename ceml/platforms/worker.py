"""One thread for the slow files of one bus: nothing blocks the mind, and a stuck read never gets a second thread.

A driver may take seconds for a write, or never come back. The caller's deadline then ends its waiting, not the
write, so whoever comes next is told so (a reading, an order) or waits for the first to end (putting back).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio.to_thread import run_sync  # noqa: TID251 - real devices only: real time, never virtual

from ceml.errors import Temporary

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LOOK_S = 0.002  # between two looks whether a call that nobody waits for any more has ended


class Worker:
    """Runs one blocking call at a time."""

    def __init__(self, what: str) -> None:
        """Name it: `what` goes into the message of one who comes too early."""
        self._what = what
        self._busy = False

    async def run(self, work: Callable[[], T], *, wait: bool = False) -> T:
        """Run `work` in a thread. Cancelled, the call goes on alone and the worker stays busy until it ends.

        Args:
            work: What to run; its errors come through.
            wait: Wait while an earlier call is still running.

        Raises:
            Temporary: An earlier call has not ended, and `wait` is False.
        """
        while self._busy:
            if not wait:
                raise Temporary(f"{self._what} has not answered the call before; it is left alone until it does")
            await anyio.sleep(LOOK_S)
        self._busy, begun = True, False

        def call() -> T:
            nonlocal begun
            begun = True
            try:
                return work()
            finally:
                self._busy = False

        try:
            return await run_sync(call, abandon_on_cancel=True)
        finally:
            if not begun:  # cancelled before a thread took it up
                self._busy = False
