"""`ceml app`: a simulated program in a process of its own, to try `ceml serve` with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs

_EPILOG = """\
examples:
  ceml app --workload resnet50 --steps 2000
  ceml app --workload cpu-bound --steps 500 --name mine --seed 3
"""


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    import argparse

    verb = verbs.add_parser(
        "app",
        help="a simulated program that sends heartbeats",
        description="Run a simulated program on the simulated board that `ceml serve` keeps: it works as fast as the "
        "board's configuration lets it, and sends a heartbeat after each step. It ends after --steps, or politely "
        "on Ctrl-C.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_argument("--workload", required=True, metavar="NAME", help="what to run, e.g. resnet50 or gpu-bound")
    verb.add_argument("--steps", required=True, type=int, metavar="N", help="how many steps")
    verb.add_argument("--name", metavar="NAME", help="name to beat under (default: the workload's)")
    verb.add_argument("--pipe", metavar="PATH", help="pipe to beat into (default: the runtime directory's)")
    verb.add_argument("--runtime-dir", type=Path, metavar="DIR", help="where the board is (default: as for serve)")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the noise in step times (default: 0)")
    verb.add_argument("--noise-time", type=float, default=0.02, metavar="X", help="that noise, CV (default: 0.02)")
    verb.add_argument("--wait-s", type=float, default=10.0, metavar="X", help="wait for the board (default: 10)")


def run(args: argparse.Namespace) -> int:
    """Run the program and say how it ended."""
    import os

    from ceml.apps.simulated import run as run_app

    ended = run_app(
        args.runtime_dir or os.environ.get("CEML_RUNTIME_DIR") or None,
        args.workload,
        args.steps,
        name=args.name,
        pipe=args.pipe or (None if args.runtime_dir else os.environ.get("CEML_PIPE")),
        seed=args.seed,
        noise_time=args.noise_time,
        wait_s=args.wait_s,
        say=lambda told: print(f"ceml: {told}", file=sys.stderr),
    )
    print(f"{ended.app}: {ended.steps} of {args.steps} steps in {ended.seconds:.1f} s of board time ({ended.reason})")
    return 0
