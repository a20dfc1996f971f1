"""`ceml bench paper`: the paper's figures 8, 9 and 10 on the simulated board and on measured tables."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ceml import __version__
from ceml.commands.bench_options import check_target, processes, seeds_of, whole

if TYPE_CHECKING:
    from ceml.commands.flags import Verbs

_EPILOG = """\
examples:
  ceml bench paper                                 the simulated Jetson TX2, five programs, a few minutes
  ceml bench paper TABLE.csv ... --svg figures/    measured tables too, and the pictures
  ceml bench paper --workload lstm --seeds 1       only one program, one seed

The same seeds give the same figures. Pictures need matplotlib: pip install ceml-runtime[report].
"""


def add_paper(what: Verbs) -> None:
    """Add the verb to those of `ceml bench`."""
    verb = what.add_parser(
        "paper",
        help="the paper's figures 8, 9 and 10 anew, its numbers beside ours",
        description="Make the paper's figures anew: model error; energy of maximum frequencies, the best of 32 states, "
        "CEML with local and with exhaustive search, and ours; a budget that falls and rises. On the simulated Jetson "
        "TX2, whose figures are called simulated, and on measured tables.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_argument("tables", nargs="*", type=Path, metavar="TABLE.csv", help="measured tables with power")
    verb.add_argument("--seeds", default="0..2", metavar="LOW..HIGH|N", help="these, or the first N (default: 0..2)")
    verb.add_argument(
        "--steps", type=int, default=2000, metavar="N", help="length of a run (default: 2000); Figure 10 has its own"
    )
    verb.add_argument("--workload", dest="workloads", action="append", metavar="NAME", help="only this; repeatable")
    verb.add_argument("--jobs", type=int, metavar="N", help="processes at once (default: one per core)")
    verb.add_argument("--json", metavar="FILE|-", help="write one JSON object; - prints it instead of the tables")
    verb.add_argument("--svg", type=Path, metavar="DIR", help="write the pictures there as SVG")
    verb.add_argument("--png", type=Path, metavar="DIR", help="write the pictures there as PNG")


def run_paper(args: argparse.Namespace) -> int:
    """Play, sum up, print, draw."""
    from ceml.bench import paper_show, show, tables
    from ceml.bench.paper import paper, sources, unasked
    from ceml.commands.report import needs_matplotlib, write_pictures
    from ceml.sources import load

    seeds, steps, jobs = seeds_of(args.seeds), whole("steps", args.steps), processes(args.jobs)
    if args.svg or args.png:
        needs_matplotlib("ceml bench paper --svg or --png")
    check_target(args.json)
    grids = tables.grids_of(args.tables) if args.tables else []
    programs = sources(grids, args.workloads or ())
    loaded = load(None, {}, {name: text for name, text in os.environ.items() if not name.startswith("CEML_")})
    with show.Progress() as progress:
        found = paper(
            tables.Work(loaded=loaded, steps=steps),
            programs,
            seeds=seeds,
            processes=jobs,
            tell=progress,
            settings={"version": __version__, "seeds": list(seeds), "steps": steps},
            left_out=unasked(grids, args.workloads or ()),
        )
    if args.json is not None:
        text = json.dumps(found.as_json(), allow_nan=False, indent=1)
        if args.json == "-":
            print(text)
        else:
            Path(args.json).write_text(f"{text}\n", encoding="utf-8")
    if args.json != "-":
        print(paper_show.everything(found))
    if args.svg or args.png:
        from ceml.bench.paper_pictures import pictures

        for path in write_pictures(pictures(found), png=args.png, svg=args.svg):
            print(f"written: {path}", file=sys.stderr)
    return 0
