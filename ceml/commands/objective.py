"""`ceml objective`: change or show what the running server wants less of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.commands.asking import add_verb, ask

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs,
        "objective",
        help="change or show what the running server wants less of",
        description="Change the objective while the program runs. It goes through the same checks as at the start; "
        "nothing is profiled again, the search runs with the models as they are. Installed objectives only (see `ceml "
        "plugins objectives`), options as numbers: files are for the start. Without a name it tells the one in force.",
    )
    verb.add_argument(
        "name", nargs="?", metavar="NAME[:KEY=NUMBER,...]", help="such as edp or min_energy:max_slowdown=0.2"
    )


def run(args: argparse.Namespace) -> int:
    """Ask, then tell what is wanted now."""
    told = ask(args, "status") if args.name is None else ask(args, "objective", objective=args.name)
    print(f"objective  {told['objective']}")
    return 0
