"""`ceml bench tables`: pooled figures over measured tables, with other strategies beside ours on the same work."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ceml import __version__
from ceml.commands.bench_adapt import add_adapt, run_adapt
from ceml.commands.bench_options import check_target, processes, seeds_of, whole
from ceml.commands.bench_paper import add_paper, run_paper
from ceml.commands.flags import LIVE_ONLY, add_settings_flags, given_flags

if TYPE_CHECKING:
    from ceml.bench.report import Report
    from ceml.commands.flags import Verbs

_EPILOG = """\
examples:
  ceml bench tables TABLE.csv ...                            energy, seeds 0..9, every rival that is installed
  ceml bench tables TABLE.csv --seeds 3 --rivals none        only ours, seeds 0, 1, 2
  ceml bench tables TABLE.csv ... --knowledge --memory       also what the board's other programs teach, and memory
  ceml bench tables TABLE.csv --objective energy --objective edp --rivals tpe,gp-15 --json figures.json

Grids with smoothed columns are pooled; others play their measured columns and are listed apart. Rivals hold each state
for 20 steps inside the run and keep the least measured cost; they are compared by the energy of the whole run.
--knowledge: one run (seed 0, energy) of every grid of the same board with another program, in order of name, writes one
directory; each run begins with a fresh copy. All this lies in a temporary directory, which is removed.
--memory: VmRSS of `ceml serve --platform simulated` with default settings, 60 s of the board's time after its first
decision; with --speed 20, which was found to measure the same as the pace of life.
"""

_SKIPPED = (
    *("platform", "board", "range", "table", "workload", "batch", "seed", "objective", "speed", "dry_run"),
    *("pipe", "runtime_dir", "group", "record", "record_level", "verbose", "quiet", "log_format"),
    *("knowledge", "fresh"),  # runs know nothing of each other, but for those of --knowledge
    *LIVE_ONLY,
)


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser("bench", help="pooled figures over measured tables, other strategies beside ours")
    what = verb.add_subparsers(dest="what", metavar="tables|paper|adapt", required=True)
    add_paper(what)
    add_adapt(what)
    tables = what.add_parser(
        "tables",
        help="play every grid of some measured tables with many seeds, on all cores",
        description="Play every program of some measured tables (as `ceml replay` does, many seeds, all cores) and "
        "print pooled figures, grids one by one, and other strategies on the same work.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    tables.add_argument("tables", nargs="+", type=Path, metavar="TABLE.csv", help="measured tables")
    tables.add_argument(
        "--objective", dest="objectives", action="append", metavar="NAME[:OPTIONS]", help="repeatable (default: energy)"
    )
    tables.add_argument("--seeds", default="0..9", metavar="LOW..HIGH|N", help="these, or the first N (default: 0..9)")
    tables.add_argument("--steps", type=int, default=2000, metavar="N", help="length of each run (default: 2000)")
    tables.add_argument("--workload", dest="workloads", action="append", metavar="NAME", help="only this; repeatable")
    tables.add_argument("--batch", dest="batches", action="append", metavar="N", help="only this size; repeatable")
    tables.add_argument(
        "--rivals",
        default="all",
        metavar="all|none|NAMES",
        help="e.g. max,paper,tpe-15: names or families (default: all)",
    )
    tables.add_argument(
        "--knowledge",
        dest="with_knowledge",
        action="store_true",
        help="also play each pooled grid after one run (seed 0) of every other program of its board in these tables",
    )
    tables.add_argument(
        "--memory",
        action="store_true",
        help="also measure the memory of a daemon 60 s after its first decision, at 20 times the pace of life",
    )
    tables.add_argument("--jobs", type=int, metavar="N", help="processes at once (default: one per core)")
    tables.add_argument("--json", metavar="FILE|-", help="write one JSON object; - prints it instead of the tables")
    tables.add_argument("--config", type=Path, metavar="CONFIG.toml", help="settings from a file")
    add_settings_flags(tables, skip=_SKIPPED)


def run(args: argparse.Namespace) -> int:
    """Play everything, sum up, print."""
    if args.what == "paper":
        return run_paper(args)
    if args.what == "adapt":
        return run_adapt(args)
    from ceml.bench import rivals, show, tables
    from ceml.bench.report import bench
    from ceml.sources import load

    seeds, steps, jobs = seeds_of(args.seeds), whole("steps", args.steps), processes(args.jobs)
    loaded = load(args.config, given_flags(args), os.environ)
    for warning in loaded.warnings:
        print(f"ceml: {warning}", file=sys.stderr)
    objectives = list(dict.fromkeys(args.objectives or [loaded.settings.objective]))
    strategies, absent = rivals.chosen(args.rivals)
    grids = tables.grids_of(
        args.tables, workloads=args.workloads or (), batches=args.batches or (), fix=loaded.settings.fix
    )
    teachers = tables.grids_of(args.tables, fix=loaded.settings.fix) if args.with_knowledge else None
    check_target(args.json)
    with show.Progress() as progress:
        report = bench(
            tables.Work(loaded=loaded, steps=steps),
            grids,
            objectives=objectives,
            seeds=seeds,
            rivals=strategies,
            processes=jobs,
            tell=progress,
            teachers=teachers,
            memory=args.memory,
            settings={
                "version": __version__,
                "tables": sorted({grid.table.name for grid in grids}),
                "objectives": objectives,
                "seeds": list(seeds),
                "steps": steps,
                "rivals": [rival.name for rival in strategies],
                "with_knowledge": args.with_knowledge,
                "memory": args.memory,
                **loaded.settings.model_dump(mode="json", exclude=set(_SKIPPED)),
            },
        )
    report = replace(report, left_out=(*absent, *report.left_out))
    if args.json is not None:
        text = json.dumps(report.as_json(), allow_nan=False, indent=1)
        if args.json == "-":
            print(text)
            return _status(report)
        Path(args.json).write_text(f"{text}\n", encoding="utf-8")
    print(show.everything(report))
    return _status(report)


def _status(report: Report) -> int:
    """2 where nothing could be played: the sentences on what was left out say why."""
    return 0 if report.grids else 2
