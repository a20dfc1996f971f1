"""`ceml resume`: the server takes control again."""

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
        "resume",
        help="let the running server turn the knobs again",
        description="Take control again after `ceml pause`, with what is known: nothing is profiled a second time.",
    )


def run(args: argparse.Namespace) -> int:
    """Ask and say so."""
    ask(args, "resume")
    print("resumed")
    return 0
