"""`ceml config show`: the effective settings and where each value came from, as a TOML file that can be saved."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import SecretStr

from ceml.address import Address
from ceml.commands.flags import add_settings_flags, given_flags
from ceml.settings import FIELDS
from ceml.sources import load

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs
    from ceml.sources import Loaded

_EXAMPLES = """\
examples:
  ceml config show                          every setting, its value, and where it came from
  ceml config show --budget 8W > ceml.toml  write them down; then: ceml serve ceml.toml
  CEML_BUDGET=8W ceml config show           what a variable does
"""
_EPILOG = """\
The output is a configuration file: `ceml config show > ceml.toml`, then `ceml serve ceml.toml`.
"""


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "config",
        help="show the effective settings and where each came from",
        description="Every setting is a flag, an environment variable CEML_<SETTING> and a line of a TOML file; the "
        "flag wins over the variable, the variable over the file, the file over the default.",
        epilog=_EXAMPLES,
    )
    show = verb.add_subparsers(dest="what", metavar="show", required=True).add_parser(
        "show",
        help="print the effective settings",
        description="Print every setting as it would be in force, and whether it came from a flag, the environment, "
        "the file or the default.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    show.add_argument("config", nargs="?", type=Path, metavar="CONFIG.toml", help="configuration file to start from")
    add_settings_flags(show)


def run(args: argparse.Namespace) -> int:
    """Print the settings."""
    loaded = load(args.config, given_flags(args), os.environ)
    for warning in loaded.warnings:
        print(f"ceml: {warning}", file=sys.stderr)
    print(as_toml(loaded))
    return 0


def as_toml(loaded: Loaded) -> str:
    """The settings as TOML with their origins as comments; unset ones, which TOML cannot say, are comments too."""
    lines: list[tuple[str, str]] = []
    for name in FIELDS:
        value = getattr(loaded.settings, name)
        text = f"# {name} is unset" if value is None else f"{name} = {_literal(value)}"
        if isinstance(value, SecretStr):
            text = f"# {name} is set, and not shown"
        lines.append((text, loaded.origins[name]))
    width = max(len(text) for text, _ in lines if len(text) <= 60)
    return "\n".join(f"{text:<{width}}  # {_comment(origin)}" for text, origin in lines)


def _literal(value: object) -> str:
    """A TOML value; its basic strings are JSON's, but for DEL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple) and not isinstance(value, Address):
        return f"[{', '.join(_literal(item) for item in cast('tuple[object, ...]', value))}]"
    return _comment(json.dumps(str(value), ensure_ascii=False))


def _comment(text: str) -> str:
    """Control characters may stand neither in a comment nor in a string."""
    return "".join(c if c.isprintable() or c > "\x9f" else f"\\u{ord(c):04x}" for c in text)
