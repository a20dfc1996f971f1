"""Scenarios: what is refused, and what happens when, in virtual time. Not covered: real time (tests/test_serve.py)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.api.scenario import Scenario, read_scenario
from ceml.bench.play import Played, play
from ceml.control.ports import Platform
from ceml.domain.events import Event
from ceml.domain.values import Limits
from ceml.errors import SettingsError
from ceml.parts import check_limits, choose_objective
from ceml.plant.board import jetson_tx2
from ceml.platforms.played import played
from ceml.sources import load
from ceml.telemetry.record import as_event, read

BOARD = played(jetson_tx2("vit"))
BASE = Limits(power_cap_w=9.0, target_hz=1.0)


def scenario(folder: Path, text: str, platform: Platform = BOARD) -> Scenario:
    path = folder / "s.toml"
    path.write_text(text, encoding="utf-8")
    check, make = partial(check_limits, platform=platform), partial(choose_objective, platform=platform)
    return read_scenario(path, BASE, platform, check, make)


def step(at: str, **what: str) -> str:
    return "\n".join([f"[[step]]\nat = {at}", *(f"{key} = {value}" for key, value in what.items()), ""])


def run(folder: Path, text: str, **flags: object) -> tuple[Played, list[Event]]:
    path, record = folder / "s.toml", folder / "r.jsonl"
    path.write_text(text)
    flags = {"platform": "simulated", "workload": "vit", "scenario": path, "record": record, **flags}
    figures = play(load(None, flags, {}), steps=500)
    return figures, [event for event in map(as_event, read(record)) if event is not None]


def of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if type(event).__name__ == name]


# Reading --------------------------------------------------------------------------------------------------------------


def test_limits_replace_those_they_name_and_keep_the_others(tmp_path: Path) -> None:
    text = step('"10s"', budget='"6W"') + step('"1min"', target='"none"', rail_budget='["gpu=3W"]')
    one, two = scenario(tmp_path, text).steps
    assert (one.at_s, one.limits) == (10.0, Limits(power_cap_w=6.0, target_hz=1.0))
    assert (two.at_s, two.limits) == (60.0, Limits(power_cap_w=6.0, rail_caps_w={"gpu": 3.0}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            step('"20s"', budget="6") + step('"10s"', budget="7"),
            r"step 2 \(at = '10s'\): .*before the step above it, at 20 s",
        ),
        (step('"20s"', budget="6") + step("20", budget="7"), r"step 2 \(at = 20\): .*same moment.*into one step"),
        (step('"20s"', budgt="6"), r"step 1 \(at = '20s'\): unknown key 'budgt' \(did you mean budget\?\)"),
        (step('"20 parsecs"', budget="6"), r"step 1 .*at must be in ms, s, min, h or d, not in parsecs"),
        (step('"-3s"', budget="6"), r"step 1 .*at must be a time from 0 on"),
        (step("nan", budget="6"), r"step 1 .*at must be a time from 0 on"),
        ("[[step]]\nbudget = 6", r"step 1 \(at = 'missing'\): it does not say when"),
        (step("1"), r"step 1 \(at = 1\): nothing happens in it"),
        (step("1", budget='"8V"'), r"step 1 .*budget = '8V' \(from this step\): must be in W"),
        (step("1", rail_budget='["npu=3W"]'), r"step 1 .*measures no rail npu"),
        (step("1", sensor_lost='"ina"'), r"step 1 .*sensor 'ina' is not here; known are: board"),
        (step("1", sensor_back='"board"'), r"step 1 .*'board' is not lost at that time"),
        (step("1", sensor_lost='"board"') + step("2", sensor_lost='"board"'), r"step 2 .*'board' is lost already"),
        (step("1", overwrite='{npu_hz = "1GHz"}'), r"step 1 .*no such knob; it has cpu_hz"),
        (step("1", overwrite="3"), r"step 1 .*must be a table of knobs"),
        (step("1", application='"naps"'), r"step 1 .*it leaves or arrives"),
        (step("1", application='"arrives"'), r"step 1 .*at that time it is here"),
        (step("1", application='"leaves"') + step("2", application='"leaves"'), r"step 2 .*at that time it is away"),
        (step("1", objective='"edpp"'), r"step 1 .*edpp"),
        (step("1", objective="3"), r"step 1 .*objective = 3 must be a name"),
        (step("1", phase="3"), r"step 1 .*must be a table of factors"),
        (step("1", phase="{}"), r"step 1 .*must be a table of factors"),
        (step("1", phase="{speed = 2}"), r"step 1 .*must be a table of factors"),
        (step("1", phase="{power = 0}"), r"step 1 .*phase power = 0 must be a factor from 0.001 to 1000"),
        (step("1", phase="{power = nan}"), r"step 1 .*phase power = nan must be a factor"),
        (step("1", phase="{step_time = true}"), r"step 1 .*phase step_time = True must be a factor"),
        ("", r"it needs \[\[step\]\] entries"),
        ("step = 3", r"it needs \[\[step\]\] entries"),
        ("step = [3]", r"step 1: it must be a table"),
        ("title = 'x'\n" + step("1", budget="6"), r"it needs \[\[step\]\] entries.*no more"),
        ("[[step]", "no valid TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_that_names_the_entry(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        scenario(tmp_path, text)
    assert str(tmp_path / "s.toml") in str(caught.value)
    assert "\n" not in str(caught.value).replace(text, "")


def test_on_a_real_board_only_limits_and_objective_can_be_staged(tmp_path: Path) -> None:
    real = Platform(name="mine", space=BOARD.space, sensors=BOARD.sensors, total_rails=("total",))
    assert scenario(tmp_path, step("1", budget="6", objective='"edp"'), real).steps
    for mishap in ({"sensor_lost": '"board"'}, {"phase": "{power = 2}"}):
        with pytest.raises(SettingsError, match=r"mine is a real board|process of its own"):
            scenario(tmp_path, step("1", **mishap), real)


keys = st.sampled_from(["at", "budget", "target", "sensor_lost", "overwrite", "application", "objective", "phase", "x"])
words = st.sampled_from(["1s", "6W", "board", "leaves", "edp"])
some = st.text(max_size=5) | st.integers() | st.floats() | st.booleans() | words


@given(st.lists(st.dictionaries(keys, some, max_size=4), max_size=4))
def test_any_timeline_is_read_or_refused_in_words(tmp_path_factory, entries: list[dict[str, object]]) -> None:
    def literal(value: object) -> str:
        quoted = "".join(f"\\U{ord(c):08x}" for c in str(value) if not 0xD800 <= ord(c) < 0xE000)
        return f'"{quoted}"' if isinstance(value, str) else str(value).lower()

    text = "".join("[[step]]\n" + "".join(f"{k} = {literal(v)}\n" for k, v in entry.items()) for entry in entries)
    try:
        made = scenario(tmp_path_factory.getbasetemp(), text)
    except SettingsError as error:
        assert "s.toml" in str(error)  # noqa: PT017 - either is right, and Hypothesis chooses
    else:
        times_s = [step.at_s for step in made.steps]
        assert times_s == sorted(set(times_s))


# Happening ------------------------------------------------------------------------------------------------------------


def test_what_is_due_at_the_start_has_happened_before_anything_else(virtually, tmp_path: Path) -> None:
    heard: list[Event] = []
    made = scenario(tmp_path, step("0", budget="6") + step('"600.1s"', budget="7"))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: made.run(heard.append, task_status=task_status))
            assert len(heard) == 1
            await anyio.sleep(1000)
            group.cancel_scope.cancel()

    virtually(main)
    assert [(event.at_s, event.limits.power_cap_w) for event in heard] == [(0.0, 6.0), (600.1, 7.0)]


def test_f8_a_lower_budget_is_met_at_once_and_a_higher_one_used_again(tmp_path: Path) -> None:
    text = step("0", budget='"12W"') + step('"100.1s"', budget='"5W"') + step('"160.1s"', budget='"12W"')
    run_, events = run(tmp_path, text, objective="performance")
    assert [event.at_s for event in of(events, "BudgetChanged")] == pytest.approx([0.0, 100.1, 160.1])
    decided = [event for event in of(events, "Decided") if event.why.startswith("budget changed")]
    assert [event.at_s for event in decided] == pytest.approx([100.1, 160.1])
    assert decided[0].power_w < 5.0 < decided[1].power_w
    assert decided[0].rate_hz < decided[1].rate_hz
    assert run_.figures.seconds_above_cap is not None
    assert run_.figures.seconds_above_cap <= 0.05


def test_a_sensor_can_be_lost_and_come_back(tmp_path: Path) -> None:
    text = step('"50s"', sensor_lost='"board"') + step('"60s"', sensor_back='"board"')
    _, events = run(tmp_path, text)
    (lost,), (back,) = of(events, "SensorLost"), of(events, "SensorRecovered")
    assert lost.at_s == pytest.approx(50, abs=0.2)
    assert 60 <= back.at_s <= 90.2


def test_a_sensor_lost_from_the_start_leaves_the_machine_as_it_was_found_until_it_is_back(tmp_path: Path) -> None:
    run_, events = run(tmp_path, step('"0s"', sensor_lost='"board"'))
    released, _ = of(events, "ConfigurationReleased")  # and at the end of the run
    assert released.at_s <= 0.2
    assert "no power is measured" in released.why
    assert "sensor board is lost" in str(run_.about["why"])
    assert "ceml doctor" in str(run_.about["why"])
    run_, events = run(tmp_path, step('"0s"', sensor_lost='"board"') + step('"10s"', sensor_back='"board"'))
    assert of(events, "Decided")


def test_somebody_else_can_write_a_knob(tmp_path: Path) -> None:
    _, calm = run(tmp_path, step('"1h"', budget='"none"'))
    _, disturbed = run(tmp_path, step('"250s"', overwrite='{gpu_hz = "420MHz"}'))
    assert not of(calm, "PhaseChanged") + of(calm, "KnobOverwritten")
    (met,) = of(disturbed, "KnobOverwritten")
    assert (met.knob, met.found) == ("gpu_hz", 420.75e6)
    assert 250.0 <= met.at_s <= 251.0
    back = next(event for event in of(disturbed, "ConfigurationApplied") if event.at_s >= met.at_s)
    assert back.effective["gpu_hz"] == met.wanted
    assert not of(disturbed, "PhaseChanged")  # it was no change of the program


def test_one_who_writes_a_knob_again_and_again_gets_the_machine(tmp_path: Path) -> None:
    steps = "".join(step(f'"{at}s"', overwrite='{gpu_hz = "420MHz"}') for at in range(100, 130, 3))
    run_, events = run(tmp_path, steps)
    (yielded,) = of(events, "ControlYielded")
    assert (yielded.knob, yielded.times) == ("gpu_hz", 5)
    assert "ceml resume" in yielded.why
    assert len(of(events, "KnobOverwritten")) == 5
    assert not [event for event in of(events, "ConfigurationApplied") if event.at_s > yielded.at_s]
    assert run_.about["steps"] == 500  # the program goes on


def test_an_application_can_leave_and_come_back_and_its_steps_are_all_done(tmp_path: Path) -> None:
    calm, _ = run(tmp_path, step('"1h"', budget='"none"'))
    text = step('"100s"', application='"leaves"') + step('"1100s"', application='"arrives"')
    left, events = run(tmp_path, text)
    assert left.about["steps"] == 500
    assert left.figures.run_s == pytest.approx(calm.figures.run_s + 1000, rel=0.05)
    assert [event.at_s for event in of(events, "AppJoined")] == pytest.approx([0.0, 1100.0])
    assert left.figures.run_energy_j == pytest.approx(calm.figures.run_energy_j, rel=0.05)
    gone, _ = run(tmp_path, step('"100s"', application='"leaves"'))
    assert gone.about["steps"] < 300


def test_another_objective_is_searched_for_without_profiling_again(tmp_path: Path) -> None:
    _, events = run(tmp_path, step('"200s"', objective='"performance"'))
    (changed,) = of(events, "ObjectiveChanged")
    assert (changed.at_s, changed.objective) == (200.0, "performance")
    after = next(event for event in of(events, "Decided") if event.at_s >= 200.0)
    assert after.at_s == pytest.approx(200.0)
    assert after.rate_hz > of(events, "Decided")[0].rate_hz


def test_a_program_can_change_phase_and_be_what_it_was_again(tmp_path: Path) -> None:
    text = step('"150s"', phase="{step_time = 1.3, power = 0.8}") + step('"300s"', phase="{power = 1}")
    played_, events = run(tmp_path, text)
    changes = of(events, "PhaseChanged")
    assert [event.cause for event in changes] == ["program", "program"]
    assert 150.0 < changes[0].at_s < 190.0
    assert 300.0 < changes[1].at_s < 340.0
    back = next(event for event in of(events, "Decided") if event.at_s > changes[1].at_s)
    assert back.at_s - changes[1].at_s < 30.0
    assert played_.figures.run_excess is None
    assert played_.figures.run_energy_j is not None


def test_the_same_scenario_gives_the_same_run(tmp_path: Path) -> None:
    text = step('"30s"', budget='"6W"') + step('"60s"', sensor_lost='"board"', overwrite='{gpu_hz = "420MHz"}')
    first, _ = run(tmp_path, text)
    before = (tmp_path / "r.jsonl").read_bytes()
    assert run(tmp_path, text)[0].figures == first.figures
    assert (tmp_path / "r.jsonl").read_bytes() == before
