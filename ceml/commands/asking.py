"""What the verbs that ask a running server share: where it is, and numbers as a person reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs


def add_verb(verbs: Verbs, name: str, *, help: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """A verb with the flags that all of these have."""
    import argparse

    verb = verbs.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_argument("--runtime-dir", type=Path, metavar="DIR", help="the server's runtime directory")
    verb.add_argument("--timeout-s", type=float, default=5.0, metavar="SECONDS", help="wait for an answer (default: 5)")
    return verb


def ask(args: argparse.Namespace, verb: str, **fields: object) -> dict[str, Any]:
    """Ask the server that the flags name.

    Raises:
        CemlError: It is not there, or refuses; the text says what to do.
    """
    from ceml.api import client

    path = control_socket(args)
    return client.ask(path, verb, timeout_s=args.timeout_s, **fields)


def control_socket(args: argparse.Namespace) -> Path:
    """Where the server that the flags name is asked.

    Raises:
        SettingsError: A flag is no good.
    """
    import os

    from ceml.errors import SettingsError
    from ceml.store.paths import RuntimePaths

    if not 0.0 < args.timeout_s < 1e6:
        raise SettingsError(f"--timeout-s {args.timeout_s:g} must be a number of seconds above 0, such as 5")
    return RuntimePaths.at(args.runtime_dir or os.environ.get("CEML_RUNTIME_DIR") or None).control


def knobs(levels: dict[str, float | str] | None) -> str:
    """`cpu 2035.2MHz gpu 1300.5MHz`."""
    from ceml.domain.knobs import level_text

    return " ".join(
        f"{name.rpartition('_')[0] or name} {level_text(name, level)}" for name, level in (levels or {}).items()
    )


def number(value: float | None, form: str, unit: str) -> str:
    """With its unit; `?` where it is not known."""
    return f"{format(value, form)}{unit}" if value is not None else "?"


def table(rows: list[tuple[str, str]]) -> str:
    """Names and texts in two columns; rows without a text are left out."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows if text)


def measured(seen: dict[str, Any]) -> str:
    """Rate, power and energy per step of a window."""
    rate, power = number(seen["rate_hz"], ".4g", " steps/s"), number(seen["power_w"], ".2f", " W")
    return f"{rate}, {power}, {number(seen['energy_j'], '.4g', ' J/step')}"
