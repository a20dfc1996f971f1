"""All actuators of a platform as one machine: one configuration in, one configuration out, restored knob by knob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.control.ports import Limited
from ceml.domain.knobs import Configuration, Level
from ceml.saved import Saved, Unrestored

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ceml.control.ports import Actuator, NewLimit


class Machine:
    """Turns all knobs of a bundle in one coordinated action (C3)."""

    def __init__(self, actuators: Sequence[Actuator]) -> None:
        self._actuators = tuple(actuators)

    async def locate(self) -> Configuration:
        """What is true now, over all actuators."""
        levels: dict[str, Level] = {}
        for actuator in self._actuators:
            levels.update(await actuator.locate())
        return Configuration(levels)

    async def glance(self) -> Configuration:
        """What it is ordered to be, over all actuators; `?` where that cannot be read now."""
        levels: dict[str, Level] = {}
        for actuator in self._actuators:
            levels.update(await actuator.glance())
        return Configuration(levels)

    async def apply(self, wanted: Configuration) -> Configuration:
        """Turn the knobs; returns what is then true.

        Raises:
            Refused: A device would not take a value.
        """
        levels: dict[str, Level] = {}
        for actuator in self._actuators:
            own = {knob.name: wanted[knob.name] for knob in actuator.knobs if knob.name in wanted}
            levels.update(await actuator.apply(Configuration(own)))
        return Configuration(levels)

    async def allowed(self, saved: Saved) -> dict[str, tuple[Level, ...]]:
        """The levels that the limits of others leave, of the knobs that have such limits and answer."""
        found: dict[str, tuple[Level, ...]] = {}
        for actuator in self._actuators:
            if isinstance(actuator, Limited):
                found.update(await actuator.allowed(saved))
        return found

    async def new_limits(self, knobs: Collection[str]) -> tuple[NewLimit, ...]:
        """Limits of these knobs that somebody else set since they were put.

        Raises:
            CemlError: They cannot be read now.
        """
        return tuple(
            [
                limit
                for actuator in self._actuators
                if isinstance(actuator, Limited)
                for limit in await actuator.new_limits(knobs)
            ]
        )

    async def cools(self) -> bool:
        """Whether the kernel itself holds clocks down now.

        Raises:
            CemlError: That cannot be read now.
        """
        for actuator in self._actuators:
            if isinstance(actuator, Limited) and await actuator.cools():
                return True
        return False

    async def uncooled(self, now: Saved, before: Saved) -> Saved:
        """What stands there now, but limits that cooling may have lowered as they were before."""
        for actuator in self._actuators:
            if isinstance(actuator, Limited):
                now = await actuator.uncooled(now, before)
        return now

    async def save(self) -> Saved:
        """Everything that `apply` may touch, as it is now."""
        items = [item for actuator in self._actuators for item in (await actuator.save()).items]
        return Saved(tuple(items))

    async def restore(self, saved: Saved) -> tuple[Unrestored, ...]:
        """Put everything back; each actuator picks out what is its own. One failure stops nothing else."""
        failed: list[Unrestored] = []
        for actuator in reversed(self._actuators):
            failed += await actuator.restore(saved)
        return tuple(failed)
