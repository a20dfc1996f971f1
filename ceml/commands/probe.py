"""`ceml doctor --probe`: turns every knob through its range and back, reads every sensor, and keeps what came of it."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from ceml.aftermath import others, own
from ceml.control.machine import Machine
from ceml.control.probing import probe_actuator, probe_sensor
from ceml.domain.knobs import level_text
from ceml.errors import CemlError, SettingsError, Unavailable
from ceml.store.journal import Journal
from ceml.store.knowledge import KnowledgeStore, machine_name
from ceml.store.lock import claimed, locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ceml.control.ports import Platform
    from ceml.domain.probed import ProbedKnob, ProbedSensor
    from ceml.saved import Unrestored
    from ceml.store.knowledge_file import MachineFile
    from ceml.store.paths import RuntimePaths


COOLS = "the kernel cools this machine and holds clocks down, which a probe would tell of: try again once it has cooled"


def probe(platform: Platform, paths: RuntimePaths, root: Path) -> dict[str, Any]:
    """Probe a platform, put everything back, and write down what was found.

    Args:
        platform: What to turn and read.
        paths: Where the lock and the journal lie: no server may run meanwhile, and a crash can be mended.
        root: Where knowledge lies.

    Returns:
        What to report.

    Raises:
        SettingsError: A server runs, or one that was killed left knobs turned.
        Unavailable: Interrupted; everything is back. Or something is not, and which.
    """
    left = [path for path in (own(paths.root), *others(paths.root, platform.claims)) if path is not None]
    if left:
        raise SettingsError(f"{left[0]} is there: a server was killed and left knobs turned; run ceml restore first")
    store = KnowledgeStore(root, machine_name(platform.machine or platform.name))
    with locked(paths.made().lock), claimed(platform.claims):
        knobs, sensors = anyio.run(_probe, platform, Journal(paths.journal, platform.claims))
    try:
        store.keep_probed(knobs, sensors)
    except OSError as error:
        raise Unavailable(f"{store.directory} cannot be written: {error.strerror}; give --knowledge DIR") from None
    for news in store.news():
        _say(news)
    return {
        "written": str(store.directory / "machine.json"),
        "knobs": [_knob(each) for each in knobs],
        "sensors": [_sensor(each) for each in sensors],
    }


async def _probe(platform: Platform, prior: Journal) -> tuple[list[ProbedKnob], list[ProbedSensor]]:
    machine = Machine(platform.actuators)
    knobs: list[ProbedKnob] = []
    sensors: list[ProbedSensor] = []
    if await machine.cools():
        raise Unavailable(f"{COOLS}, so nothing was turned")
    saved, cooled = await machine.save(), False
    left: tuple[Unrestored, ...] = ()
    prior.write(saved)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_until_signal, group.cancel_scope)
            for actuator in platform.actuators:
                _say(f"turning {', '.join(knob.name for knob in actuator.knobs)} through all levels and back ...")
                knobs += await probe_actuator(actuator)
                cooled = cooled or await machine.cools()
            for sensor in platform.sensors:
                _say(f"reading {sensor.name} ...")
                sensors.append(await probe_sensor(sensor))
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            with suppress(CemlError):  # a limit that somebody lowered meanwhile is his
                names = {knob.name for actuator in platform.actuators for knob in actuator.knobs}
                saved = saved.with_values(limit.item for limit in await machine.new_limits(names))
            left = await machine.restore(saved)
        if not left:
            prior.clear()
    if left:
        raise Unavailable("\n".join(f"could not put back {item.target}: {item.reason}" for item in left))
    if len(sensors) < len(platform.sensors):
        raise Unavailable("interrupted: every knob is back as it was, nothing was written down")
    if cooled:
        raise Unavailable(f"{COOLS}: every knob is back as it was, nothing was written down")
    return knobs, sensors


async def _until_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
        async for _ in received:
            scope.cancel()
            return


def _say(text: str) -> None:
    sys.stderr.write(f"ceml: {text}\n")


def _knob(each: ProbedKnob) -> dict[str, Any]:
    if each.problem:
        return {"name": each.knob.name, "problem": each.problem}
    return {
        "name": each.knob.name,
        "changes": len(each.latencies_s),
        "settle_s": each.settle_s,
        "slowest_s": max(each.latencies_s, default=0.0),
        "unreached": [{"level": level, "came": why} for level, why in each.unreached.items()],
    }


def _sensor(each: ProbedSensor) -> dict[str, Any]:
    if each.problem:
        return {"name": each.name, "problem": each.problem}
    return {"name": each.name, "period_s": each.period_s, "read_s": each.read_s, "steps": each.steps}


# Saying it ------------------------------------------------------------------------------------------------------------


def lines(probed: dict[str, Any]) -> Iterator[str]:
    """A probe for people."""
    for knob in probed["knobs"]:
        if "problem" in knob:
            yield f"probed    {knob['name']:8} nothing learnt: {knob['problem']}"
            continue
        yield (
            f"probed    {knob['name']:8} in force after {_ms(knob['settle_s'])} (slowest {_ms(knob['slowest_s'])}, "
            f"{knob['changes']} changes)"
        )
        for missed in knob["unreached"]:
            level = level_text(knob["name"], missed["level"])
            yield f"          {level} is not reached: {missed['came']}; serve leaves it out"
    for sensor in probed["sensors"]:
        if "problem" in sensor:
            yield f"probed    {sensor['name']:8} cannot be read: {sensor['problem']}"
            continue
        steps = ", ".join(f"{name} {step:.3g}" for name, step in sensor["steps"].items())
        moved = f"; least steps seen: {steps}" if steps else ""
        yield f"probed    {sensor['name']:8} a reading takes {_ms(sensor['read_s'])}{moved}"
    yield f"written   {probed['written']}"


def machine_lines(known: MachineFile) -> Iterator[str]:
    """What is kept of a machine, for people."""
    for knob, settling in sorted(known.settling.items()):
        how = "probed" if settling.probed else "seen in runs"
        yield f"settling  {knob:8} {_ms(settling.settle_s)} ({how}, {settling.changes} changes)"
    for name, reading in sorted(known.sensors.items()):
        yield f"sensor    {name:8} a reading takes {_ms(reading.read_s)}, every {reading.period_s:g} s"
    for levels in known.unreachable:
        if len(levels) == 1:
            yield "never     " + " ".join(f"{knob}={level_text(knob, level)}" for knob, level in levels.items())
    states = sum(len(levels) > 1 for levels in known.unreachable)
    if states:
        yield f"never     {states} configurations that proved unreachable"


def known_of(root: Path, machine: str) -> MachineFile | None:
    """What is kept of a machine; None where that is nothing.

    Raises:
        SettingsError: It is there and cannot be understood.
    """
    found = KnowledgeStore(root, machine_name(machine)).machine_file()
    return found if found.settling or found.unreachable or found.sensors else None


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
