"""How long knobs take to come into force, as runs see it: from what the controller says each change took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ceml.domain.events import ConfigurationApplied
    from ceml.domain.knobs import Configuration

QUANTILE = 0.95
STEP = 0.1  # relative, by which one change moves the estimate at most


@dataclass(slots=True)
class Seen:
    """A quantile that follows what it is told: up by much where that is above it, down by little where it is below."""

    settle_s: float
    changes: int = 1

    def take(self, took_s: float) -> None:
        """Take in one change."""
        self.changes += 1
        self.settle_s *= 1.0 + STEP * (QUANTILE if took_s > self.settle_s else QUANTILE - 1.0)


class SettleTimes:
    """Knob -> what was seen, of changes that moved that knob alone and came to what was wanted."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self._before: Configuration | None = None

    def on(self, event: ConfigurationApplied) -> None:
        """Take in a change."""
        before, self._before = self._before, event.effective
        if before is None or event.effective != event.requested or not event.took_s > 0.0:
            return
        moved = [knob for knob, level in event.effective.items() if before.get(knob) != level]
        if len(moved) != 1:
            return
        known = self.seen.get(moved[0])
        if known is None:
            self.seen[moved[0]] = Seen(event.took_s)
        else:
            known.take(event.took_s)
