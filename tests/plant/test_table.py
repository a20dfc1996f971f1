"""What is played of a measured table. Not covered: parsing of lines (test_rows.py)."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import KnobKind
from ceml.errors import SettingsError
from ceml.plant.table import Table, parse_fix, parse_limit

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"

LINES = (
    "device,workload,batch,cpu_hz,gpu_hz,step_s,power_w,step_smooth_s,power_smooth_w",
    "x,lstm,8,1e9,5e8,1.0,4,1.1,4.1",
    "x,lstm,8,1e9,9e8,0.8,6,0.7,6.1",
    "x,lstm,8,2e9,9e8,0.5,8,0.6,8.1",
    "x,lstm,16,2e9,9e8,0.9,8,0.8,8.1",
    "x,vit,16,2e9,9e8,2,8,2.2,8.1",
)
TABLE = Table.parse(LINES, "t.csv")


def complaint(parse, text: str) -> str:
    try:
        name, _ = parse(text)
    except SettingsError as error:
        return str(error)
    return "fine" if name else "no name"


def shared_table(name: str) -> Table:
    path = SHARED / name
    if not path.exists():
        pytest.skip("the measured tables (../shared/data) are not here")
    return Table.parse(path.read_text().splitlines(), name)


@given(st.permutations(range(6)))
def test_the_order_of_rows_says_nothing_of_words_either(order: list[int]):
    rows = [f"x,{mode},{gpu},1,4" for mode in ("eco", "turbo", "air") for gpu in (1e9, 2e9)]
    one = Table.parse(("workload,mode,gpu_hz,step_s,power_w", *rows), "t.csv").grid("x").space
    other = Table.parse(("workload,mode,gpu_hz,step_s,power_w", *(rows[at] for at in order)), "t.csv").grid("x").space
    assert one.knobs == other.knobs


def test_smoothed_columns_are_played_and_the_measured_ones_on_request():
    played, raw = TABLE.grid("lstm", 8), TABLE.grid("lstm", 8, measured=True)
    assert played.step_s[played.space.max_state] == 0.6
    assert played.power_w[played.space.max_state] == 8.1
    assert raw.step_s[raw.space.max_state] == 0.5
    assert raw.rails_w(raw.space.max_state) == {"total": 8.0}


def test_states_that_were_not_measured_are_absent():
    plant = TABLE.grid("lstm", 8)
    assert plant.space.shape == (2, 2)
    assert len(plant.space) == 3
    assert plant.space.find({"cpu_hz": 2e9, "gpu_hz": 5e8}) is None
    assert np.isnan(plant.step_s[~plant.space.present]).all()
    assert np.isfinite(plant.step_s[plant.space.states]).all()


def test_fix_and_limit_narrow_the_space_to_levels_that_still_occur():
    fixed = TABLE.grid("lstm", 8, {"gpu_hz": 9e8})
    assert fixed.space.shape == (2, 1)
    assert fixed.space.present.all()
    limited = TABLE.grid("lstm", 8, limit={"cpu_hz": (0.5e9, 1.0000000001e9)})
    assert limited.space.shape == (1, 2)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"workload": "bert"}, "workload='bert' is not in t.csv; it has lstm, vit"),
        ({"workload": "lstm"}, "batch sizes 8, 16: say which with --batch"),
        ({"workload": "lstm", "batch": 4.0}, "batch=4 .* batch sizes: 8, 16"),
        ({"workload": "vit", "fix": {"fan_hz": 1.0}}, "fan_hz is no knob of t.csv; its knobs are cpu_hz, gpu_hz"),
        ({"workload": "vit", "fix": {"cpu_hz": 1.0}}, "--fix cpu_hz=1: no such level; levels are 2000MHz"),
        ({"workload": "vit", "limit": {"cpu_hz": (1.0, 2.0)}}, r"--limit cpu_hz=1..2: no state left; levels are"),
        ({"workload": "vit", "limit": {"mem_hz": (1.0, 2.0)}}, "mem_hz is no knob"),
        ({"workload": "vit", "fix": {"device": "y"}}, "measured on x: device='y' did not run it"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(asked, says):
    with pytest.raises(SettingsError, match=says):
        TABLE.grid(**asked)


def test_a_program_measured_on_two_boards_needs_the_board_named():
    table = Table.parse(("device,workload,power_limit_w,step_s", "a40,x,100,1", "v100,x,100,2"), "t.csv")
    with pytest.raises(SettingsError, match="measured on a40, v100: say which with --fix device=NAME"):
        table.grid("x")
    plant = table.grid("x", fix={"device": "v100"})
    assert plant.step_s.tolist() == [2.0]
    assert plant.space.knobs[0].kind is KnobKind.POWER_LIMIT


def test_an_epoch_is_cut_into_equal_steps():
    plant = Table.parse(("workload,power_limit_w,epoch_s,power_w", "x,100,500,90"), "t.csv").grid("x", steps=1000)
    assert plant.step_s.tolist() == [0.5]


def test_without_a_power_column_power_is_not_known_and_there_are_no_rails():
    plant = Table.parse(("workload,gpu_hz,step_s", "x,1e9,1"), "t.csv").grid("x")
    assert np.isnan(plant.power_w).all()
    assert plant.rails_w(0) == {}
    assert plant.utilisation(0) == {}


def test_rails_and_utilisations_come_along_and_ddr_is_the_memory():
    header = "workload,gpu_hz,step_s,power_w,power_gpu_w,power_ddr_w,util_gpu"
    plant = Table.parse((header, "x,1e9,1,9,4,2,0.5"), "t.csv").grid("x")
    assert plant.rails_w(0) == {"total": 9.0, "gpu": 4.0, "mem": 2.0}
    assert plant.utilisation(0) == {"gpu": 0.5}
    assert plant.idle_rails_w(0) == {}


def test_knob_kinds_and_settle_times_follow_from_the_names():
    table = Table.parse(("workload,cpu_hz,gpu_hz,mem_hz,cpu_cores,mode,step_s", "x,1e9,1e9,1e9,4,eco,1"), "t.csv")
    knobs = {knob.name: (knob.kind, knob.settle_s) for knob in table.grid("x").space.knobs}
    assert knobs == {
        "cpu_hz": (KnobKind.FREQUENCY, 0.001),
        "gpu_hz": (KnobKind.FREQUENCY, 0.005),
        "mem_hz": (KnobKind.FREQUENCY, 0.008),
        "cpu_cores": (KnobKind.COUNT, 0.001),
        "mode": (KnobKind.CATEGORY, 0.001),
    }
    with pytest.raises(SettingsError, match="--limit mode: its levels have no order"):
        table.grid("x", limit={"mode": (1.0, 2.0)})


def test_levels_that_span_too_much_are_refused_before_memory_is():
    knobs = [f"k{at}_hz" for at in range(24)]
    rows = [",".join(["x", *(str((at + 1 + row) * 1e9) for at in range(24)), "1"]) for row in range(2)]
    table = Table.parse((",".join(["workload", *knobs, "step_s"]), *rows), "t.csv")
    with pytest.raises(SettingsError, match="narrow them with --fix or --limit"):
        table.grid("x")


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("cpu_hz=1.3GHz", ("cpu_hz", 1.3e9)),
        ("cpu_hz=800 MHz", ("cpu_hz", 800e6)),
        ("power_limit_w=15W", ("power_limit_w", 15.0)),
        ("cpu_cores=4", ("cpu_cores", 4.0)),
        ("device=a40", ("device", "a40")),
        ("mode=15W eco", ("mode", "15W eco")),
    ],
)
def test_a_fix_is_a_knob_and_a_level_with_or_without_a_unit(text, means):
    assert parse_fix(text) == pytest.approx(means) if isinstance(means[1], float) else parse_fix(text) == means


def test_a_limit_is_a_knob_and_two_ends():
    assert parse_limit("cpu_hz=800MHz..2.1GHz") == ("cpu_hz", (800e6, 2.1e9))
    assert parse_limit("cpu_cores=4..8") == ("cpu_cores", (4.0, 8.0))
    assert parse_limit("cpu_hz=1.5..2.5") == ("cpu_hz", (1.5, 2.5))


@pytest.mark.parametrize(
    "text", ["", "cpu_hz", "=1..2", "cpu_hz=1", "cpu_hz=1..", "cpu_hz=..2", "cpu_hz=2..1", "a=x..y"]
)
def test_a_limit_of_another_form_is_refused(text):
    with pytest.raises(SettingsError, match="--limit"):
        parse_limit(text)


@given(st.text(max_size=40))
def test_any_text_is_a_fix_and_a_limit_or_a_settings_error(text):
    for parse in (parse_fix, parse_limit):
        assert re.search("write it as|swap them|fine", complaint(parse, text))


def test_the_measured_tables_have_the_states_that_their_description_says():
    tx2 = shared_table("jetson-tx2-train.csv")
    assert [len(tx2.grid(workload).space) for workload in ("lstm-imdb-train", "vit-cifar10-train")] == [936, 935]
    orin = shared_table("jetson-orin-agx-train.csv")
    assert orin.grid("mobnet-train").space.shape == (6, 14, 13, 4)
    assert len(orin.grid("mobnet-train").space) == 4317
    servers = shared_table("gpu-power-limit-train.csv")
    assert len({(row.device, row.workload, row.batch) for row in servers.rows}) == 121


@pytest.mark.parametrize(
    ("name", "workload", "batch", "saving"),
    [
        ("jetson-tx2-train.csv", "lstm-imdb-train", None, 0.244),
        ("jetson-tx2-train.csv", "vit-cifar10-train", None, 0.245),
        ("jetson-orin-agx-train.csv", "mobnet-train", None, 0.108),
        ("jetson-orin-agx-infer.csv", "bert-infer", None, 0.150),
        ("jetson-orin-agx-infer.csv", "yolo-infer", 1.0, 0.138),
    ],
)
def test_the_possible_saving_on_the_smoothed_columns_is_the_published_one(name, workload, batch, saving):
    plant = shared_table(name).grid(workload, batch)
    energy_j = plant.step_s * plant.power_w
    assert 1.0 - np.nanmin(energy_j) / energy_j[plant.space.max_state] == pytest.approx(saving, abs=0.0006)


def test_the_papers_range_on_the_tx2_tables_has_450_states():
    limit = {"cpu_hz": (800e6, 3e9), "gpu_hz": (420e6, 3e9), "mem_hz": (665e6, 3e9)}
    assert len(shared_table("jetson-tx2-train.csv").grid("lstm-imdb-train", limit=limit).space) == 450


def test_smoothed_columns_are_played_only_where_time_and_power_have_them():
    assert TABLE.smoothed
    assert not Table.parse(("workload,cpu_hz,step_s,power_w,step_smooth_s", "w,1e9,1,1,1"), "t").smoothed
    assert Table.parse(("workload,cpu_hz,step_s,step_smooth_s", "w,1e9,1,1"), "t").smoothed
    assert Table.parse(("workload,cpu_hz,epoch_s,epoch_smooth_s", "w,1e9,1,1"), "t").smoothed


@pytest.mark.parametrize("text", ["gpu_hz=300W..600W", "power_limit_w=1GHz..2GHz", "cpu_cores=1W..2W"])
def test_a_limit_in_the_unit_of_another_quantity_is_refused(text: str):
    with pytest.raises(SettingsError, match=f"--limit {text}: .* takes "):
        parse_limit(text)
    with pytest.raises(SettingsError, match=r"--fix .* takes "):
        parse_fix(text.partition("..")[0])
