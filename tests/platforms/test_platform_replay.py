"""The replay platform as a bundle. Not covered: parsing (plant/test_rows.py), playing (test_played.py)."""

import anyio
import pytest

from ceml.domain.events import Heartbeat
from ceml.errors import SettingsError
from ceml.platforms.replay import replay
from ceml.store import board_file
from ceml.store.paths import PlatformContext

LINES = """device,workload,batch,cpu_hz,gpu_hz,step_s,power_w,power_gpu_w,util_gpu
x,lstm,8,1e9,5e8,1.0,4,1,0.9
x,lstm,8,2e9,5e8,0.8,6,2,0.8
x,lstm,8,2e9,9e8,0.5,8,3,0.7
x,lstm,16,2e9,9e8,0.9,8,3,0.7
"""


@pytest.fixture
def table(tmp_path):
    (tmp_path / "t.csv").write_text(LINES)
    return str(tmp_path / "t.csv")


def virtual(directory):
    return PlatformContext(runtime_dir=directory / "run", in_process=True)


def test_in_virtual_time_it_plays_the_table_and_touches_no_file(virtually, tmp_path, table):
    platform = replay(virtual(tmp_path), table=table, workload="lstm", batch=8.0, steps=30)

    async def main():
        events = []
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: platform.beats.run(events.append, task_status=task_status))
            sample = await platform.sensors[0].read()
        return events, sample

    events, sample = virtually(main)
    assert sum(isinstance(event, Heartbeat) for event in events) == 30
    assert set(sample.rails_w) == {"total", "gpu"}
    assert sample.utilisation == {"gpu": 0.7}
    assert platform.total_rails == ("total",)
    assert platform.board["table"] == "t.csv"
    assert not (tmp_path / "run").exists()


async def test_in_real_time_the_table_is_a_machine_in_files(tmp_path, table):
    platform = replay(
        PlatformContext(runtime_dir=tmp_path / "run"), table=table, workload="lstm", batch=8.0, fix=("gpu_hz=500MHz",)
    )
    assert (await platform.actuators[0].locate())["cpu_hz"] == 2e9
    assert platform.beats is None
    plant = board_file.read(tmp_path / "run" / "board.json").plant
    assert (plant["kind"], plant["table"], plant["batch"], plant["fix"]) == ("table", table, 8.0, ["gpu_hz=500MHz"])


def test_fixes_and_limits_are_words(tmp_path, table):
    platform = replay(
        virtual(tmp_path), table=table, workload="lstm", batch=8.0, fix=("cpu_hz=2GHz",), limit=("gpu_hz=500MHz..1GHz",)
    )
    assert platform.space.shape == (1, 2)


def test_a_table_of_times_alone_has_no_sensor_and_no_total(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("workload,gpu_hz,step_s\na,1e9,1\na,2e9,0.5\n")
    platform = replay(virtual(tmp_path), table=str(path), workload="a")
    assert platform.sensors == ()
    assert platform.total_rails == ()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"table": "none.csv"}, "table=.*none.csv cannot be read"),
        ({"workload": "bert"}, "workload='bert' is not in t.csv; it has lstm"),
        ({"batch": None}, "batch sizes 8, 16"),
        ({"fix": ("cpu_hz",)}, "--fix cpu_hz: write it as"),
        ({"limit": ("cpu_hz=1..2",)}, "--limit cpu_hz=1..2: no state left"),
        ({"steps": 0}, "steps=0"),
        ({"noise_time": 2.0}, "noise_time=2.0"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, table, options, says):
    with pytest.raises(SettingsError, match=says):
        replay(virtual(tmp_path), **{"table": table, "workload": "lstm", "batch": 8.0} | options)
