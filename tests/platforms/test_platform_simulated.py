"""The simulated platform as a bundle. Not covered: its parts (test_fileboard.py, test_played.py)."""

import anyio
import pytest

from ceml.errors import SettingsError
from ceml.platforms.simulated import simulated
from ceml.store.paths import PlatformContext


def test_it_says_that_it_is_simulated_and_what_is_assumed(tmp_path):
    platform = simulated(PlatformContext(runtime_dir=tmp_path))
    assert platform.labels == ("simulated", "per-device split of power assumed")
    assert platform.total_rails == ("total",)
    assert set(platform.knowledge.board) == {"cpu", "gpu", "mem"}
    assert platform.board["board"] == "jetson-tx2"
    assert platform.beats is None
    assert len(platform.space) == 540
    assert [sensor.period_s for sensor in platform.sensors] == [0.1]


def test_in_virtual_time_it_brings_the_program_and_touches_no_file(tmp_path):
    platform = simulated(PlatformContext(runtime_dir=tmp_path / "x", in_process=True), workload="lstm", steps=10)
    assert platform.beats is not None
    assert platform.name == "simulated"
    assert platform.board["workload"] == "lstm"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"board": "jetson-nano"}, "board='jetson-nano': only jetson-tx2"),
        ({"range": "huge"}, "range='huge'.*paper, full"),
        ({"noise_power": -1.0}, "noise_power=-1.0"),
        ({"workload": "bert"}, "bert"),
    ],
)
def test_what_it_cannot_do_is_said(tmp_path, options, says):
    with pytest.raises(SettingsError, match=says):
        simulated(PlatformContext(runtime_dir=tmp_path), **options)


def test_in_virtual_time_an_unknown_program_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(SettingsError, match=r"vit.*resnet50.*gpu-bound"):
        simulated(PlatformContext(runtime_dir=tmp_path, in_process=True), workload="bert")


def test_in_real_time_a_workload_is_what_programs_that_do_not_say_are_taken_to_run(tmp_path):
    async def total_w(**options: str) -> float:
        platform = simulated(PlatformContext(runtime_dir=tmp_path), noise_power=0.0, **options)
        return (await platform.sensors[0].read()).rails_w["total"]

    assert anyio.run(lambda: total_w(workload="lstm")) > anyio.run(total_w) + 1.0
