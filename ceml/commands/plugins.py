"""`ceml plugins`: what there is to choose from, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.plugins import KINDS, known

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs

_OWN = "ceml-runtime"
_EPILOG = """\
Use one by its name (--objective edp), with options (--objective carbon:intensity=80), or one of your own from a file
(--objective path/to/file.py:factory). The objectives shipped here take risk=0.5 to 0.99 (--objective energy:risk=0.9):
states are judged by the rate and the power that they keep with that probability, so that of two equals the better known
one wins; without it by what is expected. A package adds plugins by entry points in the groups ceml.<kind>.
"""
_NOTES = {"objectives": "ours take risk=0.5 to 0.99, e.g. energy:risk=0.9: cautious where rate and power are uncertain"}


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "plugins",
        help="list objectives, models, searches, samplers, detectors and platforms",
        description="List every plugin that is installed, by kind, with its one-line help.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    verb.add_argument("kind", nargs="?", choices=tuple(KINDS), metavar="KIND", help=f"only one of: {', '.join(KINDS)}")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    listed = {kind: known(kind) for kind in KINDS if args.kind in (None, kind)}
    width = max((len(plugin.name) for plugins in listed.values() for plugin in plugins), default=0)
    for kind, plugins in listed.items():
        print(f"{kind} (--{KINDS[kind]})")
        for plugin in plugins:
            origin = "" if plugin.distribution == _OWN else f"  [{plugin.distribution}]"
            print(f"  {plugin.name:<{width}}  {plugin.help}{origin}")
        if kind in _NOTES:
            print(f"  ({_NOTES[kind]})")
        if not plugins:
            print("  none")
    return 0
