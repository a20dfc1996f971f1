"""What a person at a terminal is shown: one status line, rewritten in place, and a summary at the end."""

from __future__ import annotations

import os
import re
import shutil
from math import isfinite
from typing import TYPE_CHECKING

from ceml.domain.knobs import level_text
from ceml.domain.values import spoken
from ceml.telemetry.chapter import Measured
from ceml.telemetry.stream import Lossy
from ceml.units import between_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ceml.domain.events import Event
    from ceml.domain.values import Observation
    from ceml.telemetry.chapter import Chapter, Estimated
    from ceml.telemetry.ledger import Ledger
    from ceml.telemetry.stream import Stream

_OF = re.compile(r"\b(\d+)\s*(?:of|/)\s*(\d+)\b")
_START, _BOLD, _PLAIN = "\r\x1b[K", "\x1b[1m", "\x1b[0m"


class Above:
    """A stream for other writers to the same terminal, e.g. the log: it takes the status line away first."""

    def __init__(self, progress: Progress, stream: Stream) -> None:
        self._progress, self._stream = progress, stream

    def write(self, text: str) -> int:
        """Write above the status line, which comes back with its next update."""
        self._progress.clear()
        return self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()


class Progress:
    """The status line: phase, state i of n, rate, power, energy per step, saving, configuration.

    On anything but a terminal it writes nothing; there the log lines serve.

    Args:
        stream: Where to.
        ledger: What to show; it must take in each event before `on` is told of it.
        period_s: Least time between two updates, in seconds of the run.
    """

    def __init__(self, stream: Stream, ledger: Ledger, *, period_s: float = 0.2) -> None:
        self._stream = Lossy(stream)
        self.above = Above(self, self._stream)
        self._ledger = ledger
        self._period_s = period_s
        self._live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._bold = not os.environ.get("NO_COLOR")
        self._next_s = float("-inf")
        self._shown = ""

    def on(self, event: Event) -> None:
        """Show what is new, if it is time."""
        if not self._live or event.at_s < self._next_s:
            return
        self._next_s = event.at_s + self._period_s
        text = status_line(self._ledger, shutil.get_terminal_size().columns - 1)
        if text == self._shown:
            return
        self._shown = text
        phase, space, rest = text.partition(" ")
        self._stream.write(f"{_START}{_BOLD}{phase}{_PLAIN}{space}{rest}" if self._bold else f"{_START}{text}")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = ""
            self._stream.write(_START)
            self._stream.flush()


def status_line(ledger: Ledger, columns: int) -> str:
    """The state of the run in one line of at most so many characters; the most important first."""
    chapter = ledger.chapter
    parts = [_phase(ledger)]
    if chapter.phase != "waiting":
        parts += measured(chapter.latest) if chapter.latest else ["measuring"]
        if isfinite(chapter.saving_so_far) and not chapter.vague:
            parts.append(f"saved {chapter.saving_so_far:.1%} so far")
        if chapter.decided is not None and not chapter.decided.feasible:
            parts.append("budget cannot hold")
    measured_in = chapter.latest.configuration if chapter.latest and chapter.phase != "waiting" else None
    shown = measured_in or ledger.configuration  # the clocks that the figures beside them were measured with
    if shown is not None:
        parts.append(_short(shown))
    text = " · ".join(parts)
    return text if len(text) <= columns else f"{text[: max(columns - 1, 0)]}…"


def summary(ledger: Ledger, labels: Sequence[str]) -> str:
    """What came of the run, in a few lines; whatever was not measured says so."""
    rows = [("ran", _ran(ledger)), *chapter_rows(ledger.told, ledger.profiling_s)]
    if ledger.chapters > 1:
        which = "the last one" if ledger.told is ledger.chapter else "the last one that was measured"
        rows.append(("programs", f"{ledger.chapters}; what was saved is said of {which}, {ledger.told.app}"))
    if ledger.refused_lines:
        rows.append(("refused", f"{ledger.refused_lines} lines on the pipe"))
    if labels:
        rows.append(("note", f"these numbers are: {', '.join(labels)}"))
    return "\n".join(f"{name:<10} {text}" for name, text in rows)


def chapter_rows(chapter: Chapter, profiling_s: float) -> list[tuple[str, str]]:
    """What came of one application's time, as rows of name and text."""
    rows: list[tuple[str, str]] = []
    if chapter.states:
        states = f"{len(chapter.states)} state{'' if len(chapter.states) == 1 else 's'}"
        rows.append(("profiling", f"{profiling_s:.1f} s; {states} tried"))
    if chapter.baseline is not None:
        rows.append(("before", f"{_measured_in(chapter.baseline)}  ({chapter.baseline_name})"))
    if chapter.settled is not None:
        unmeasured = f"{chapter.settled.configuration}  (chosen, not measured)"
        rows.append(("after", _measured_in(chapter.settled) if chapter.settled.windows else unmeasured))
    if isfinite(chapter.saving):
        rows.append(("saving", _saving(chapter)))
    if chapter.stalled_s >= 0.05:
        rows.append(("stalled", f"{chapter.stalled_s:.1f} s in all; neither this time nor its energy enters a saving"))
    if chapter.others:
        names = chapter.others_in_words
        told = "power is of all of them" + (", for a part of the time: nothing compares" if chapter.mixed else "")
        rows.append(("beware", f"another program, {names}, ran meanwhile: {told}"))
    if chapter.decided is not None and not chapter.decided.feasible:
        rows.append(("beware", chapter.decided.why))
    return rows


def _saving(chapter: Chapter) -> str:
    estimated = not isinstance(chapter.baseline, Measured)

    def share(saving: float) -> str:
        return f"about {saving:.0%}" if estimated else f"{saving:.1%}"

    against = f"against {chapter.baseline_name}{' (an estimate)' if estimated else ', both measured'}"
    between = chapter.saving_between
    if between is not None and chapter.vague:
        return f"{between_text(between)} of the energy per step {against}"
    sure = "" if between is None else f" (95 %: {between[0]:.0%} to {between[1]:.0%})"
    told = f"{share(chapter.saving)}{sure} of the energy per step {against}"
    if not isfinite(chapter.saving_so_far):
        return told
    return f"{told}; {share(chapter.saving_so_far)} over all its {chapter.steps:.0f} measured steps, profiling included"


def measured(seen: Observation | Measured | Estimated) -> list[str]:
    """Rate, power and energy per step with units; unknown power is left out, an unknown rate is named."""
    power = [f"{seen.power_w:.2f} W"] if isfinite(seen.power_w) else []
    if not isfinite(seen.rate_hz):
        return ["rate not measured", *power] if power else ["not measured"]
    energy = [f"{seen.energy_j:.4g} J/step"] if isfinite(seen.energy_j) else []
    return [f"{seen.rate_hz:.4g} steps/s", *power, *energy]


def _measured_in(seen: Measured | Estimated) -> str:
    return f"{', '.join(reversed(measured(seen)))} at {seen.configuration}"


def _ran(ledger: Ledger) -> str:
    ran = f"{ledger.seconds:.1f} s, {ledger.steps:.0f} steps"
    if ledger.measured and ledger.unmeasured_steps > max(0.01 * ledger.steps, ledger.chapters):  # not just first beats
        ran += f" ({ledger.unmeasured_steps:.0f} of them done while power was not measured)"
    return f"{ran}, {ledger.energy_j:.0f} J" if ledger.measured else f"{ran}, power not measured"


def _phase(ledger: Ledger) -> str:
    """`profiling 3 of 7`: the count is in the reason of the trial, where the sampler gives it."""
    phase = ledger.chapter.phase
    if phase == "waiting":
        return "waiting for a program"
    if phase == "paused":
        return "paused (ceml resume goes on)"
    if phase != "profiling":
        return spoken(phase)
    count = _OF.search(ledger.why)
    return f"profiling {count[1]} of {count[2]}" if count else f"profiling state {max(len(ledger.chapter.states), 1)}"


def _short(configuration: Mapping[str, float | str]) -> str:
    """`cpu 2035.2MHz gpu 1300.5MHz`."""
    shown = ((name.rpartition("_")[0] or name, level_text(name, level)) for name, level in configuration.items())
    return " ".join(f"{device} {level}" for device, level in shown)
