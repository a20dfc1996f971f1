"""Every field of the settings as a flag, with the description as its help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from ceml.settings import FIELDS, Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_METAVARS = {
    "budget": "POWER",
    "rail_budget": "RAIL=POWER",
    "target": "RATE",
    "max_slowdown": "SHARE",
    "deadline": "TIME",
    "energy_allowance": "ENERGY",
    "max_temperature": "TEMPERATURE",
    "fix": "KNOB=VALUE",
    "limit": "KNOB=LOW..HIGH",
    "table": "TABLE.csv",
    "runtime_dir": "DIR",
    "sensor_period_s": "SECONDS",
    "web": "HOST:PORT",
    "otlp": "URL",
    "metrics": "HOST:PORT",
    "web_token": "TOKEN",
    "platform": "NAME[:OPTIONS]",
    "objective": "NAME[:OPTIONS]",
    "model": "NAME[:OPTIONS]",
    "search": "NAME[:OPTIONS]",
    "sampler": "NAME[:OPTIONS]",
    "detector": "NAME[:OPTIONS]",
}
LIVE_ONLY = ("web", "web_token", "metrics", "otlp")  # settings of a run that somebody can look at
_METAVARS_BY_TYPE = {str: "NAME", int: "N", float: "X", Path: "PATH"}


class Verbs(Protocol):
    """Where a verb adds itself: what `ArgumentParser.add_subparsers` returns (argparse keeps its class private)."""

    def add_parser(self, name: str, *, help: str = ..., **options: Any) -> argparse.ArgumentParser:
        """Add a verb; returns its parser."""
        ...


def add_settings_flags(
    parser: argparse.ArgumentParser, *, only: Collection[str] | None = None, skip: Collection[str] = ()
) -> None:
    """Add a flag for each field of the settings, in groups; values are checked later, all at once.

    Args:
        parser: Where to add them.
        only: Names of fields; None means all.
        skip: Names of fields to leave out.
    """
    groups: dict[str, Any] = {}
    for name in FIELDS:
        if name in skip or (only is not None and name not in only):
            continue
        field = Settings.model_fields[name]
        extra = cast("dict[str, str]", field.json_schema_extra)
        title = extra["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        default = _shown(field.default)
        options: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,
            "help": f"{field.description}{default}".replace("%", "%%"),
        }
        if isinstance(field.default, bool):
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = _metavar(name)
        if isinstance(field.default, tuple):
            options["action"] = "append"
        groups[title].add_argument(f"--{name.replace('_', '-')}", **options)


def given_flags(args: argparse.Namespace) -> dict[str, object]:
    """Field -> value of those settings that the user gave as flags."""
    return {name: value for name, value in vars(args).items() if name in FIELDS}


def _metavar(name: str) -> str:
    """The allowed words where these are few, else what kind of thing it is."""
    kinds = list(_flat((Settings.model_fields[name].annotation,)))
    words = [kind for kind in kinds if isinstance(kind, str)]
    if words:
        return "|".join(words)
    return _METAVARS.get(name) or next((text for kind, text in _METAVARS_BY_TYPE.items() if kind in kinds), "VALUE")


def _flat(choices: tuple[object, ...]) -> Iterator[object]:
    """Types and the words of Literals, also inside of a union with None."""
    for choice in choices:
        inner = cast("tuple[object, ...]", getattr(choice, "__args__", ()))
        yield from _flat(inner) if inner else (choice,)


def _shown(default: object) -> str:
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return " (default: on)" if default else " (default: off)"
    return f" (default: {default})"
