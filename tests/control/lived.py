"""A controller with its applier and read-back on dials that remember, beside a story. In virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import anyio

from ceml.control.applier import Applier
from ceml.control.bus import Bus
from ceml.control.controller import Controller
from ceml.control.machine import Machine
from ceml.control.readback import ReadBack
from ceml.domain.events import (
    AppJoined,
    Event,
    Heartbeat,
)
from ceml.domain.knobs import Configuration, Knob, KnobSpace
from ceml.domain.manager import RuntimeManager
from ceml.domain.mind import Mind
from ceml.domain.response.paper import paper as paper_model
from ceml.domain.sampling import paper as paper_sampler
from ceml.domain.sampling import seven_states
from ceml.domain.search import exhaustive
from ceml.errors import Refused, Temporary
from ceml.plugins.performance import performance
from ceml.saved import Item, Saved, Unrestored

if TYPE_CHECKING:
    from collections.abc import Callable

KNOBS = (
    Knob(name="cpu_hz", levels=(0.8e9, 1.1e9, 1.4e9, 2e9), settle_s=0.001),
    Knob(name="gpu_hz", levels=(0.3e9, 0.5e9, 0.6e9, 1e9), settle_s=0.005),
)
SPACE = KnobSpace(KNOBS)
TOP = SPACE.configuration(SPACE.max_state)
PLAN = {SPACE.configuration(state) for state in seven_states(SPACE)}


class Dial:
    """One knob that remembers; can be slow, stubborn, or impossible to put back."""

    def __init__(
        self,
        knob: Knob,
        *,
        delay_s: float = 0.0,
        refuses: tuple[float, ...] = (),
        stuck: bool = False,
        busy: int = 0,
    ) -> None:
        self.knobs = (knob,)
        self.level = knob.levels[-1]
        self.writes: list[float | str] = []
        self._delay_s, self._refuses, self._stuck, self._busy = delay_s, refuses, stuck, busy

    async def locate(self) -> Configuration:
        return Configuration({self.knobs[0].name: self.level})

    async def glance(self) -> Configuration:
        return await self.locate()

    async def apply(self, wanted: Configuration) -> Configuration:
        await anyio.sleep(self._delay_s)
        level = wanted[self.knobs[0].name]
        if self._busy and level != self.level:
            self._busy -= 1
            raise Temporary("busy")
        if level in self._refuses:
            raise Refused(f"{level} is not for me", knob=self.knobs[0].name)
        self.level = level
        self.writes.append(level)
        return await self.locate()

    async def save(self) -> Saved:
        return Saved((Item("dial", self.knobs[0].name, str(self.level)),))

    async def restore(self, saved: Saved) -> tuple[Unrestored, ...]:
        for item in saved.items:
            if item.target == self.knobs[0].name and item.value is not None:
                if self._stuck:
                    return (Unrestored(item.target, "it is stuck"),)
                self.level = float(item.value)
        return ()


def lived(
    virtually,
    dials: list[Dial],
    story: Callable,
    *,
    slept_s: Callable[[], float] = float,
    rails: tuple[str, ...] = (),
    space: KnobSpace = SPACE,
    **options,
) -> tuple[list[Event], Controller]:
    """Run a story beside a controller and its read-back; returns everything that was published."""
    heard: list[Event] = []
    made: list[Controller] = []

    async def main() -> None:
        bus = Bus()
        eyes = bus.subscribe("eyes", *get_args(Event))
        machine = Machine(dials)
        mind = Mind(
            objective=performance(),
            model=paper_model(),
            sampler=paper_sampler(beats=3),
            search=exhaustive(),
            total_rails=rails,
            power_sensors=frozenset({"meter"} if rails else ()),
        )
        own = {name: options.pop(name) for name in ("limits", "patience_s", "slow_s") if name in options}
        applier = Applier(bus, machine, space, saved=await machine.save(), **options)
        controller = Controller(bus, applier, lambda joined, limits: RuntimeManager(joined, space, mind, limits), **own)
        made.append(controller)
        async with anyio.create_task_group() as group:
            for actor in (applier, controller, ReadBack(bus, applier, slept_s=slept_s)):
                await group.start(lambda *, task_status, actor=actor: actor.run(task_status=task_status))
            await story(bus)
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        eyes.close()
        heard.extend([event async for event in eyes])

    virtually(main)
    return heard, made[0]


def of(heard: list[Event], kind: type) -> list:
    return [event for event in heard if isinstance(event, kind)]


async def beats(bus: Bus, app: str, how_many: int, source: str = "") -> None:
    for number in range(how_many):
        await anyio.sleep(0.1)
        bus.publish(Heartbeat(at_s=anyio.current_time(), app=app, source=source, beat=number))


def join(app: str, source: str = "") -> AppJoined:
    return AppJoined(at_s=anyio.current_time(), app=app, source=source)
