"""`ceml top`: how the running server stands, live in the terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ceml.commands.asking import add_verb, control_socket

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs

_EPILOG = """\
keys: b budget, o objective, p pause, r resume, q quit
without a terminal: ceml status --watch [--json]
"""


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    add_verb(
        verbs,
        "top",
        help="how the running server stands, live in the terminal",
        description="Rails, frequencies, rate, phase, energy per step, caps and headroom, and decisions as they "
        "happen. Whoever may connect to the control socket may look; changes need the rights that `ceml budget` needs. "
        "It needs the extra tui: pip install 'ceml-runtime[tui]'.",
        epilog=_EPILOG,
    )


def run(args: argparse.Namespace) -> int:
    """Show until the person has seen enough."""
    from ceml.errors import SettingsError, Unavailable

    path = control_socket(args)
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        raise SettingsError("ceml top needs a terminal; elsewhere, and in pipes, ask: ceml status --watch")
    try:
        from ceml.screens.top import Top
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"ceml top needs the Python package {(error.name or 'textual').partition('.')[0]}, which is not installed: "
            "pip install 'ceml-runtime[tui]'; or ask: ceml status --watch"
        ) from None
    top = Top(path)
    top.run()
    return top.return_code or 0
