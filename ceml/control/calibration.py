"""The sweep behind `ceml calibrate`: put loads on the machine, turn one device through its levels, note what it draws.

It knows no device and starts no process: what turns, what measures and what loads are handed to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import anyio

from ceml.domain.events import Sampled, SensorLost
from ceml.domain.knobs import Configuration, KnobKind
from ceml.domain.response.calibrating import Stressed
from ceml.domain.sums import Integral
from ceml.errors import Refused, Temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ceml.control.bus import Bus
    from ceml.control.machine import Machine
    from ceml.domain.knobs import Knob, KnobSpace, Level

LEAST_SAMPLES = 3  # of power and of utilisation, after the one that only starts the clock
PATIENCE = 10.0  # windows to wait for them; then the state is left out
TRIES = 3


class Load(Protocol):
    """Something that keeps devices busy."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def devices(self) -> Sequence[str]:
        """Which devices it is meant to keep busy; empty: any."""
        ...

    async def start(self) -> None:
        """Put it on the machine; returns when it is at work.

        Raises:
            CemlError: It cannot be had.
        """
        ...

    async def stop(self) -> None:
        """Take it off again; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One state to measure.

    Attributes:
        load: What keeps the machine busy; None: nothing.
        device: The device that is turned.
        level: Its level; all other knobs are at their highest.
    """

    load: Load | None
    device: str
    level: Level


@dataclass
class Sweep:
    """What is to be measured, and what was.

    Attributes:
        steps: In order; steps with the same load follow on each other.
        window_s: How long each is measured.
        measured: Device -> what was measured.
        problems: What was left out, a sentence each.
    """

    steps: Sequence[Step]
    window_s: float
    measured: dict[str, list[Stressed]] = field(default_factory=dict[str, list[Stressed]])
    problems: list[str] = field(default_factory=list[str])


def devices_of(space: KnobSpace, rails: Sequence[str]) -> tuple[dict[str, Knob], list[str]]:
    """Devices with a clock and a rail of their own; and why others are left out."""
    found: dict[str, Knob] = {}
    problems: list[str] = []
    for knob in space.knobs:
        if knob.kind is not KnobKind.FREQUENCY:
            problems.append(f"{knob.name} is left out: Eq. 2 is about clocks")
        elif knob.device not in rails:
            has = ", ".join(rails) or "none"
            problems.append(f"{knob.device} is left out: no power rail is its own (rails here: {has})")
        else:
            found[knob.device] = knob
    return found, problems


def planned(knobs: Mapping[str, Knob], loads: Sequence[Load], most_levels: int | None) -> list[Step]:
    """Every level of every device without a load, and under each load that is meant for it."""
    steps: list[Step] = []
    for load in (None, *loads):
        for device, knob in knobs.items():
            if load is None or not load.devices or device in load.devices:
                steps += [Step(load, device, level) for level in thinned(knob.levels, most_levels)]
    return steps


def thinned(levels: Sequence[Level], most: int | None) -> list[Level]:
    """At most so many of the levels, evenly, both ends among them."""
    last, count = len(levels) - 1, len(levels) if most is None else max(min(most, len(levels)), 1)
    return [levels[round(at * last / max(count - 1, 1))] for at in range(count)]


async def run(sweep: Sweep, machine: Machine, space: KnobSpace, bus: Bus, say: Callable[[int, Step], None]) -> None:
    """Measure every step. Loads are stopped whatever happens; putting the knobs back is the caller's.

    Args:
        sweep: What to measure; filled in.
        machine: What is turned.
        space: Its states.
        bus: Where sensors speak.
        say: Told of each step before it is measured.
    """
    active: Load | None = None
    top = space.configuration(space.max_state)
    try:
        for number, step in enumerate(sweep.steps):
            if step.load is not active:
                if active is not None:
                    await active.stop()
                active = step.load
                if active is not None:
                    await active.start()
            say(number, step)
            await _measure(sweep, step, machine, space, bus, top)
    finally:
        if active is not None:
            with anyio.CancelScope(shield=True):
                await active.stop()


async def _measure(sweep: Sweep, step: Step, machine: Machine, space: KnobSpace, bus: Bus, top: Configuration) -> None:
    knob = next(knob for knob in space.knobs if knob.device == step.device and knob.kind is KnobKind.FREQUENCY)
    what = f"{step.device} at {float(step.level) / 1e6:g} MHz under {step.load.name if step.load else 'no load'}"
    try:
        found = await _apply(machine, Configuration({**top, knob.name: step.level}))
    except (Refused, Temporary) as error:
        sweep.problems.append(f"{what} is left out: {error}")
        return
    level = found[knob.name]
    if not isinstance(level, float):
        sweep.problems.append(f"{what} is left out: it reads {level}")
        return
    await anyio.sleep(max(each.settle_s for each in space.knobs))
    power, busy = Integral(), Integral()
    await _listen(sweep.window_s, step.device, bus, power, busy)
    if min(power.count, busy.count) < LEAST_SAMPLES:
        has = "power" if power.count < LEAST_SAMPLES else "utilisation"
        sweep.problems.append(f"{what} is left out: no sensor told its {has}")
        return
    seen = Stressed(level_hz=level, utilisation=min(max(busy.mean, 0.0), 1.0), power_w=power.mean)
    sweep.measured.setdefault(step.device, []).append(seen)


async def _apply(machine: Machine, wanted: Configuration) -> Configuration:
    for left in reversed(range(TRIES)):
        try:
            return await machine.apply(wanted)
        except Temporary as error:
            if not left:
                raise
            await anyio.sleep(error.delay_s)
    raise AssertionError("unreachable")


async def _listen(window_s: float, device: str, bus: Bus, power: Integral, busy: Integral) -> None:
    """Take in what sensors say of the device, of the time from now on alone."""
    inbox = bus.subscribe("calibration", Sampled, SensorLost)
    began_s = anyio.current_time()
    try:
        with anyio.move_on_after(PATIENCE * window_s):
            async for event in inbox:
                if isinstance(event, Sampled) and event.at_s - event.covers_s >= began_s:
                    if device in event.rails_w:
                        power.add(event.at_s, event.rails_w[device], event.covers_s)
                    if device in event.utilisation:
                        busy.add(event.at_s, event.utilisation[device], event.covers_s)
                enough = min(power.count, busy.count) >= LEAST_SAMPLES
                if enough and anyio.current_time() - began_s >= window_s:
                    return
    finally:
        inbox.close()
