"""A watched file of limits (`budget.toml`): what it says is in force a moment after it was saved.

    budget = "6W"
    rail_budget = ["gpu=3W"]
    target = "2.5/s"

The keys are those of the settings. What the file names is in force, `none` lifts a limit, and what it does not name
stays as it is: it may be half-written, and a cap must not be lost for that. The latest wish is in force, wherever it
came from: saving the file again, be it with the same text, takes back what the control socket changed of it since.

Where it no longer names what it named before, or is taken away, `BudgetRefused` says once that it stays, and what lifts
it. What is no good is refused as well, and what was in force stays so.

The file is looked at by stat() twice a second: 2 us each. The watcher library `watchfiles` costs 2.5 MB of resident
memory, two threads and 1 ms of CPU time a second (measured), and threads are invisible to virtual time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio

from ceml.domain.events import BudgetChanged, BudgetRefused
from ceml.errors import SettingsError
from ceml.sources import changed_limits
from ceml.store.toml_file import read_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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
        check: Raises SettingsError for limits that this board cannot keep.
        in_force: Tells the limits in force, or about to be.
        speed: Seconds of the loop per second of the clock.
    """

    def __init__(
        self,
        path: Path,
        check: Callable[[Limits], None],
        in_force: Callable[[], Limits],
        *,
        speed: float = 1.0,
    ) -> None:
        self._path = path
        self._check = check
        self._in_force = in_force
        self._speed = speed
        self._stamp: Stamp = None
        self._source = f"file {path}"
        self._named: frozenset[str] = frozenset()  # of which it is not said yet that they are named no more

    async def run(self, publish: Publish, *, task_status: TaskStatus[None]) -> None:
        """Watch until cancelled; what the file says at the start is in force once `started()` was called."""
        if (stamp := self._look()) is not None:
            self._take(stamp, publish)
        else:
            beware = f"{self._path} is not there (is it the right name?): the limits of the settings are in force"
            publish(BudgetRefused(at_s=anyio.current_time(), source=self._source, reason=beware))
        task_status.started()
        while True:
            await anyio.sleep(PERIOD_S * self._speed)
            if self._look() != self._stamp and (stamp := await self._at_rest()) != self._stamp:
                self._take(stamp, publish)

    async def _at_rest(self) -> Stamp:
        """The stamp once nobody writes any more; a file moved into the place of another is whole at once."""
        stamp, unrest_s = self._look(), 0.0
        while not self._replaced(stamp):
            await anyio.sleep(QUIET_S * self._speed)
            before, stamp, unrest_s = stamp, self._look(), unrest_s + QUIET_S
            if stamp == before or unrest_s >= LONGEST_UNREST_S:
                break
        return stamp

    def _replaced(self, stamp: Stamp) -> bool:
        return stamp is not None and self._stamp is not None and stamp[:2] != self._stamp[:2] and stamp[2] > 0

    def _take(self, stamp: Stamp, publish: Publish) -> None:
        self._stamp = stamp
        now_s = anyio.current_time()
        try:
            said = {} if stamp is None else read_toml(self._path, "budget file")
            limits = self._wanted(said)
        except SettingsError as error:
            publish(BudgetRefused(at_s=now_s, source=self._source, reason=str(error)))
            return
        if limits != self._in_force():
            publish(BudgetChanged(at_s=now_s, limits=limits, source=self._source))
        if missing := self._named - said.keys():
            publish(BudgetRefused(at_s=now_s, source=self._source, reason=self._stays(missing, gone=stamp is None)))
        self._named = frozenset(said)

    def _wanted(self, said: Mapping[str, object]) -> Limits:
        limits = changed_limits(self._in_force(), said, self._source)
        self._check(limits)
        return limits

    def _stays(self, missing: frozenset[str], *, gone: bool) -> str:
        what = "is gone" if gone else f"no longer names {' and '.join(sorted(missing))}"
        lifts = f'a line such as {min(missing)} = "none" in the file, or `ceml budget --clear`'
        return f"{self._path} {what}: what is in force stays. To lift it: {lifts}"

    def _look(self) -> Stamp:
        """What changes when the file does; None where there is none."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - twice a second for ever: no object in between
        except (OSError, ValueError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
