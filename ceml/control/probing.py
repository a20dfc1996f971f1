"""Probing: every knob turned through its levels and back, timed; every sensor read some times. For `ceml doctor`.

It turns real knobs, so whoever calls it holds the lock and has written the journal.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import anyio

from ceml.domain.knobs import Configuration
from ceml.domain.probed import ProbedKnob, ProbedSensor
from ceml.errors import CemlError, Refused, Temporary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ceml.control.ports import Actuator, Sensor
    from ceml.domain.knobs import Knob, Level

LONGEST_S = 5.0  # of one change; a driver that takes longer is not one to tune with
READS = 12
STILL = 5  # changes to where it stands already, which is what looking alone costs


async def probe_actuator(actuator: Actuator) -> list[ProbedKnob]:
    """Turn every knob through its levels, down and up again, and put each back before the next."""
    saved = await actuator.save()
    found: list[ProbedKnob] = []
    try:
        for knob in actuator.knobs:
            try:
                found.append(await _probe_knob(actuator, knob))
            finally:
                with anyio.CancelScope(shield=True):
                    await actuator.restore(saved)
    finally:
        with anyio.CancelScope(shield=True):
            await actuator.restore(saved)
    return found


async def _probe_knob(actuator: Actuator, knob: Knob) -> ProbedKnob:
    latencies_s: list[float] = []
    missed: dict[Level, str] = {}
    reached: set[Level] = set()
    refused, unanswered = 0, ""
    way = [*reversed(knob.levels), *knob.levels[1:]]
    looking_s = 0.0
    stands: Level | None = way[0]
    for level in way:
        try:
            took_s, effective = await _turn(actuator, knob, level)
        except Refused as error:
            refused, missed[level] = refused + 1, str(error)
            continue
        except (Temporary, TimeoutError) as error:
            unanswered = str(error) or f"no answer within {LONGEST_S:g} s"
            continue
        if effective != level:
            stands = effective
            missed[level] = f"it came to {effective}"
            continue
        if not reached or (unanswered and not latencies_s):
            looking_s = median([(await _turn(actuator, knob, level))[0] for _ in range(STILL)])
        reached.add(level)
        if level != stands:
            latencies_s.append(max(took_s - looking_s, 0.0))
        stands = level
    if not reached or (unanswered and not latencies_s):
        why = unanswered or next(iter(missed.values()), "it has one level")
        return ProbedKnob(knob=knob, problem=why)
    return ProbedKnob(
        knob=knob,
        latencies_s=tuple(latencies_s),
        unreached={level: why for level, why in missed.items() if level not in reached},
    )


async def _turn(actuator: Actuator, knob: Knob, level: Level) -> tuple[float, Level | None]:
    began_s = anyio.current_time()
    with anyio.fail_after(LONGEST_S):
        effective = await actuator.apply(Configuration({knob.name: level}))
    return anyio.current_time() - began_s, effective.get(knob.name)


async def probe_sensor(sensor: Sensor) -> ProbedSensor:
    """Read it some times at its own period."""
    took_s: list[float] = []
    values: dict[str, set[float]] = {}
    problem = ""
    for _ in range(READS):
        began_s = anyio.current_time()
        try:
            with anyio.fail_after(LONGEST_S):
                sample = await sensor.read()
        except (CemlError, TimeoutError) as error:
            problem = str(error) or f"no answer within {LONGEST_S:g} s"
        else:
            took_s.append(anyio.current_time() - began_s)
            for name, value in (*sample.rails_w.items(), *sample.temperatures_c.items()):
                values.setdefault(name, set()).add(value)
        await anyio.sleep(min(sensor.period_s, 0.2))
    if not took_s:
        return ProbedSensor(name=sensor.name, period_s=sensor.period_s, problem=problem)
    steps = {name: step for name, seen in values.items() if (step := min(_gaps(sorted(seen)), default=0.0))}
    return ProbedSensor(name=sensor.name, period_s=sensor.period_s, read_s=median(took_s), steps=steps)


def _gaps(values: Sequence[float]) -> Iterator[float]:
    return (high - low for low, high in pairwise(values))
