"""`ceml budget`: change or show the limits of the running server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.commands.asking import add_verb, ask, table
from ceml.commands.status import limit

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs

_EPILOG = """\
examples:
  ceml budget                      what is in force
  ceml budget 8W                   cap on the power of the board; 7500mW is one, too
  ceml budget --rail gpu=3W        caps on single rails, in place of those that are there
  ceml budget --target 2.5/s --max-slowdown 10%      --perf is --target, too
  ceml budget none                 lift this one
  ceml budget --clear              lift all limits; with others: these only, from now on
"""
FLAGS = ("target", "max_slowdown", "deadline", "energy_allowance", "max_temperature")
_METAVARS = ("RATE", "SHARE", "TIME", "ENERGY", "TEMPERATURE")


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs,
        "budget",
        help="change or show the limits of the running server",
        description="Change limits while the program runs: nothing is profiled again, the best configuration under "
        "the new limits is searched with the models as they are. What is not named stays as it is; what is no good is "
        "refused and changes nothing. Only root, the server's user and members of its group may.",
        epilog=_EPILOG,
    )
    verb.add_argument("budget", nargs="?", metavar="POWER", help="cap on the power of the board, such as 8W, or none")
    verb.add_argument("--rail", action="append", metavar="RAIL=POWER", help="cap on one rail; repeatable; or none")
    for name, metavar in zip(FLAGS, _METAVARS, strict=True):
        flag = f"--{name.replace('_', '-')}"
        also = ("--perf",) if name == "target" else ()  # the word of the field, and shorter
        verb.add_argument(flag, *also, metavar=metavar, help=f"as `ceml serve {flag}`")
    verb.add_argument("--clear", action="store_true", help="lift all limits first")


def run(args: argparse.Namespace) -> int:
    """Ask, then tell what is in force."""
    said = {name: getattr(args, name) for name in ("budget", *FLAGS) if getattr(args, name) is not None}
    if args.rail is not None:
        said["rail_budget"] = args.rail
    if said or args.clear:
        ask(args, "budget", limits=said, clear=args.clear)
    status = ask(args, "status")
    rows = [("limit", limit(each)) for each in status["limits"]] or [("limit", "none")]
    decided = status["decided"]
    if decided is not None and not decided["feasible"]:
        rows.append(("beware", decided["why"]))
    print(table(rows))
    return 0
