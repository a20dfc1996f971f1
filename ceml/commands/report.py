"""`ceml report RECORD...`: what happened in one or several runs, as one page to look at and pictures to print."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ceml.errors import SettingsError, Unavailable

if TYPE_CHECKING:
    from ceml.commands.flags import Verbs
    from ceml.telemetry.report.style import Picture

_EPILOG = """\
examples:
  ceml report run.jsonl                                one page, report.html, that needs nothing else
  ceml report before.jsonl after.jsonl -o both.html    side by side
  ceml report run.jsonl --svg pictures/                the pictures as SVG (--png: as PNG), for papers

Needs matplotlib: pip install ceml-runtime[report]. Records come from `ceml serve --record FILE` and `ceml replay ...
--record FILE`; with --record-level all every power sample is drawn, with windows (the default) means of some seconds.
"""


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "report",
        help="records as a page with pictures",
        description="Draw what records hold: power against its cap, rate, configuration, phases and decisions with "
        "their reasons; what the model expected and what was tried; predictions against measurements; energy against "
        "time; where the energy went and what was saved, with its uncertainty; several records side by side.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_argument("records", nargs="+", type=Path, metavar="RECORD", help="what `--record` wrote")
    verb.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page (default: report.html)")
    verb.add_argument("--png", type=Path, metavar="DIR", help="write the pictures there as PNG")
    verb.add_argument("--svg", type=Path, metavar="DIR", help="write the pictures there as SVG")


def run(args: argparse.Namespace) -> int:
    """Read, draw, write."""
    needs_matplotlib("ceml report")
    from ceml.telemetry.report.digest import digest, tell_apart
    from ceml.telemetry.report.page import report

    output: Path | None = args.output
    if output is None and args.png is None and args.svg is None:
        output = Path("report.html")
    if output is not None:
        _check(output, args.records)
    runs = [digest(path) for path in dict.fromkeys(args.records)]
    tell_apart(runs)
    for run in runs:
        if run.bad_lines or run.unknown:
            print(
                f"ceml: {run.path}: {run.bad_lines + run.unknown} lines cannot be read (cut off, spoilt or of another "
                "version); the rest is drawn",
                file=sys.stderr,
            )
    page, pictures = report(runs)
    written: list[Path] = []
    if output is not None:
        written.append(_write(output, page))
    written += write_pictures(pictures, png=args.png, svg=args.svg)
    print("\n".join(f"written: {path}" for path in written) or "nothing in these records can be drawn")
    return 0


def write_pictures(pictures: list[tuple[str, Picture]], *, png: Path | None, svg: Path | None) -> list[Path]:
    """Write pictures into directories, which are made; returns the files.

    Raises:
        SettingsError: They cannot be written.
    """
    written: list[Path] = []
    for folder, suffix in ((png, "png"), (svg, "svg")):
        if folder is not None:
            _folder(folder)
            written += [_write(folder / f"{name}.{suffix}", getattr(made, suffix)) for name, made in pictures]
    return written


def needs_matplotlib(who: str) -> None:
    """Say in one line what is missing.

    Raises:
        Unavailable: It is not installed.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise Unavailable(f"{who} draws with matplotlib, which is not installed: pip install ceml-runtime[report]")


def _check(output: Path, records: list[Path]) -> None:
    if any(output.exists() and record.exists() and output.samefile(record) for record in records):
        raise SettingsError(f"-o {output} is one of the records; give another file for the page")
    if output.is_dir():
        raise SettingsError(f"-o {output} is a directory; give a file, e.g. {output / 'report.html'}")


def _folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"cannot make the directory {folder}: {error.strerror}; give another") from None


def _write(path: Path, content: bytes) -> Path:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}; give another place") from None
    return path
