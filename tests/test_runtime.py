"""The wiring room: whatever ends a run, the knobs are put back.

Not covered here: processes and signals (test_serve.py), figures (test_house.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from ceml import runtime
from ceml.domain.events import AppJoined, ConfigurationReleased, Event, RunEnded
from ceml.errors import CemlError, SettingsError, combined, leaves
from ceml.parts import Parts, choose
from ceml.sources import load
from ceml.store.paths import PlatformContext
from ceml.telemetry.ledger import Ledger
from ceml.timeline import VirtualLoop, scaled


def parts(folder: Path, *, in_process: bool = False, **flags: object) -> Parts:
    flags = {"platform": "simulated", **flags}
    context = PlatformContext(runtime_dir=folder, in_process=in_process)
    return choose(load(None, flags, {}), context)


class Boom(RuntimeError):
    pass


def lived(folder: Path, run, *, eyes=()) -> list[Event]:
    """Let a house live in files and real time, fifty times faster."""
    seen: list[Event] = []
    context = PlatformContext(runtime_dir=folder, speed=50.0)
    chosen = choose(load(None, {"platform": "simulated", "workload": "lstm"}, {}), context)
    house = runtime.House(parts=chosen, ledger=Ledger(chosen.platform.total_rails))

    async def main() -> None:
        await runtime.live(house, [seen.append, *eyes], run=run)

    try:
        anyio.run(main, backend_options={"loop_factory": scaled(50.0)})
    finally:
        seen.append(house)  # type: ignore[arg-type]
    return seen


def configuration(folder: Path) -> dict[str, float]:
    return json.loads((folder / "board.json").read_text())["configuration"]


async def join_and_wait(house: runtime.House, home) -> None:
    before = await house.parts.platform.actuators[0].locate()
    house.bus.publish(AppJoined(at_s=anyio.current_time(), app="a"))
    await anyio.sleep(1)
    state = house.parts.platform.space.configuration(0)
    await house.parts.platform.actuators[0].apply(state)
    assert await house.parts.platform.actuators[0].locate() != before


def test_at_the_end_the_knobs_are_back_and_the_journal_is_gone(tmp_path: Path) -> None:
    seen = lived(tmp_path, join_and_wait)
    (released,) = [event for event in seen if isinstance(event, ConfigurationReleased)]
    assert released.unrestored == ()
    assert configuration(tmp_path) == dict(released.effective)
    assert configuration(tmp_path)["gpu_hz"] == 1300500000.0
    assert not (tmp_path / "journal.json").exists()
    assert isinstance(seen[-2], RunEnded)


def test_a_bug_anywhere_ends_the_run_after_the_knobs_are_back(tmp_path: Path) -> None:
    async def crash(house: runtime.House, home) -> None:
        await join_and_wait(house, home)
        raise Boom("a bug")

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - a group, looked into below
        lived(tmp_path, crash)
    assert [str(leaf) for leaf in leaves(caught.value)] == ["a bug"]
    assert combined(caught.value) is None
    assert configuration(tmp_path)["gpu_hz"] == 1300500000.0
    assert not (tmp_path / "journal.json").exists()


def test_an_eye_that_breaks_does_not_keep_the_knobs_from_going_back(tmp_path: Path) -> None:
    def blind(event: Event) -> None:
        if isinstance(event, AppJoined):
            raise Boom("an eye broke")

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - a group, looked into below
        lived(tmp_path, join_and_wait, eyes=[blind])
    assert "an eye broke" in [str(leaf) for leaf in leaves(caught.value)]
    assert configuration(tmp_path)["gpu_hz"] == 1300500000.0


def test_errors_meant_for_a_person_come_out_of_a_group_as_one() -> None:
    class Group(Exception):
        exceptions = (SettingsError("first"), SettingsError("second"), SettingsError("first"))

    told = combined(Group())
    assert isinstance(told, SettingsError)
    assert str(told) == "first\nsecond"
    assert type(combined(CemlError("alone"))) is CemlError


def test_a_platform_without_a_program_cannot_be_replayed(tmp_path: Path) -> None:
    chosen = parts(tmp_path)
    house = runtime.House(parts=chosen, ledger=Ledger(()))
    with pytest.raises(SettingsError, match="ceml serve"):
        anyio.run(runtime.replay, house, [], backend_options={"loop_factory": VirtualLoop})
