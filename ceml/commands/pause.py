"""`ceml pause`: the machine is left alone for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.commands.asking import add_verb, ask

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    add_verb(
        verbs,
        "pause",
        help="put the knobs back and leave them alone",
        description="Put every knob back to the value that it had before the server changed it, and leave it alone "
        "until `ceml resume`. Beats are still heard, and what was learnt is kept. Limits are not kept meanwhile.",
    )


def run(args: argparse.Namespace) -> int:
    """Ask and say so."""
    ask(args, "pause")
    print("paused: every knob goes back to where it was found; `ceml resume` takes control again")
    return 0
