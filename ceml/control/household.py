"""Tasks of the house: each has a name, says when it is ready, and does not end unnoticed."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import structlog

from ceml.errors import CemlError, Temporary, place_in_plugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup, TaskStatus

LONGEST_DELAY_S = 60.0


class Actor(Protocol):
    """Something that lives as long as the house: it runs until cancelled and calls `started()` when ready."""

    async def __call__(self, *, task_status: TaskStatus[None]) -> None:
        """Run until cancelled."""
        ...


class _Once:
    """Passes `started()` on the first time only: a restarted actor says it again."""

    def __init__(self, task_status: TaskStatus[None]) -> None:
        self._task_status = task_status
        self.said = False

    def started(self, value: Any = None) -> None:
        if not self.said:
            self.said = True
            self._task_status.started(value)


async def keep(name: str, actor: Actor, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Run an actor for ever; `Temporary` starts it again with growing patience.

    Raises:
        CemlError: The actor ended by itself: an incident.
        Exception: Whatever else it raised; it ends the group, which unwinds and restores the knobs.
    """
    log = structlog.get_logger().bind(task=name)
    status, delay_s = _Once(task_status), 0.0
    while True:
        try:
            await actor(task_status=status)
        except Temporary as error:
            delay_s = min(max(error.delay_s, 2 * delay_s), LONGEST_DELAY_S)
            log.warning("task_failed_for_now", reason=str(error), again_in_s=delay_s)
            await anyio.sleep(delay_s)
            continue
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            place = place_in_plugin(error)
            if place is None or anyio.current_effective_deadline() == -inf:  # somebody cancels us, or pressed Ctrl-C
                raise
            raise CemlError(f"{place} raised {type(error).__name__}: the run is ended") from error
        raise CemlError(f"the {name} ended by itself; that is a bug")


class Household:
    """Starts actors one after the other, each ready before the next begins."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = group

    async def start(self, name: str, actor: Actor) -> None:
        """Start an actor that lives as long as the house; returns when it is ready."""
        await self._group.start(keep, name, actor, name=name)

    def visit(self, name: str, errand: Callable[[], Any]) -> None:
        """Start something that may end by itself."""
        self._group.start_soon(errand, name=name)
