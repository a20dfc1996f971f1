"""`ceml bench adapt`: what runs make of budgets, of programs that change and of wrong models, on measured tables."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ceml.errors import SettingsError

if TYPE_CHECKING:
    from ceml.commands.flags import Verbs

_EPILOG = """\
examples:
  ceml bench adapt TABLE.csv ...                   seeds 0..9; with eight grids about half an hour on two cores
  ceml bench adapt TABLE.csv --seeds 2 --json      less of it, as JSON

Budgets of 40 to 85 % of the most power, and budgets that change half-way; programs that become 15 % slower, quicker,
hungrier or more frugal, and then what they were; 10 000 quiet windows a grid; knowledge that is 40 % off in power,
steps that become 25 % longer. Only grids with smoothed columns and power are played. `ceml bench tables` tells how good
choices are otherwise.
"""


def add_adapt(verbs: Verbs) -> None:
    """Add the verb to those of `ceml bench`."""
    adapt = verbs.add_parser(
        "adapt",
        help="how budgets are kept, changes found and wrong models mended, on measured tables",
        description="Play every program of some measured tables under budgets, with changes of phase and with wrong "
        "models, many seeds, all cores, and print pooled figures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    adapt.add_argument("tables", nargs="+", type=Path, metavar="TABLE.csv", help="measured tables")
    adapt.add_argument("--seeds", default="0..9", metavar="LOW..HIGH|N", help="these, or the first N (default: 0..9)")
    adapt.add_argument("--steps", type=int, default=2000, metavar="N", help="length of each run (default: 2000)")
    adapt.add_argument("--jobs", type=int, metavar="N", help="processes at once (default: one per core)")
    adapt.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run_adapt(args: argparse.Namespace) -> int:
    """Play everything, sum up, print."""
    from ceml.bench import show, tables
    from ceml.bench.adaptation import adaptation
    from ceml.commands.bench_options import processes, seeds_of, whole
    from ceml.sources import load

    seeds, steps, jobs = seeds_of(args.seeds), whole("steps", args.steps), processes(args.jobs)
    if steps < 1000:
        raise SettingsError(f"--steps {steps}: give 1000 or more, so that changes can be found and found again")
    grids = [grid for grid in tables.grids_of(args.tables) if grid.smoothed and grid.powered]
    if not grids:
        raise SettingsError("none of these tables has smoothed columns and power: there is nothing to play")
    work = tables.Work(loaded=load(None, {}, os.environ), steps=steps)
    with show.Progress(sys.stderr) as progress:
        rows = adaptation(work, grids, seeds=seeds, processes=jobs, tell=progress)
    if args.json:
        told = {"seeds": list(seeds), "steps": steps, "grids": [grid.name for grid in grids]}
        print(json.dumps({**told, "rows": [row.as_json() for row in rows]}, allow_nan=False, indent=1))
    else:
        print(f"{len(grids)} grids, seeds {seeds[0]}..{seeds[-1]}, {steps} steps\n\n{show.promises(rows)}")
    return 0
