"""Settings: merging, checking, messages. Not covered: flags as argparse makes them (tests/commands/test_flags.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.values import Limits
from ceml.errors import SettingsError
from ceml.settings import FIELDS, LIMITS, Settings
from ceml.sources import LONGEST, load


def file_with(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "ceml.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_every_field_has_a_default_and_a_reason():
    for name, field in Settings.model_fields.items():
        assert not field.is_required(), name
        assert len(field.description or "") > 20, name


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path):
    config = file_with(tmp_path, "seed = 1\nspeed = 2.0\nobjective = 'edp'\n")
    loaded = load(config, {"seed": "3"}, {"CEML_SEED": "2", "CEML_SPEED": "4"})
    assert (loaded.settings.seed, loaded.settings.speed, loaded.settings.objective) == (3, 4.0, "edp")
    assert loaded.origins["seed"] == "flag"
    assert loaded.origins["speed"] == "environment CEML_SPEED"
    assert loaded.origins["objective"] == f"file {config}"
    assert loaded.origins["model"] == "default"


def test_an_empty_variable_is_unset():
    assert load(None, {}, {"CEML_SEED": "", "CEML_PIPE": ""}).settings == Settings()


def test_ceml_pipe_is_the_pipe():
    assert load(None, {}, {"CEML_PIPE": "/x/beats"}).settings.pipe == Path("/x/beats")


def test_an_unknown_variable_is_a_warning_with_a_suggestion_and_no_error():
    (warning,) = load(None, {}, {"CEML_OBJETIVE": "edp", "HOME": "/"}).warnings
    assert "CEML_OBJETIVE" in warning
    assert "CEML_OBJECTIVE" in warning


def test_an_unknown_key_names_the_nearest_and_all_known(tmp_path: Path):
    with pytest.raises(
        SettingsError, match=r"'objektive' \(did you mean objective\?\).*Known are: platform, "
    ) as caught:
        load(file_with(tmp_path, "objektive = 'edp'"), {}, {})
    assert str(tmp_path) in str(caught.value)


def test_all_mistakes_are_said_at_once_with_field_value_and_origin(tmp_path: Path):
    config = file_with(tmp_path, "speed = -1\nlog_format = 'xml'\nverbose = 7\n")
    with pytest.raises(SettingsError) as caught:
        load(config, {"beats_per_state": "0"}, {"CEML_BUDGET": "8V"})
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert any(line == f"speed = -1 (from file {config}): must be greater than 0" for line in lines)
    assert any("log_format = 'xml'" in line and "'console' or 'json'" in line for line in lines)
    assert any("budget = '8V' (from environment CEML_BUDGET)" in line and "W, mW or kW" in line for line in lines)
    assert any(line.startswith("beats_per_state = '0' (from flag)") for line in lines)


def test_a_speed_that_no_machine_can_keep_up_with_is_refused():
    with pytest.raises(SettingsError, match="less than or equal to 10000"):
        load(None, {"speed": "1e9"}, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed = ", "no valid TOML"),
        ("seed = 1\nseed = 2", "no valid TOML"),
        (b"\x7fELF\xff\xfe\x00", "no text in UTF-8"),
        ("seed = " + "9" * 5000, "no valid TOML"),
        ("fix = " + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_file_is_said_in_words(tmp_path: Path, text: str | bytes, says: str):
    with pytest.raises(SettingsError, match=says):
        load(file_with(tmp_path, text), {}, {})


def test_what_is_no_ordinary_file_is_said_in_words_and_nothing_hangs(tmp_path: Path):
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "none.toml", {}, {})
    with pytest.raises(SettingsError, match="is a directory: give an ordinary file"):
        load(tmp_path, {}, {})
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(SettingsError, match="is a pipe: give an ordinary file"):
        load(tmp_path / "pipe.toml", {}, {})
    with pytest.raises(SettingsError, match="longer than 1048576 bytes"):
        load(file_with(tmp_path, "seed = 1\n" + "#" * LONGEST), {}, {})


@pytest.mark.parametrize(
    ("text", "watts"),
    [("8W", 8), ("8 W", 8), ("7500mW", 7.5), ("0.5kW", 500), (8, 8), ("8", 8), (" 1e1 w ", 10), ("none", None)],
)
def test_a_budget_is_power_with_its_unit(text: object, watts: float | None):
    assert load(None, {"budget": text}, {}).settings.limits == Limits(power_cap_w=watts)


@pytest.mark.parametrize(
    "text", ["nan", "inf", "0W", "-3W", 0, -1.0, float("nan"), "8V", "8 MW", "W", "", "1e999", True, [8], "8W8", "٣W"]
)
def test_what_is_no_power_is_refused(text: object):
    with pytest.raises(SettingsError, match="budget ="):
        load(None, {"budget": text}, {})


def test_every_limit_reaches_its_place():
    said = {"budget": "8W", "rail_budget": ["gpu=3W", "cpu=900mW"], "target": "150/min", "max_slowdown": "12.5%"}
    more = {"deadline": "1.5h", "energy_allowance": "5Wh", "max_temperature": "80 °C"}
    assert set(said | more) == set(LIMITS)
    assert load(None, said | more, {}).settings.limits == Limits(
        power_cap_w=8.0,
        rail_caps_w={"gpu": 3.0, "cpu": 0.9},
        target_hz=2.5,
        max_slowdown=0.125,
        deadline_s=5400.0,
        energy_allowance_j=18000.0,
        max_temperature_c=80.0,
    )
    assert load(None, dict.fromkeys(LIMITS, "none"), {}).settings.limits == Limits()


@pytest.mark.parametrize(
    ("rails", "says"),
    [(["gpu"], "RAIL=POWER"), (["=3W"], "RAIL=POWER"), (["gpu=3V"], "in W"), (["a=1", "a=2"], "once")],
)
def test_a_rail_budget_is_a_rail_and_a_power(rails: list[str], says: str):
    with pytest.raises(SettingsError, match=f"rail_budget = .*{says}"):
        load(None, {"rail_budget": rails}, {})


@pytest.mark.parametrize("name", ["speed", "seed", "noise_time", "batch", "sensor_period_s"])
@pytest.mark.parametrize("value", ["nan", "inf", True, "x", [1], {}, "1e999", -1])
def test_what_is_no_number_is_no_number(name: str, value: object):
    with pytest.raises(SettingsError, match=f"^{name} = "):
        load(None, {name: value}, {})


def test_lists_come_from_repeated_flags_from_toml_and_from_commas(tmp_path: Path):
    wanted = ("cpu_hz=1e9", "gpu_hz=2e9")
    assert load(None, {"fix": list(wanted)}, {}).settings.fix == wanted
    assert load(file_with(tmp_path, 'fix = ["cpu_hz=1e9", "gpu_hz=2e9"]'), {}, {}).settings.fix == wanted
    assert load(None, {}, {"CEML_FIX": "cpu_hz=1e9, gpu_hz=2e9"}).settings.fix == wanted


def test_speed_is_for_boards_whose_time_is_ours():
    with pytest.raises(SettingsError, match="leave speed at 1"):
        load(None, {"platform": "jetson", "speed": 2}, {})
    assert load(None, {"platform": "replay:seed=3", "speed": 2}, {}).settings.speed == 2


def test_verbose_and_quiet_contradict():
    with pytest.raises(SettingsError, match="contradict"):
        load(None, {"verbose": True, "quiet": True}, {})


def test_a_home_directory_is_expanded_and_an_impossible_path_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load(None, {"record": "~/run.jsonl"}, {}).settings.record == Path("/home/somebody/run.jsonl")
    for impossible in ("", "a\0b"):
        with pytest.raises(SettingsError, match="path"):
            load(None, {"record": impossible}, {})


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
garbage = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(), garbage, max_size=4))
def test_any_flags_give_settings_or_a_message(flags: dict[str, object]):
    try:
        assert isinstance(load(None, flags, {}).settings, Settings)
    except SettingsError:
        return


variables = st.sampled_from([f"CEML_{name.upper()}" for name in FIELDS]) | st.text().map("CEML_".__add__)


@given(st.dictionaries(variables, st.text() | st.sampled_from(["1", "8W", "true", "a=b"]), max_size=4))
def test_any_environment_gives_settings_or_a_message(environ: dict[str, str]):
    try:
        load(None, {}, environ)
    except SettingsError:
        return


lines = st.builds(
    lambda name, value: f"{name} = {value}",
    st.sampled_from(FIELDS) | st.text(),
    st.sampled_from(["1", "'x'", "[1]", "2020-01-01", "nan", "{a = 1}", "true", '"8W"']) | st.text(),
)


@given(st.binary() | st.lists(lines, max_size=4).map(lambda some: "\n".join(some).encode("utf-8", "surrogatepass")))
def test_any_file_gives_settings_or_a_message(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.mktemp("any") / "ceml.toml"
    path.write_bytes(content)
    try:
        load(path, {}, {})
    except SettingsError:
        return
