"""The read-back: once a second the machine is asked whether it still is where it was put, and after each suspension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from ceml.domain.events import MachineResumed
from ceml.timeline import next_tick

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from ceml.control.applier import Applier
    from ceml.control.bus import Bus

PERIOD_S = 1.0  # the shortest windows that count are about as long; a look costs a few tenths of a millisecond
SHORTEST_SLEEP_S = 0.5  # of a suspension: clocks are read one after the other, so less may be nothing


class ReadBack:
    """Asks the applier to look, which never does while it turns a knob."""

    def __init__(
        self, bus: Bus, applier: Applier, *, period_s: float = PERIOD_S, slept_s: Callable[[], float] = float
    ) -> None:
        """Wire it up.

        Args:
            bus: Where a resumption is announced.
            applier: Who looks, and asserts again.
            period_s: Seconds between two looks.
            slept_s: Seconds that the machine has been suspended so far.
        """
        self._bus = bus
        self._applier = applier
        self._period_s = period_s
        self._slept_s = slept_s

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Look until cancelled."""
        slept_s = self._slept_s()
        task_status.started()
        while True:
            await anyio.sleep_until(next_tick(anyio.current_time(), self._period_s))
            asleep_s, slept_s = self._slept_s() - slept_s, self._slept_s()
            if asleep_s >= SHORTEST_SLEEP_S:
                self._bus.publish(MachineResumed(at_s=anyio.current_time(), asleep_s=asleep_s))
                self._applier.assert_again(f"the machine was suspended for {asleep_s:.0f} s")
            else:
                self._applier.look_back()
