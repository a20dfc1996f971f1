"""Does a part keep its promises? For our own parts and for yours, in a test.

    check_objective(mine)            check_model, check_search, check_sampler, check_detector likewise
    await check_actuator(mine)       check_sensor likewise

A check runs the real thing: an actuator's knobs are turned through their levels and put back. Without a test, from the
command line: `ceml plugin check path/to/file.py:factory`.
"""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from ceml.domain.knobs import Configuration
from ceml.errors import Refused
from ceml.testing.deciders import check_detector, check_sampler, check_search
from ceml.testing.models import check_model
from ceml.testing.objectives import check_objective
from ceml.testing.promises import BrokenPromise, promise

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from ceml.control.ports import Actuator, Sensor
    from ceml.domain.knobs import Knob, Level
    from ceml.domain.values import Sample
    from ceml.saved import Saved, Unrestored

__all__ = [
    "BrokenPromise",
    "check_actuator",
    "check_detector",
    "check_model",
    "check_objective",
    "check_sampler",
    "check_search",
    "check_sensor",
    "promise",
]

READS = 5
TICK_S, BLOCKED_S = 0.005, 0.25  # a busy machine may hold any loop up for some hundredths of a second
TURN_S = 10.0  # the longest that a change of a knob may take
MOST_W, LEAST_W = 5000.0, -5.0  # what one rail can carry; one without load may read slightly below zero
READ_S = 2.0  # the longest that one reading may take; a lost device must say so, not hang


async def check_actuator(
    actuator: Actuator,
    *,
    levels_per_knob: int = 3,
    disturb: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Turn every knob and put it back; whatever happens, prior values are restored.

    Args:
        actuator: What to check; nothing of it was saved or applied yet.
        levels_per_knob: How many levels of each knob are tried: the ends and some between.
        disturb: Changes a knob behind the actuator's back; then `locate` must say so.

    Raises:
        BrokenPromise: It does not save, read back, refuse or restore as it must.
    """
    knobs = {knob.name: knob for knob in actuator.knobs}
    promise(bool(knobs), "an actuator has at least one knob")
    promise(len(knobs) == len(actuator.knobs), "the names of its knobs are different")
    saved = await actuator.save()
    kept = json.loads(json.dumps(saved.items))
    promise(kept == [list(item) for item in saved.items], f"what it saves goes through a journal unchanged: {kept}")
    promise(await actuator.save() == saved, "saving twice gives the same: saving changes nothing")
    left: tuple[Unrestored, ...] = ()
    found = await actuator.locate()
    promise(set(found) == set(knobs), f"locate names its knobs and no others: {sorted(found)}")
    try:
        await _turn(actuator, list(knobs.values()), levels_per_knob)
        await _refuses(actuator, list(knobs.values()))
        if disturb is not None:
            before, ordered = await actuator.locate(), await actuator.glance()
            await disturb()
            promise(await actuator.locate() != before, "locate tells what is true, not what was asked for last")
            promise(await actuator.glance() != ordered, "glance shows what somebody else ordered")
    finally:
        with anyio.CancelScope(shield=True):  # also where the check takes too long
            left = await _restored(actuator, saved)
    promise(left == (), f"everything is put back: {left}")
    promise(await actuator.save() == saved, f"after restoring all values are as before: {await actuator.save()}")
    promise(await actuator.restore(saved) == (), "restoring twice is as good as once")
    promise(await actuator.save() == saved, "restoring twice changes nothing")


async def _restored(actuator: Actuator, saved: Saved) -> tuple[Unrestored, ...]:
    try:
        return await actuator.restore(saved)
    except Exception as error:
        raise BrokenPromise(f"restore raises nothing, it returns what could not be put back: {error!r}") from error


async def _turn(actuator: Actuator, knobs: list[Knob], count: int) -> None:
    for knob in knobs:
        for level in spread(knob.levels, count):
            async with _watched(f"{knob.name} = {level}", TURN_S):
                effective = await actuator.apply(Configuration({knob.name: level}))
            promise(
                set(effective) == {other.name for other in knobs}, f"apply answers for every knob: {sorted(effective)}"
            )
            located = await actuator.locate()
            promise(located == effective, f"{knob.name} = {level}: apply says {effective}, locate {located}")
            ordered = await actuator.glance()
            promise(set(ordered) == set(located), f"glance answers for every knob: {sorted(ordered)}")
            promise(
                ordered[knob.name] in (level, effective[knob.name]),
                f"{knob.name} = {level}: glance says {ordered[knob.name]}, neither that nor {effective[knob.name]}",
            )
            again = await actuator.apply(Configuration({knob.name: level}))
            promise(again == effective, f"{knob.name} = {level} twice: first {effective}, then {again}")


def spread(levels: tuple[Level, ...], count: int) -> list[Level]:
    """At most `count` levels, evenly, both ends among them, from high to low and up again."""
    last = len(levels) - 1
    places = sorted({round(step * last / max(count - 1, 1)) for step in range(count)})
    return [levels[at] for at in (*reversed(places), *places[1:])]


async def _refuses(actuator: Actuator, knobs: list[Knob]) -> None:
    wrong: list[tuple[str, Level]] = [("no_such_knob", 1.0)]
    wrong += [(knob.name, -1.0 if knob.ordered else "no such level") for knob in knobs]
    for name, level in wrong:
        before = await actuator.locate()
        try:
            await actuator.apply(Configuration({name: level}))
        except Refused as error:
            promise(error.knob == name, f"Refused names the knob {name}, not {error.knob}")
        else:
            raise BrokenPromise(f"{name} = {level} is refused (errors.Refused)")
        promise(await actuator.locate() == before, f"{name} = {level}, refused, leaves everything as it was")


async def check_sensor(sensor: Sensor) -> list[Sample]:
    """Read it some times at its own period.

    Args:
        sensor: What to check.

    Returns:
        What it said.

    Raises:
        BrokenPromise: It blocks the loop, hangs, or says what cannot be.
    """
    promise(bool(sensor.name), "a sensor has a name")
    promise(0 < sensor.period_s < float("inf"), f"its period is a number of seconds above 0, not {sensor.period_s}")
    promise(0 <= sensor.lag_s < float("inf"), f"its lag is a number of seconds, not {sensor.lag_s}")
    samples: list[Sample] = []
    for read in range(READS):
        if read:
            await anyio.sleep(sensor.period_s)
        async with _watched("a reading"):
            samples.append(await sensor.read())
        _sane(samples[-1])
    promise(all(before.at_s < after.at_s for before, after in pairwise(samples)), "readings are stamped in their order")
    promise(
        any(s.rails_w or s.utilisation or s.temperatures_c for s in samples), f"in {READS} readings it says something"
    )
    return samples


@asynccontextmanager
async def _watched(what: str, longest_s: float = READ_S) -> AsyncGenerator[None]:
    """What is done inside must end in time, and leave the loop free meanwhile.

    Raises:
        BrokenPromise: It took too long, or nothing else could run.
    """
    longest_gap_s, error, patience = 0.0, None, anyio.CancelScope()

    async def tick() -> None:
        nonlocal longest_gap_s
        while True:
            before_s, waited_s = time.monotonic(), _waited_s()
            await anyio.sleep(TICK_S)
            gap_s = time.monotonic() - before_s - TICK_S - (_waited_s() - waited_s)
            longest_gap_s = max(longest_gap_s, gap_s)

    began_s = time.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await anyio.lowlevel.checkpoint()  # it has begun
        try:
            with anyio.move_on_after(longest_s) as patience:
                yield
        except Exception as raised:  # not out of the group, which would make a group of it
            error = raised
        await anyio.sleep(TICK_S)  # a gap is seen when it is over
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    promise(
        longest_gap_s < BLOCKED_S,
        f"{what} blocks the loop for {longest_gap_s:.2g} s, in which nothing else runs: do it in a thread",
    )
    late = patience.cancelled_caught or time.monotonic() - began_s > longest_s + BLOCKED_S
    promise(not late, f"{what} takes less than {longest_s:g} s")


def _waited_s() -> float:
    """Seconds that this thread could have run and got no processor; 0 where the kernel does not count them.

    Kernel documentation: scheduler/sched-stats.
    """
    try:
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) * 1e-9
    except (OSError, ValueError, IndexError):
        return 0.0


def _sane(sample: Sample) -> None:
    now_s = anyio.current_time()
    promise(now_s - 60 < sample.at_s <= now_s, f"at_s = {sample.at_s} is on the clock of the loop, which is {now_s}")
    promise(0 <= sample.covers_s < float("inf"), f"covers_s = {sample.covers_s} is a number of seconds")
    for what, readings in (("W", sample.rails_w), ("busy", sample.utilisation), ("C", sample.temperatures_c)):
        for name, value in readings.items():
            promise(isfinite(value), f"{name} = {value} {what} is a number")
    for name, watts in sample.rails_w.items():
        promise(LEAST_W <= watts <= MOST_W, f"{name} = {watts:g} W is a power that a rail can carry")
    for device, share in sample.utilisation.items():
        promise(0 <= share <= 1, f"utilisation of {device} = {share} is a share from 0 to 1")
