"""The simulated Jetson TX2. Not covered: how near it is to a real board (see the fit errors in its file)."""

import json
from pathlib import Path

import numpy as np
import pytest

from ceml.errors import SettingsError
from ceml.plant.board import PROGRAMS, calibration, device_powers_w, jetson_tx2, jetson_tx2_space

PROFILE = Path(__file__).parents[2] / ".." / "shared" / "boards" / "jetson-tx2.json"

every_program = pytest.mark.parametrize("workload", PROGRAMS)


def share_lost(plant, knob: str, *, mem_hz: float | None = None) -> float:
    """Share of the speed that is lost when one knob goes from its highest to its lowest level."""
    space = plant.space
    high = dict(space.configuration(space.max_state))
    if mem_hz is not None:
        high["mem_hz"] = mem_hz
    low = high | {knob: next(k.levels[0] for k in space.knobs if k.name == knob)}
    return 1.0 - plant.step_s[space.find(high)] / plant.step_s[space.find(low)]


def test_the_papers_range_has_its_540_states_and_the_full_one_1092():
    assert len(jetson_tx2_space()) == 540
    assert jetson_tx2_space().shape == (9, 10, 6)
    assert jetson_tx2_space("full").shape == (12, 13, 7)
    assert [knob.levels[0] / 1e6 for knob in jetson_tx2_space().knobs] == [806.4, 420.75, 665.6]


def test_the_papers_seven_profiling_states_are_states_of_the_board():
    seven = "2035.2/1300.5/1866 1420.8/854.25/665.6 1420.8/420.75/1331.2 806.4/854.25/1331.2 806.4/420.75/1062.4 "
    seven += "806.4/624.75/665.6 1113.6/420.75/665.6"
    for text in seven.split():
        levels = dict(
            zip(("cpu_hz", "gpu_hz", "mem_hz"), (round(float(mhz) * 1e6) for mhz in text.split("/")), strict=True)
        )
        assert jetson_tx2_space().find(levels) is not None


@every_program
@pytest.mark.parametrize("range", ["paper", "full"])
def test_a_faster_clock_never_makes_a_step_slower_and_always_costs_power_when_idle(workload, range):
    plant = jetson_tx2(workload, range=range)
    shape = plant.space.shape
    for axis in range_of(shape):
        assert (np.diff(plant.step_s.reshape(shape), axis=axis) <= 1e-12).all()
        assert (np.diff(plant.idle_rail_w["total"].reshape(shape), axis=axis) > 0).all()


def range_of(shape) -> range:
    return range(len(shape))


@every_program
def test_rails_add_up_to_the_board_but_for_a_constant_and_shares_are_shares(workload):
    plant = jetson_tx2(workload, range="full")
    rest = plant.rail_w["total"] - plant.rail_w["cpu"] - plant.rail_w["gpu"] - plant.rail_w["mem"]
    assert rest == pytest.approx(PROGRAMS[workload].power[0])
    assert (plant.power_w == plant.rail_w["total"]).all()
    assert all(((0 <= share) & (share <= 1)).all() for share in plant.busy.values())
    assert plant.rails_w(0)["total"] > plant.idle_rails_w(0)["total"]


def test_idle_is_the_boards_own_whatever_ran_before():
    assert jetson_tx2("vit").idle_rails_w(7) == jetson_tx2("cpu-bound").idle_rails_w(7)


def test_a_gpu_bound_program_feels_the_gpu_and_not_the_cpu():
    plant = jetson_tx2("gpu-bound")
    assert share_lost(plant, "gpu_hz") > 0.5
    assert share_lost(plant, "cpu_hz") < 0.01


def test_a_cpu_bound_program_feels_the_cpu_and_not_the_gpu():
    plant = jetson_tx2("cpu-bound")
    assert share_lost(plant, "cpu_hz") > 0.5
    assert share_lost(plant, "gpu_hz") < 0.06


@pytest.mark.parametrize("workload", ["vit", "resnet50", "gpu-bound"])
def test_a_gpu_heavy_program_feels_the_gpu_less_as_memory_slows(workload):
    plant = jetson_tx2(workload)
    lost = [share_lost(plant, "gpu_hz", mem_hz=hz) for hz in plant.space.knobs[2].levels]
    assert lost == sorted(lost)
    assert lost[-1] > lost[0]


def test_the_calibration_has_one_pair_per_level_and_gives_back_the_stress_loads_power():
    knowledge = calibration()
    assert {name: len(power.levels_hz) for name, power in knowledge.board.items()} == {"cpu": 12, "gpu": 13, "mem": 7}
    assert sum(len(knob.levels) for knob in jetson_tx2_space().knobs) == 25  # C9: 25 pairs in the paper's range
    stress = tuple(np.mean([PROGRAMS[name].power for name in ("vit", "resnet50", "lstm")], axis=0))
    for axis, (device, knob) in enumerate(zip(("cpu", "gpu", "mem"), jetson_tx2_space("full").knobs, strict=True)):
        power = knowledge.board[device]
        assert power.levels_hz == knob.levels
        for hz, slope_w, idle_w in zip(power.levels_hz, power.slope_w, power.idle_w, strict=True):
            ghz, busy = np.ones((1, 3)), np.zeros((1, 3))
            ghz[0, axis], busy[0, axis] = hz / 1e9, 0.37
            assert slope_w * 0.37 + idle_w == pytest.approx(device_powers_w(stress, ghz, busy)[0, axis])


def test_what_the_board_does_not_know_is_named_with_what_it_knows():
    with pytest.raises(SettingsError, match=r"workload='bert'.*vit.*cpu-bound"):
        jetson_tx2("bert")
    with pytest.raises(SettingsError, match=r"range='wide'.*paper, full"):
        jetson_tx2_space("wide")


def test_parameters_and_tables_are_those_of_the_board_profile():
    if not PROFILE.exists():
        pytest.skip("the board profiles (../shared/boards) are not here")
    profile = json.loads(PROFILE.read_text())
    fits = profile["sim_calibration"]["fits"]
    for workload, fit in (("vit", "CIFAR10"), ("resnet50", "ImageNet"), ("lstm", "IMDB")):
        time = fits[fit]["time"]
        assert PROGRAMS[workload].time == tuple(time[name] for name in ("tc", "tg", "tm", "t0", "p", "q"))
        assert PROGRAMS[workload].power == tuple(fits[fit]["power"])
    cpu, gpu, mem = jetson_tx2_space().knobs
    assert cpu.levels == tuple(1e3 * khz for khz in profile["ceml_levels"]["cpu_khz"])
    assert gpu.levels == tuple(profile["ceml_levels"]["gpu_hz"])
    assert mem.levels == tuple(profile["ceml_levels"]["emc_hz"])
