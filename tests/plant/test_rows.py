"""Parsing of measured tables. Not covered: what is then played of them (test_table.py)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ceml.errors import SettingsError
from ceml.plant.rows import parse_rows

HEADER = "device,workload,batch,cpu_hz,gpu_hz,step_s,power_w\n"
GOOD = "tx2,lstm,8,1e9,5e8,0.5,7.25\n"


def parse(*lines: str):
    return parse_rows(lines, "t.csv")


def complaint(*lines: str) -> str:
    try:
        parse(*lines)
    except SettingsError as error:
        return str(error)
    return "no complaint"


def test_a_good_table_says_its_knobs_its_values_and_its_rows():
    knobs, columns, (row,) = parse(HEADER, GOOD)
    assert knobs == ("cpu_hz", "gpu_hz")
    assert columns == ("step_s", "power_w")
    assert (row.line, row.device, row.workload, row.batch) == (2, "tx2", "lstm", 8.0)
    assert row.knobs == {"cpu_hz": 1e9, "gpu_hz": 5e8}
    assert row.values == {"step_s": 0.5, "power_w": 7.25}


def test_a_power_limit_is_a_knob_and_a_rail_is_none():
    header = "workload,power_limit_w,cpu_cores,epoch_s,power_w,power_ddr_w,util_gpu,step_smooth_s,power_smooth_w"
    knobs, columns, _ = parse(header, "a,100,4,1,1,1,0,1,1")
    assert knobs == ("power_limit_w", "cpu_cores")
    assert columns == ("epoch_s", "power_w", "power_ddr_w", "util_gpu", "step_smooth_s", "power_smooth_w")


def test_a_column_of_names_is_a_knob_too():
    knobs, _, rows = parse("workload,placement,step_s", "a,big,1", "a,little,2")
    assert knobs == ("placement",)
    assert [row.knobs["placement"] for row in rows] == ["big", "little"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ((), "no rows"),
        ((HEADER,), "no rows"),
        (("workload,step_s,step_s,cpu_hz", "a,1,1,1"), "line 1: column 'step_s' is there twice"),
        (("cpu_hz,step_s", "1,1"), "line 1: no column 'workload'"),
        (("workload,cpu_hz,power_w", "a,1,1"), "line 1: no column 'step_s'"),
        (("workload,step_s,power_w", "a,1,1"), "line 1: no knob column"),
        (("workload,,step_s", "a,1,1"), "line 1: a column has no name"),
        ((HEADER, GOOD, "tx2,lstm,8,1e9,5e8,0.5\n"), "line 3: 6 cells under 7 columns"),
        ((HEADER, GOOD.replace("0.5", "")), "line 2, column 'step_s': the cell is empty"),
        ((HEADER, GOOD.replace("7.25", "n/a")), "line 2, column 'power_w': 'n/a' is not a number"),
        ((HEADER, GOOD.replace("7.25", "nan")), "line 2, column 'power_w': 'nan' is not a number"),
        ((HEADER, GOOD.replace("7.25", "1e999")), "line 2, column 'power_w': '1e999' is not a number"),
        ((HEADER, GOOD.replace("7.25", "1_0")), "line 2, column 'power_w': '1_0' is not a number"),
        ((HEADER, GOOD.replace("7.25", "-7")), "line 2, column 'power_w': '-7' must be above zero"),
        ((HEADER, GOOD.replace("1e9", "fast")), "line 2, column 'cpu_hz': 'fast' is not a number"),
        ((HEADER, GOOD.replace("0.5", "0")), "line 2, column 'step_s': '0' must be above zero"),
        ((HEADER, GOOD.replace("lstm", "")), "line 2, column 'workload': the cell is empty"),
        ((HEADER, GOOD, "\n", GOOD), "line 4, columns 'cpu_hz', 'gpu_hz': cpu_hz=1000MHz .* already in line 2"),
        (("workload,cpu_mhz,step_s", "a,800,1"), "line 1: column 'cpu_mhz' .* write cpu_hz, in Hz"),
        (("workload,gpu_GHz,step_s", "a,1.3,1"), "line 1: column 'gpu_GHz' .* write gpu_hz, in Hz"),
        (("workload,cpu_hz,step_s,power_mw", "a,1e9,1,7000"), "line 1: column 'power_mw' .* write power_w, in W"),
        (("workload,cpu_hz,step_ms,step_s", "a,1e9,1,1"), "line 1: column 'step_ms' .* write step_s, in s"),
        (("workload,cpu_hz,step_s", "a,800,1"), "line 2, column 'cpu_hz': 800 Hz is no clock: .* 800e6"),
        (("workload,mode,step_s", "a,1,1", "a,eco,1"), "line 3, column 'mode': numbers and names mixed"),
        ((HEADER, '"unclosed\n'), "line 2: no comma-separated values"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_column(lines, says):
    with pytest.raises(SettingsError, match=f"t.csv.*{says}"):
        parse(*lines)


@given(st.lists(st.text(max_size=60), max_size=8))
@example(["\x00"])
@example(["workload,cpu_hz,step_s", "a,\u0661,1"])
def test_garbage_is_a_table_or_a_settings_error_and_nothing_else(lines):
    assert complaint(*lines).startswith(("t.csv", "no complaint"))


cells = st.sampled_from(["1", "0", "-1", "nan", "", "x", "1e9", "5e8", '"', "2e400", "8", "é"])


@given(st.lists(st.lists(cells, min_size=6, max_size=8).map(",".join), max_size=6))
def test_garbage_below_a_good_header_is_a_table_or_a_settings_error(lines):
    assert complaint(HEADER, GOOD, *lines).startswith(("t.csv, line", "no complaint"))
