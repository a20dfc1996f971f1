"""One self-contained page: pictures and tables of one or several records, nothing fetched, nothing executed."""

from __future__ import annotations

import base64
from html import escape
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from ceml.domain.budget import named
from ceml.telemetry.progress import chapter_rows
from ceml.telemetry.record import misread
from ceml.telemetry.report import balance, space, style, timeline, tradeoff

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ceml.telemetry.report.digest import Digest, Told
    from ceml.telemetry.report.style import Picture

MOST_BYTES = 2_800_000  # of a page
VECTORS = 1_600_000  # bytes of pictures as vectors; those beyond are pixels
MOST_PROGRAMS = 4  # of one record whose pictures are drawn
ROWS = 200  # of a list on the page

_CSS = """
body { font: 15px/1.45 sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem;
  color: #000; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #999 }
h3 { font-size: 1rem; margin-top: 1.6rem } figure { margin: 1rem 0 } img { width: 100%; height: auto }
img.narrow { width: auto; max-width: 100% } figcaption { font-size: 0.85rem; color: #333 }
table { border-collapse: collapse; font-size: 0.85rem; margin: 0.8rem 0 } .wide { overflow-x: auto }
th, td { text-align: left; vertical-align: top; padding: 0.2rem 0.7rem 0.2rem 0; border-bottom: 1px solid #ccc }
td { overflow-wrap: anywhere } .note { border-left: 4px solid #000; padding-left: 0.7rem }
@media print { h2 { break-before: page } figure { break-inside: avoid } }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Drawn(NamedTuple):
    """One record with its pictures: of the run, then of each program.

    Attributes:
        run: The record.
        pictures: Of the whole run.
        programs: Of each program, those that could be drawn.
    """

    run: Digest
    pictures: tuple[Picture, ...]
    programs: tuple[tuple[Told, tuple[Picture, ...]], ...]


def drawn(run: Digest) -> Drawn:
    """Draw all that a record has; to be called within `styled`."""
    pictures = [timeline.timeline(run)]
    if run.opening_s < run.begun_s + 0.5 * (run.end_s - run.begun_s):
        pictures.append(timeline.timeline(run, opening=True))
    programs: list[tuple[Told, tuple[Picture, ...]]] = []
    for told in run.told[:MOST_PROGRAMS]:
        made = (
            space.surface(run, told),
            tradeoff.agreement(run, told),
            tradeoff.pareto(run, told),
            balance.ledger(run, told),
        )
        programs.append((told, tuple(picture for picture in made if picture is not None)))
    return Drawn(run, tuple(picture for picture in pictures if picture is not None), tuple(programs))


def page(records: Sequence[Drawn], side_by_side: Picture | None) -> bytes:
    """The page."""
    room = _Room()
    names = ", ".join(record.run.name for record in records)
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(names)[:300]}: ceml report</title><style>{_CSS}</style></head><body>",
        f"<h1>{'Record' if len(records) == 1 else 'Records'} of ceml: {escape(names)[:600]}</h1>",
        _labels(records),
        _summary(records),
    ]
    if side_by_side is not None:
        parts.append(room.figure(side_by_side))
    for record in records:
        parts += _record(record, room)
    if room.left_out:
        parts.append(f"<p class=note>{room.left_out} pictures are left out, since a page stays below 3 MB; "
                     "--png and --svg write them all.</p>")  # fmt: skip
    parts.append("</body></html>\n")
    return "".join(parts).encode("utf-8", "replace")


class _Room:
    """How much still fits onto the page: vectors first, pixels later, in the end nothing."""

    def __init__(self) -> None:
        self.used = 0
        self.left_out = 0

    def figure(self, picture: Picture) -> str:
        """A picture with its caption, embedded."""
        title, caption = escape(picture.title), escape(picture.caption)
        kind, data = ("svg+xml", picture.svg)
        if self.used + len(picture.svg) * 4 // 3 > VECTORS:
            kind, data = ("png", picture.png)
        text = base64.b64encode(data).decode("ascii")
        if self.used + len(text) > MOST_BYTES:
            self.left_out += 1
            return f"<p>{title}: left out.</p>"
        self.used += len(text)
        narrow = " class=narrow" if picture.name == "pareto" else ""
        return (
            f'<figure><h3>{title}</h3><img{narrow} src="data:image/{kind};base64,{text}" alt="{title}. {caption}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )


def _labels(records: Sequence[Drawn]) -> str:
    labels = dict.fromkeys(label for r in records if r.run.started for label in r.run.started.labels)
    return f"<p class=note>These numbers are: <b>{escape(', '.join(labels))}</b>.</p>" if labels else ""


def _summary(records: Sequence[Drawn]) -> str:
    """The records as columns of one table."""
    several = len(records) > 1
    columns = [dict(_facts(record.run)) for record in records]
    rows = dict.fromkeys(name for column in columns for name in column)
    cells = [["", *(f"{balance.letter(at)}: {r.run.name}" for at, r in enumerate(records))]] if several else []
    cells += [[name, *(column.get(name, "not in this record") for column in columns)] for name in rows]
    return _table(cells, head=several)


def _facts(run: Digest) -> Iterator[tuple[str, str]]:
    begun, end = run.started, run.ended
    if begun is None:
        yield "started", "the first line of the record, which says what ran on what, is missing"
    else:
        yield "platform", f"{begun.platform}, ceml {begun.version}"
        yield "asked for", f"objective {begun.objective}, model {begun.model}, search {begun.search}"
        yield "limits at the start", named(begun.limits)
    beats = f", {run.ledger.steps:.0f} steps" if run.kinds.get("heartbeat") else ""
    yield "length", f"{run.end_s - run.begun_s:.1f} s{beats}"
    if end is None:
        yield "ended", "without goodbye: the run was killed, still goes on, or the record is cut"
    else:
        energy = f", {end.energy_j:.5g} J" if isfinite(end.energy_j) else ", energy not measured"
        yield "ended", f"{end.reason}: {end.steps:.0f} steps in {end.seconds:.1f} s{energy}"
    for told in run.told[:1]:
        yield "program", told.chapter.app + (f" and {len(run.told) - 1} more" if len(run.told) > 1 else "")
        yield from chapter_rows(told.chapter, told.chapter.profiling_s(run.end_s))
        sums = balance.balance(told)
        unknown = "no window had closed" if run.ledger.measured else "power was not measured"
        yield "energy", unknown if sums is None else f"{sums.total_j:.5g} J, {sums.in_words()}"
    if not run.told:
        yield "program", "none came"
    yield from _flaws(run)


def _flaws(run: Digest) -> Iterator[tuple[str, str]]:
    """What could not be read, in clear words."""
    if run.bad_lines:
        which = f"line {run.first_bad_line} is" if run.bad_lines == 1 else f"{run.bad_lines} lines are"
        yield "unread", f"{which} no event (cut off, or spoilt); the rest is shown"
    if run.unknown:
        yield "unknown", f"{run.unknown} lines of kinds or shapes that this version of ceml does not know"
    if run.started is not None and (beware := misread(run.started.schema)):
        yield "schema", beware
    if run.ledger.refused_lines:
        yield "refused", f"{run.ledger.refused_lines} lines on the pipe"
    if run.kinds.get("decided") and not run.kinds.get("window_closed"):
        yield "no windows", "recorded with --record-level decisions: rate and power over time are not in it"


def _record(record: Drawn, room: _Room) -> Iterator[str]:
    run = record.run
    yield f"<h2>{escape(run.name)}</h2>"
    yield from (room.figure(picture) for picture in record.pictures)
    if not record.pictures:
        yield "<p>There is nothing in this record that could be drawn over time.</p>"
    told = timeline.numbered(run.remarks)
    if told:
        cells = [["", "after", "what", "reason"]]
        cells += [
            [str(number), f"{remark.at_s - run.begun_s:.1f} s", remark.kind, remark.text]
            for number, remark in told[:ROWS]
        ]
        yield "<h3>What happened, and why</h3>" + _table(cells, head=True)
        more = len(told) - ROWS + run.untold
        if more > 0:
            yield f"<p>and {more} more, see <code>ceml record show</code>.</p>"
    for chapter, pictures in record.programs:
        name = escape(chapter.chapter.app)
        if len(run.told) > 1:
            yield f"<h3>Program {name}</h3>"
        yield from (room.figure(picture) for picture in pictures)
        if chapter.predicted is None:
            yield f"<p>No predictions of the space are recorded for {name}: no surface can be drawn.</p>"
        yield _states(chapter)
    if len(run.told) > MOST_PROGRAMS:
        yield f"<p>{len(run.told) - MOST_PROGRAMS} more programs ran; pictures are of the first {MOST_PROGRAMS}.</p>"


def _states(told: Told) -> str:
    """The states tried, with the numbers of the pictures."""

    def number(value: float, unit: str) -> str:
        return f"{value:.4g} {unit}" if isfinite(value) else "not measured"

    cells = [["", "state tried", "rate", "power", "energy", "windows"]]
    for at, (configuration, state) in enumerate(list(space.tried_states(told).items())[:ROWS], start=1):
        measured = (state.rate_hz, "steps/s"), (state.power_w, "W"), (state.energy_j, "J/step")
        cells.append([str(at), str(configuration), *(number(*each) for each in measured), str(state.windows)])
    return _table(cells, head=True) if len(cells) > 1 else ""


def _table(cells: Sequence[Sequence[str]], *, head: bool) -> str:
    rows: list[str] = []
    for at, row in enumerate(cells):
        tags = ["th" if (head and at == 0) or place == 0 else "td" for place in range(len(row))]
        filled = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in zip(tags, row, strict=True))
        rows.append(f"<tr>{filled}</tr>")
    return f"<div class=wide><table>{''.join(rows)}</table></div>"


def report(runs: Sequence[Digest]) -> tuple[bytes, list[tuple[str, Picture]]]:
    """The page of some records, and all its pictures with names for files."""
    with style.styled():
        records = [drawn(run) for run in runs]
        side_by_side = balance.comparison(runs)
    pictures: list[tuple[str, Picture]] = [] if side_by_side is None else [("comparison", side_by_side)]
    for at, record in enumerate(records):
        front = "" if len(records) == 1 else f"{balance.letter(at)}-"
        pictures += [(f"{front}{picture.name}", picture) for picture in record.pictures]
        for place, (_, made) in enumerate(record.programs, start=1):
            back = "" if len(record.programs) == 1 else f"-{place}"
            pictures += [(f"{front}{picture.name}{back}", picture) for picture in made]
    return page(records, side_by_side), pictures
