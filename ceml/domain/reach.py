"""Which levels a machine does not reach whatever the other knobs say (a clamp in the firmware), from its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.domain.knobs import Configuration

if TYPE_CHECKING:
    from ceml.domain.knobs import Level

ENOUGH = 2  # different states in which a level was asked for and not reached; one may be the fault of another knob


class Reach:
    """What was asked for and what came of it, knob by knob."""

    def __init__(self) -> None:
        self._reached: set[tuple[str, Level]] = set()
        self._missed: dict[tuple[str, Level], set[Configuration]] = {}
        self._been: set[Configuration] = set()

    def learn(self, requested: Configuration, effective: Configuration) -> Configuration | None:
        """Take in an answer; returns a level, as a configuration of one knob, that now counts as out of reach.

        A level that was ever reached never does: what keeps it away now (heat, another owner) may let go.
        """
        self._been.add(effective)
        out: Configuration | None = None
        for knob, level in requested.items():
            if effective.get(knob) == level:
                self._reached.add((knob, level))
                self._missed.pop((knob, level), None)
            elif (knob, level) not in self._reached:
                missed = self._missed.setdefault((knob, level), set())
                missed.add(requested)
                if len(missed) >= ENOUGH:
                    out = Configuration({knob: level})
        return out

    def reached(self, configuration: Configuration) -> bool:
        """Whether the machine once was in this state."""
        return configuration in self._been
