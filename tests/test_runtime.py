"""The wiring room: parts that do not fit are said at start, and whatever ends a run, the knobs are put back.

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
from ceml.settings import load
from ceml.store.paths import PlatformContext
from ceml.telemetry.ledger import Ledger
from ceml.timeline import VirtualLoop, scaled

TIMES_ONLY = "device,workload,gpu_hz,step_s\nb,w,1e9,1.0\nb,w,2e9,0.5\n"


def parts(folder: Path, *, in_process: bool = False, **flags: object) -> runtime.Parts:
    flags = {"platform": "simulated", **flags}
    context = PlatformContext(runtime_dir=folder, in_process=in_process)
    return runtime.choose(load(None, flags, {}), context)


def plugin(folder: Path, body: str) -> str:
    path = folder / "mine.py"
    path.write_text(
        f"import numpy as np\nclass Mine:\n  constraints = ()\n  def cost(self, predicted, now):\n    {body}\n"
        "def mine():\n  return Mine()\n"
    )
    return f"{path}:mine"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ValueError('not today')", "raised ValueError: not today"),
        ("return 1.0", r"shape \(n,\)"),
        ("return predicted.power_w[:1]", r"shape \(n,\)"),
        ("return predicted.power_w * np.nan", "must be finite"),
        ("return np.zeros(3)", r"shape \(n,\) = \(540,\)"),
        ("return predicted.power_w * (np.nan if len(predicted.power_w) > 20 else 1)", "must be finite"),
        ("return predicted.power_w * 1j", "real numbers"),
        ("raise SystemExit(7)", "raised SystemExit: 7"),
        ("return predicted.speed", "AttributeError"),
    ],
)
def test_an_objective_that_does_not_work_is_said_at_start(tmp_path: Path, body: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parts(tmp_path, objective=plugin(tmp_path, body))


def test_an_objective_that_works_is_taken(tmp_path: Path) -> None:
    chosen = parts(tmp_path, objective=plugin(tmp_path, "return 1 / predicted.rate_hz"))
    assert chosen.mind.objective.constraints == ()


def test_power_that_is_not_measured_is_said_and_not_guessed(tmp_path: Path) -> None:
    table = tmp_path / "times.csv"
    table.write_text(TIMES_ONLY)
    flags = {"platform": "replay", "table": table, "workload": "w"}
    for more in ({"objective": "energy"}, {"objective": "power_cap", "budget": "5W"}):
        with pytest.raises(SettingsError, match="measures none"):
            parts(tmp_path, **flags, **more)


def test_a_cap_without_watts_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--budget 8W"):
        parts(tmp_path, objective="power_cap")
    assert parts(tmp_path, objective="power_cap", budget="8W").power_cap_w == 8.0
    assert parts(tmp_path, objective="power_cap:cap_w=8").power_cap_w is None


def test_options_reach_the_plugins_that_take_them(tmp_path: Path) -> None:
    sampler = parts(tmp_path, model="paper", beats_per_state=7, power_samples_per_state=2).mind.sampler
    assert (sampler.beats, sampler.power_samples) == (7, 2)  # type: ignore[attr-defined]
    with pytest.raises(SettingsError, match="takes no 'table'"):
        parts(tmp_path, table=tmp_path / "x.csv")


def test_the_sampler_suits_the_model_unless_one_is_named(tmp_path: Path) -> None:
    def name(**flags: object) -> str:
        return type(parts(tmp_path, **flags).mind.sampler).__name__

    assert name() == "Improvement"
    assert name(model="paper") == name(sampler="paper") == "PaperSampler"
    with pytest.raises(SettingsError, match="states its uncertainty"):
        parts(tmp_path, model="paper", sampler="improvement")


class Boom(RuntimeError):
    pass


def lived(folder: Path, run, *, eyes=()) -> list[Event]:
    """Let a house live in files and real time, fifty times faster."""
    seen: list[Event] = []
    context = PlatformContext(runtime_dir=folder, speed=50.0)
    chosen = runtime.choose(load(None, {"platform": "simulated", "workload": "lstm"}, {}), context)
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
