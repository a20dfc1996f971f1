"""`ceml record show FILE`: what happened in a run, from its record; `ceml record export FILE`: it as a table."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from ceml.bench.score import Truth
    from ceml.commands.flags import Verbs
    from ceml.domain.events import Event, RunEnded, RunStarted
    from ceml.telemetry.chapter import Chapter, Measured
    from ceml.telemetry.ledger import Ledger


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser("record", help="summarise what a run recorded, or export it")
    what = verb.add_subparsers(dest="what", metavar="show|export", required=True)
    show = what.add_parser(
        "show",
        help="summarise a record",
        description="Summarise a record that `ceml serve --record FILE` wrote: what ran on what, the states that were "
        "tried, what was decided and why, energy per step before and after, and how it ended.",
        allow_abbrev=False,
    )
    show.add_argument("file", type=Path, metavar="FILE", help="the record")
    show.add_argument("--json", action="store_true", help="print one JSON object instead of lines for people")
    export = what.add_parser(
        "export",
        help="a record as a table for other programs",
        description="Write the events of a record as one table, a row an event: nested fields become columns such as "
        "observation.rail_w.gpu, with the unit in the name; lists stand as JSON, what is no number is empty.",
        epilog="Example: ceml record export run.jsonl --csv windows.csv; then read it with anything.",
        allow_abbrev=False,
    )
    export.add_argument("file", type=Path, metavar="FILE", help="the record")
    export.add_argument("--csv", type=Path, metavar="OUT.csv", help="write CSV")
    export.add_argument("--parquet", type=Path, metavar="OUT.parquet", help="write Parquet (needs pyarrow)")
    export.add_argument(
        "--events",
        default="window_closed",
        metavar="KINDS|all",
        help="which events, between commas, e.g. sampled,heartbeat (default: window_closed)",
    )


def run(args: argparse.Namespace) -> int:
    """Read, sum up, print; or write a table."""
    if args.what == "export":
        return _export(args)
    seen = summarise(args.file)
    print(json.dumps(as_json(seen), indent=1, allow_nan=False) if args.json else as_text(seen))
    return 0


def _export(args: argparse.Namespace) -> int:
    from ceml.errors import SettingsError
    from ceml.telemetry import export
    from ceml.telemetry.record import misread

    outputs = [(path, write) for path, write in ((args.csv, export.to_csv), (args.parquet, export.to_parquet)) if path]
    if not outputs:
        raise SettingsError("say where to: --csv OUT.csv, --parquet OUT.parquet or both")
    if len({path.resolve() for path, _ in outputs}) < len(outputs):
        raise SettingsError(f"{args.csv} cannot be both tables; give --csv and --parquet a file each")
    for path, _ in outputs:
        if f"{path}" == "-":
            raise SettingsError("a table is written to a file: give a name, or /dev/stdout")
        if path.exists() and args.file.exists() and path.samefile(args.file):
            raise SettingsError(f"{path} is the record itself; give another file for the table")
    table = export.Table(args.file, [kind.strip() for kind in args.events.split(",") if kind.strip()])
    for path, write in outputs:
        write(table, path)
        print(f"written: {path}: {table.rows} rows, {len(table.columns)} columns")
    if beware := misread(table.schema):
        print(f"ceml: {args.file} is of schema {beware}", file=sys.stderr)
    if table.bad_lines:
        print(f"ceml: {table.bad_lines} lines of {args.file} are no event (cut off, or spoilt)", file=sys.stderr)
    return 0


@dataclass
class Told:
    """One application's chapter with its decisions."""

    chapter: Chapter
    decisions: list[tuple[float, str, str]] = field(default_factory=list[tuple[float, str, str]])  # when, what, why


@dataclass
class Seen:
    """What a record holds, summed up."""

    path: Path
    ledger: Ledger
    started: RunStarted | None = None
    ended: RunEnded | None = None
    told: list[Told] = field(default_factory=list[Told])
    windows: int = 0
    wishes: int = 0  # for other things than energy: limits, another objective
    unknown: int = 0
    bad_lines: list[int] = field(default_factory=list[int])


def summarise(path: Path) -> Seen:
    """Play a record into a ledger, as the run itself did.

    Raises:
        SettingsError: The file cannot be read, or is no record.
    """
    from ceml.telemetry.ledger import Ledger
    from ceml.telemetry.record import as_event, read

    seen = Seen(path, Ledger(()))

    def cut(line: int) -> None:
        seen.bad_lines.append(line)

    for entry in read(path, on_bad_line=cut):
        event = as_event(entry)
        if event is None:
            seen.unknown += 1
        else:
            _take(seen, event)
    return seen


def _take(seen: Seen, event: Event) -> None:
    from ceml.domain.events import BudgetChanged, Decided, ObjectiveChanged, RunEnded, RunStarted, WindowClosed
    from ceml.domain.values import NO_LIMITS
    from ceml.telemetry.ledger import Ledger

    if isinstance(event, RunStarted):
        seen.started = event
        seen.wishes += event.objective != "energy" or event.limits != NO_LIMITS
        seen.ledger = Ledger(event.total_rails)
    elif isinstance(event, RunEnded):
        seen.ended = event
    seen.ledger.on(event)
    chapter = seen.ledger.chapter
    if chapter.app and (not seen.told or seen.told[-1].chapter is not chapter):
        seen.told.append(Told(chapter))
    if isinstance(event, WindowClosed):
        seen.windows += 1
    elif isinstance(event, BudgetChanged):
        seen.wishes += event.limits != NO_LIMITS
    elif isinstance(event, ObjectiveChanged):
        seen.wishes += event.objective != "energy"
    elif isinstance(event, Decided) and seen.told:
        seen.told[-1].decisions.append((event.at_s, str(event.configuration), event.why))


def as_text(seen: Seen) -> str:
    """The summary for people."""
    from ceml.commands.truth import truth_lines

    lines = [f"record     {seen.path}", *_opening(seen)]
    begun_s = seen.started.at_s if seen.started else 0.0
    for told in seen.told:
        lines += ["", f"program    {told.chapter.app}", *_states(told.chapter)]
        lines += [f"decided    {what}  (after {at_s - begun_s:.1f} s: {why})" for at_s, what, why in told.decisions]
        lines += _outcome(told.chapter, seen.ledger)
        lines += truth_lines(_truth(seen, told.chapter), energy_alone=not seen.wishes)
    lines += ["", *_closing(seen)]
    return "\n".join(lines)


def _truth(seen: Seen, chapter: Chapter) -> Truth | None:
    from ceml.commands.truth import recorded_plant, truth_of

    return truth_of(recorded_plant(seen.started.board, chapter.app), chapter) if seen.started else None


def _opening(seen: Seen) -> list[str]:
    begun = seen.started
    if begun is None:
        return ["started    not in this record"]
    from ceml.domain.budget import named

    lines = [
        f"started    ceml {begun.version} on {begun.platform}: objective {begun.objective}, model {begun.model}, "
        f"search {begun.search}, {named(begun.limits)}",
        f"found      {begun.found}",
    ]
    return lines + ([f"note       these numbers are: {', '.join(begun.labels)}"] if begun.labels else [])


def _states(chapter: Chapter) -> list[str]:
    from ceml.telemetry.progress import measured

    def said(state: Measured) -> str:
        if state.windows:
            return ", ".join(measured(state))
        before = chapter.before_change.get(state.configuration)
        return f"{', '.join(measured(before))}  (before the program changed)" if before else "not measured"

    return [
        f"state {number:<4} {configuration}: {said(state)}"
        for number, (configuration, state) in enumerate(chapter.states.items(), start=1)
    ]


def _outcome(chapter: Chapter, ledger: Ledger) -> list[str]:
    from ceml.telemetry.progress import chapter_rows

    return [f"{name:<10} {text}" for name, text in chapter_rows(chapter, chapter.profiling_s(ledger.last_s))]


def _closing(seen: Seen) -> list[str]:
    from ceml.telemetry.record import misread

    lines = [f"windows    {seen.windows}"]
    if seen.ledger.refused_lines:
        lines.append(f"refused    {seen.ledger.refused_lines} lines on the pipe")
    if seen.ledger.overwritten:
        said = ", ".join(f"{knob} {times}" for knob, times in seen.ledger.overwritten.items())
        lines.append(f"disturbed  knobs that somebody else turned, times: {said}; what was measured then is left out")
    if seen.started is not None and (beware := misread(seen.started.schema)):
        lines.append(f"schema     {beware}")
    if seen.unknown:
        lines.append(f"unknown    {seen.unknown} lines of kinds that this version does not know")
    if seen.bad_lines:
        which = f"line {seen.bad_lines[0]}" if len(seen.bad_lines) == 1 else f"{len(seen.bad_lines)} lines"
        lines.append(f"unread     {which} {'is' if len(seen.bad_lines) == 1 else 'are'} no event (cut off, or spoilt)")
    if seen.ended is None:
        return [*lines, f"ended      without goodbye, last heard of after {seen.ledger.seconds:.1f} s"]
    end = seen.ended
    energy = f"{end.energy_j:.0f} J" if math.isfinite(end.energy_j) else "energy not measured"
    return [*lines, f"ended      {end.reason}: {end.steps:.0f} steps in {end.seconds:.1f} s, {energy}"]


def as_json(seen: Seen) -> dict[str, Any]:
    """The summary for programs; null where something is not known."""
    from ceml.telemetry import record

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    def measured(state: Any) -> dict[str, Any]:
        values = {name: known(getattr(state, name)) for name in ("rate_hz", "power_w", "energy_j")}
        return {"configuration": dict(state.configuration), "windows": getattr(state, "windows", 0), **values}

    def truth(chapter: Chapter) -> dict[str, Any] | None:
        found = _truth(seen, chapter)
        return None if found is None else found._asdict()

    apps = [
        {
            "app": told.chapter.app,
            "states": [measured(state) for state in told.chapter.states.values()],
            "before_change": [measured(state) for state in told.chapter.before_change.values()],
            "decisions": [{"at_s": at_s, "configuration": what, "why": why} for at_s, what, why in told.decisions],
            "before": measured(told.chapter.baseline) if told.chapter.baseline else None,
            "before_is": told.chapter.baseline_name if told.chapter.baseline else None,
            "after": measured(told.chapter.settled) if told.chapter.settled else None,
            "saving": known(told.chapter.saving),
            "saving_so_far": known(told.chapter.saving_so_far),
            "profiling_s": told.chapter.profiling_s(seen.ledger.last_s),
            "truth": truth(told.chapter),
        }
        for told in seen.told
    ]
    return {
        "file": str(seen.path),
        "started": record.as_json(seen.started) if seen.started else None,
        "apps": apps,
        "windows": seen.windows,
        "overwritten": seen.ledger.overwritten,
        "refused_lines": seen.ledger.refused_lines,
        "unknown_lines": seen.unknown,
        "bad_lines": seen.bad_lines,
        "ended": record.as_json(seen.ended) if seen.ended else None,
    }
