"""Board profiles: shipped ones are sound, mistakes in one of your own are said. Not covered: what is done with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.errors import SettingsError
from ceml.platforms import profiles

GOOD = """\
id = "mine"
names = ["Mine"]
soc = "acme,soc"
total = ["total"]
[gpu]
nodes = ["gpu"]
[rails]
VIN = "total"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_a_profile_of_ones_own_is_taken_by_its_path(tmp_path: Path) -> None:
    assert profiles.named(str(written(tmp_path, GOOD))).rails == {"VIN": "total"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("nodes", "nods", r"no field gpu\.nods \(did you mean nodes\?\)"),
        ('VIN = "total"', 'VIN = "total"\nB = "gpuu"', "rails names gpuu: did you mean gpu"),
        ("[rails]", "[rail]", r"no field rail \(did you mean rails\?\)"),
        ('soc = "acme,soc"\n', "", "soc is missing"),
        ('"mine"', '"My Board"', "id = 'My Board'"),
        ('VIN = "total"', 'VDD = "cpu"', "total names total, which is no rail: cpu"),
        ('VIN = "total"', 'VIN = "total"\nB = "total"', "more than once"),
        ('total = ["total"]', 'total = ["total", "cpu"]', "which is no rail"),
        ('VIN = "total"', 'VIN = "total"\nB = "cpu"\n[memory]\ncandidates_hz = [-5]', "candidates_hz"),
        ("[gpu]", "[gpu", "no valid TOML"),
    ],
)
def test_a_mistake_is_said_with_file_field_and_remedy(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(SettingsError, match=says) as told:
        profiles.load(path)
    assert str(path) in str(told.value)


def test_a_total_that_contains_other_rails_stands_alone(tmp_path: Path) -> None:
    text = GOOD.replace('total = ["total"]', 'total = ["total", "cpu"]').replace("[rails]", '[rails]\nC = "cpu"')
    with pytest.raises(SettingsError, match="stands alone"):
        profiles.load(written(tmp_path, text))


@given(text=st.text(max_size=200))
def test_whatever_stands_in_the_file_it_is_a_profile_or_a_sentence(tmp_path_factory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "mine.toml"
    path.write_text(text, encoding="utf-8", newline="")
    for content in (text, GOOD + text):
        path.write_text(content, encoding="utf-8", newline="")
        try:
            profiles.load(path)
        except SettingsError as error:
            assert "board profile" in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("board", sorted(profiles.shipped()))
def test_every_shipped_board_is_found_by_its_own_names_alone(board: str) -> None:
    profile = profiles.named(board)
    entries = [(*((boards,) if boards else ()), profile.soc) for boards in profile.match.boards]
    entries += [
        (f"nvidia,x+{part}-0001" if part.count("-") == 0 else f"nvidia,x+{part}", profile.soc)
        for part in profile.match.parts
    ]
    for compatible in entries:
        matched = profiles.matching(compatible, "")
        assert matched is not None
        assert (matched[0].id, matched[1]) == (board, True)
    for model in profile.match.models:
        matched = profiles.matching((profile.soc,), f"NVIDIA {model}")
        assert matched is not None
        assert matched[0].id == board


def test_a_file_that_is_not_there_is_said() -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        profiles.named("/nowhere/mine.toml")
