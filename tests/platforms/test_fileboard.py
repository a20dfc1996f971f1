"""The machine in files as the daemon sees it. Not covered: the program that runs on it (apps/test_app_simulated.py)."""

import json
import time
from dataclasses import replace

import anyio
import pytest

from ceml.domain.knobs import Configuration
from ceml.errors import SettingsError
from ceml.platforms.plantboard import PlantActuator
from ceml.platforms.simulated import simulated
from ceml.store import board_file
from ceml.store.paths import PlatformContext
from ceml.timeline import scaled

SLOW = Configuration({"cpu_hz": 806.4e6, "gpu_hz": 420.75e6, "mem_hz": 665.6e6})


def parts(directory, **options):
    speed = options.pop("speed", 1.0)
    platform = simulated(PlatformContext(runtime_dir=directory, speed=speed), noise_power=0.0, **options)
    return platform, platform.actuators[0], platform.sensors[0], directory / "board.json"


async def test_nothing_is_written_before_first_use_and_then_the_machine_is_there(tmp_path):
    platform, actuator, _, path = parts(tmp_path / "ceml")
    assert not path.parent.exists()
    assert await actuator.locate() == platform.space.configuration(platform.space.max_state)
    board = board_file.read(path)
    assert dict(board.plant) == {"kind": "jetson-tx2", "range": "paper"}
    assert board.configuration == dict(await actuator.locate())


async def test_a_change_is_in_the_file_at_once_with_the_moment_from_which_it_counts(tmp_path):
    _, actuator, _, path = parts(tmp_path)
    before = await actuator.locate()
    asked_s = anyio.current_time()
    assert await actuator.apply(SLOW) == SLOW
    board = board_file.read(path)
    assert board.configuration == dict(SLOW)
    assert board.before == dict(before)
    assert asked_s + 0.008 <= board.in_force_s <= anyio.current_time() + 0.008


async def test_a_newer_change_replaces_one_not_yet_in_force_but_not_what_is(tmp_path):
    _, actuator, _, path = parts(tmp_path)
    top = await actuator.locate()
    await actuator.apply(SLOW)
    await actuator.apply(Configuration({"cpu_hz": 960e6}))
    board = board_file.read(path)
    assert board.before == dict(top)  # SLOW may or may not have come into force; 8 ms have not passed here
    assert board.configuration == {**SLOW, "cpu_hz": 960e6}


async def test_the_machine_outlives_the_daemon_and_the_next_one_finds_it_as_it_is(tmp_path):
    _, actuator, _, _ = parts(tmp_path)
    await actuator.apply(SLOW)
    _, actuator, _, _ = parts(tmp_path)
    assert await actuator.locate() == SLOW


async def test_another_machine_in_the_file_is_not_taken_over(tmp_path):
    _, actuator, _, _ = parts(tmp_path)
    await actuator.apply(SLOW)
    platform, actuator, _, path = parts(tmp_path, range="full")
    assert await actuator.locate() == platform.space.configuration(platform.space.max_state)
    assert board_file.read(path).plant["range"] == "full"


async def test_a_spoilt_file_at_start_is_said_with_its_remedy(tmp_path):
    _, actuator, _, path = parts(tmp_path)
    path.write_text("nonsense")
    with pytest.raises(SettingsError, match="Remove it"):
        await actuator.locate()


async def test_removed_or_spoilt_while_it_runs_the_machine_stays_what_it_was(tmp_path):
    _, actuator, sensor, path = parts(tmp_path)
    await actuator.apply(SLOW)
    path.unlink()
    await sensor.read()
    assert board_file.read(path).configuration == dict(SLOW)
    path.write_text("nonsense")
    assert await actuator.locate() == SLOW
    assert board_file.read(path).configuration == dict(SLOW)


async def test_a_crashed_daemons_configuration_is_put_back_from_its_journal(tmp_path):
    _, actuator, _, path = parts(tmp_path)
    found, saved = await actuator.locate(), await actuator.save()
    await actuator.apply(SLOW)
    assert board_file.put_back(saved.items) == ()  # another process may do it: `ceml restore`
    assert await actuator.locate() == found
    assert board_file.read(path).before == dict(found)


async def test_restoring_over_the_actuator_is_idempotent(tmp_path):
    _, actuator, _, _ = parts(tmp_path)
    found, saved = await actuator.locate(), await actuator.save()
    await actuator.apply(SLOW)
    for _ in range(2):
        assert await actuator.restore(saved) == ()
        assert await actuator.locate() == found


async def test_power_is_idle_until_a_living_program_says_what_it_runs(tmp_path):
    _, actuator, sensor, _ = parts(tmp_path)
    await actuator.locate()
    idle = (await sensor.read()).rails_w
    with board_file.announced(tmp_path / "load", "vit"):
        busy = await sensor.read()
    assert busy.rails_w["total"] > idle["total"] + 3.0
    assert busy.utilisation["gpu"] > 0.5
    assert (await sensor.read()).rails_w == idle
    with board_file.announced(tmp_path / "load", "unknown program"):
        assert (await sensor.read()).rails_w == idle


async def test_two_programs_draw_more_than_one_and_no_device_is_more_than_busy(tmp_path):
    platform, actuator, sensor, _ = parts(tmp_path)
    await actuator.locate()
    with board_file.announced(tmp_path / "load", "vit") as mine:
        one = await sensor.read()
        (tmp_path / "load" / "1.json").write_text(json.dumps(json.loads(mine.read_text()) | {"workload": "gpu-bound"}))
        two = await sensor.read()
    assert two.rails_w["total"] > one.rails_w["total"] + 3.0
    assert two.utilisation["gpu"] == 1.0
    assert set(platform.total_rails) <= set(two.rails_w)


def test_a_faster_clock_is_told_to_the_programs(tmp_path):
    async def main():
        _, actuator, _, path = parts(tmp_path, speed=40.0)
        await actuator.locate()
        board = board_file.read(path)
        assert board.speed == 40.0
        board_s = board.origin_s + (time.monotonic() - board.origin_s) * board.speed
        assert board_s == pytest.approx(anyio.current_time(), abs=0.4)

    anyio.run(main, backend_options={"loop_factory": scaled(40.0)})


async def test_a_speed_that_the_event_loop_does_not_run_at_is_refused(tmp_path):
    _, actuator, _, _ = parts(tmp_path, speed=40.0)
    with pytest.raises(SettingsError, match="speed=40"):
        await actuator.locate()


async def test_what_is_not_ours_in_a_saved_state_is_left_alone(tmp_path):
    _, actuator, _, path = parts(tmp_path)
    saved = await actuator.save()
    other = saved.items[0]._replace(target="/elsewhere/board.json")
    await actuator.apply(SLOW)
    assert await actuator.restore(replace_items(saved, other)) == ()
    assert board_file.read(path).configuration == dict(SLOW)
    assert isinstance(actuator, PlantActuator)
    assert replace(board_file.read(path), speed=2.0).speed == 2.0


def replace_items(saved, *items):
    return saved._replace(items=items)
