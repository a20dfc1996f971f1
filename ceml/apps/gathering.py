"""Beats that came too close on the heels of another: kept until it is known how long their work took."""

from __future__ import annotations

from math import inf, nextafter
from typing import TYPE_CHECKING

from ceml.domain.events import Heartbeat

if TYPE_CHECKING:
    from ceml.apps.wire import Beat

MOST_GATHERED = 256  # fewer than a subscriber takes in one turn (control/bus.py)


class Gathering:
    """Beats without a time of their own, in bounded memory.

    What a program writes in bursts is read within microseconds, and was not done in them: it was done in the time
    until its next sign of life.
    """

    __slots__ = ("_beats", "_each", "_in_last")

    def __init__(self) -> None:
        self._beats: list[Beat] = []
        self._each = 1  # so many beats are kept as one
        self._in_last = 1

    def add(self, beat: Beat) -> None:
        """Keep one. Of a flood only so many are kept, each of which carries the work of several."""
        kept = self._beats
        if kept and self._in_last < self._each:
            kept[-1] = _both(kept[-1], beat)
            self._in_last += 1
            return
        if len(kept) >= MOST_GATHERED:
            self._beats = kept = [_both(*pair) for pair in zip(kept[::2], kept[1::2], strict=True)]
            self._each *= 2
        kept.append(beat)
        self._in_last = 1

    def spread(self, since_s: float, until_s: float) -> list[Heartbeat]:
        """Heartbeats for all of them, evenly between these two moments and in order; nothing is kept any more."""
        beats, self._beats, self._each = self._beats, [], 1
        step_s = max(until_s - since_s, 0.0) / (len(beats) + 1)
        events: list[Heartbeat] = []
        at_s = since_s
        for beat in beats:
            at_s = max(at_s + step_s, nextafter(at_s, inf))
            app, source, number = beat.app, beat.source, beat.beat
            events.append(
                Heartbeat(at_s=at_s, app=app, source=source, beat=number, work=beat.work, metrics=beat.metrics)
            )
        return events


def _both(first: Beat, second: Beat) -> Beat:
    return second._replace(work=first.work + second.work)
