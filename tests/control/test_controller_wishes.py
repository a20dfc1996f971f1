"""What people want while a program runs, as the controller carries it out. In virtual time.

Not covered: the socket (tests/api/test_socket.py), what a manager makes of it (tests/domain/test_wishes.py).
"""

from __future__ import annotations

import anyio

from ceml.control.bus import Bus
from ceml.domain.events import (
    AppLeft,
    BudgetChanged,
    ConfigurationApplied,
    ConfigurationReleased,
    ControlPaused,
    ControlResumed,
    Decided,
    ObjectiveChanged,
)
from ceml.domain.values import Limits
from ceml.plugins.energy import energy
from tests.control.lived import KNOBS, TOP, Dial, beats, join, lived, of


def now() -> float:
    return anyio.current_time()


def test_a_pause_puts_back_what_was_found_and_nothing_is_written_until_the_resumption(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]
    levels: list[list] = []

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 10)
        bus.publish(ControlPaused(at_s=now()))
        await beats(bus, "a", 1)
        dials[0].level = 1.1e9  # somebody turns it by hand: it is left alone
        await beats(bus, "a", 30)
        bus.publish(BudgetChanged(at_s=now(), limits=Limits(target_hz=1.0)))
        bus.publish(ControlPaused(at_s=now()))
        bus.publish(AppLeft(at_s=now(), app="a"))
        bus.publish(join("b"))
        await beats(bus, "b", 30)
        levels.append([dial.level for dial in dials])
        bus.publish(ControlResumed(at_s=now()))
        await beats(bus, "b", 60)

    heard, controller = lived(virtually, dials, story)
    assert levels == [[1.1e9, TOP["gpu_hz"]]]
    pause, resumption = of(heard, ControlPaused)[0].at_s, of(heard, ControlResumed)[0].at_s
    assert len(of(heard, ConfigurationReleased)) == 1
    assert not [e for e in of(heard, ConfigurationApplied) if pause < e.at_s < resumption]
    assert [e for e in of(heard, ConfigurationApplied) if e.at_s > resumption]
    assert of(heard, Decided)[-1].app == "b"
    assert not controller.paused
    assert controller.limits == Limits(target_hz=1.0)


def test_a_pause_and_a_resumption_in_one_breath_leave_the_program_tuned(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]

    async def story(bus: Bus) -> None:
        bus.publish(join("a"))
        await beats(bus, "a", 60)
        for _ in range(3):
            bus.publish(ControlPaused(at_s=now()))
            bus.publish(ControlResumed(at_s=now()))
        await beats(bus, "a", 5)

    heard, _ = lived(virtually, dials, story)
    assert {dial.knobs[0].name: dial.level for dial in dials} == dict(of(heard, Decided)[-1].configuration)


def test_an_objective_holds_for_those_who_come_later_too(virtually) -> None:
    dials = [Dial(knob) for knob in KNOBS]
    wanted = energy()

    async def story(bus: Bus) -> None:
        bus.publish(ObjectiveChanged(at_s=now(), objective="energy", made=wanted))
        await anyio.sleep(0.1)
        bus.publish(join("a"))
        await beats(bus, "a", 10)

    _, controller = lived(virtually, dials, story)
    assert controller.holder is not None
    assert controller.holder.reasoning.objective is wanted
