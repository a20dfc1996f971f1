"""A watched file of limits (`budget.toml`): what it says is in force a moment after it was saved.

    budget = "6W"
    rail_budget = ["gpu=3W"]
    target = "2.5/s"

The keys are those of the settings. What the file names overrides the settings; what it does not name is as they say;
`none` lifts a limit; without the file the settings alone count. What is no good is refused with `BudgetRefused`, and
what was in force stays so.

The file is looked at by stat() twice a second: 2 us each. The watcher library `watchfiles` costs 2.5 MB of resident
memory, two threads and 1 ms of CPU time a second (measured), and threads are invisible to virtual time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio

from ceml.domain.events import BudgetChanged, BudgetRefused
from ceml.errors import SettingsError
from ceml.settings import changed_limits
from ceml.store.toml_file import read_toml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anyio.abc import TaskStatus

    from ceml.control.ports import Publish
    from ceml.domain.values import Limits

    Stamp = tuple[int, int, int, int] | None

PERIOD_S = 0.5  # between two looks
QUIET_S = 0.1  # a file written in place must rest so long before it is read: it may be half-written
LONGEST_UNREST_S = 5.0  # then it is read all the same: somebody writes to it without end


class BudgetFile:
    """Watches one file and publishes `BudgetChanged` or `BudgetRefused`; nothing in the file ends it.

    Args:
        path: The file; it may be absent.
        settings: The limits of the settings.
        check: Raises SettingsError for limits that this board cannot keep.
        speed: Seconds of the loop per second of the clock.
    """

    def __init__(self, path: Path, settings: Limits, check: Callable[[Limits], None], *, speed: float = 1.0) -> None:
        self._path = path
        self._settings = settings
        self._check = check
        self._speed = speed
        self._stamp: Stamp = None
        self._limits = settings

    async def run(self, publish: Publish, *, task_status: TaskStatus[None]) -> None:
        """Watch until cancelled; what the file says at the start is in force once `started()` was called."""
        if (stamp := self._look()) is not None:
            self._take(stamp, publish)
        task_status.started()
        while True:
            await anyio.sleep(PERIOD_S * self._speed)
            if (stamp := self._look()) != self._stamp:
                self._take(await self._at_rest(stamp), publish)

    async def _at_rest(self, stamp: Stamp) -> Stamp:
        """The stamp once nobody writes any more; a file moved into its place is whole at once."""
        unrest_s = 0.0
        while stamp is not None and self._stamp is not None and stamp[:2] == self._stamp[:2]:
            await anyio.sleep(QUIET_S * self._speed)
            before, stamp, unrest_s = stamp, self._look(), unrest_s + QUIET_S
            if stamp == before or unrest_s >= LONGEST_UNREST_S:
                break
        return stamp

    def _take(self, stamp: Stamp, publish: Publish) -> None:
        self._stamp = stamp
        source, now_s = f"file {self._path}", anyio.current_time()
        try:
            said = {} if stamp is None else read_toml(self._path, "budget file")
            limits = changed_limits(self._settings, said, source)
            self._check(limits)
        except SettingsError as error:
            publish(BudgetRefused(at_s=now_s, source=source, reason=str(error)))
            return
        if limits != self._limits:
            self._limits = limits
            publish(BudgetChanged(at_s=now_s, limits=limits, source=source))

    def _look(self) -> Stamp:
        """What changes when the file does; None where there is none."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - twice a second for ever: no object in between
        except (OSError, ValueError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
