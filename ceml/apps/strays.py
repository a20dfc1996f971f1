"""Beats in the name of a program that is here already, by a source that never joined: a test by hand, or a ghost."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ceml.apps.wire import Beat

PROOF_BEATS = 3  # so many, and it is a program; a line or two must never get control of the machine
MOST_STRAYS = 16


class Heard(NamedTuple):
    """A beat as it came in."""

    said: Beat
    arrival_s: float
    line: bytes


class Strays:
    """What was heard of sources that have yet to prove themselves, in bounded memory."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], list[Heard]] = {}

    def take(self, app: str, source: str) -> list[Heard]:
        """What was held back of a source; it is no stray any more."""
        return self._heard.pop((app, source), [])

    def hold(self, held: list[Heard]) -> list[Heard]:
        """Hold back all that was heard of a source so far; returns what had to make room for it."""
        dropped = self._heard.pop(next(iter(self._heard))) if len(self._heard) >= MOST_STRAYS else []
        said = held[-1].said
        self._heard[said.app, said.source] = held
        return dropped

    def silent_since(self, moment_s: float) -> list[Heard]:
        """Drop the sources of which nothing was heard since then; returns their beats."""
        silent = [key for key, held in self._heard.items() if held[-1].arrival_s < moment_s]
        return [heard for key in silent for heard in self._heard.pop(key)]
