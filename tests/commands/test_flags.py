"""Settings as flags. Not covered: what the values mean (tests/test_settings.py)."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.commands.flags import add_settings_flags, given_flags
from ceml.errors import SettingsError
from ceml.settings import FIELDS
from ceml.sources import load


def parser(**choice: object) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(allow_abbrev=False)
    add_settings_flags(made, **choice)  # type: ignore[arg-type]
    return made


def test_every_field_is_a_flag_with_its_default_in_the_help():
    text = " ".join(parser().format_help().split())
    assert all(f"--{name.replace('_', '-')} " in text for name in FIELDS)
    assert "(default: exhaustive)" in text
    assert "1 % as in the paper" in text


def test_only_what_was_given_is_given():
    assert given_flags(parser().parse_args([])) == {}
    words = ["--fix", "a=1", "--fix", "b=2", "--no-measured", "--dry-run", "--budget", "8 W"]
    assert given_flags(parser().parse_args(words)) == {
        "fix": ["a=1", "b=2"],
        "measured": False,
        "dry_run": True,
        "budget": "8 W",
    }


def test_some_flags_can_be_chosen_and_others_skipped():
    text = parser(only=("seed", "speed"), skip=("speed",)).format_help()
    assert "--seed" in text
    assert "--speed" not in text
    assert "--budget" not in text


words = st.sampled_from([f"--{name.replace('_', '-')}" for name in FIELDS] + ["--no-quiet", "1", "8W", "x"]) | st.text()


@given(st.lists(words, max_size=5))
def test_any_command_line_gives_settings_usage_or_a_message(line: list[str]):
    try:
        load(None, given_flags(parser().parse_args(line)), {})
    except (SettingsError, SystemExit):
        return


@pytest.mark.parametrize(("flag", "shown"), [("--range", "paper|full"), ("--seed", "N"), ("--pipe", "PATH")])
def test_metavars_say_what_is_allowed(flag: str, shown: str):
    assert f"{flag} {shown}" in parser().format_help()
