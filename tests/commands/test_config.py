"""`ceml config show`. Not covered: the checks themselves (tests/test_settings.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ceml.cli import main
from ceml.commands.config import as_toml
from ceml.sources import load

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_it_prints_each_value_with_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    config = tmp_path / "ceml.toml"
    config.write_text("seed = 7\n")
    monkeypatch.setenv("CEML_LOG_FORMAT", "json")
    monkeypatch.setenv("CEML_NONSENSE", "1")
    assert main(["config", "show", str(config), "--budget", "7500mW"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split("  # ") for line in out.splitlines()]
    said = {text.strip(): origin for text, origin in rows}
    assert said["seed = 7"] == f"file {config}"
    assert said['log_format = "json"'] == "environment CEML_LOG_FORMAT"
    assert said["budget = 7.5"] == "flag"
    assert said['model = "overlap"'] == "default"
    assert "CEML_NONSENSE" in err


plain = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "objective": plain,
            "workload": plain,
            "fix": st.lists(plain, max_size=3),
            "record": plain.filter(lambda text: "\0" not in text and not text.startswith("~")),
            "budget": st.floats(1e-6, 1e9),
            "noise_time": st.floats(0, 0.9),
            "seed": st.integers(0, 2**70),
            "dry_run": st.booleans(),
            "range": st.sampled_from(["paper", "full"]),
            "beats_per_state": st.integers(1, 10**6),
        },
    )
)
def test_the_output_is_a_config_file_of_the_same_settings(
    tmp_path_factory: pytest.TempPathFactory, flags: dict[str, object]
):
    loaded = load(None, flags, {})
    path = tmp_path_factory.mktemp("round") / "ceml.toml"
    path.write_text(as_toml(loaded), encoding="utf-8", newline="")
    assert load(path, {}, {}).settings == loaded.settings
