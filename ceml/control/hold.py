"""What the machine was told to hold, and whether it still does: read back, compared, and fights counted.

Inotify does not see what a kernel changes by itself, such as a limit set by cooling (kernel.md), so it is asked for.
A level counts as held while the order reads as it was given or as it came into force; whether a device obeys is
another question, answered when it is applied.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio

from ceml.domain.events import ControlYielded, KnobOverwritten
from ceml.errors import CemlError

if TYPE_CHECKING:
    from collections.abc import Collection

    from ceml.control.machine import Machine
    from ceml.domain.knobs import Configuration

FIGHTS = 5  # meetings with another owner of a knob ...
FIGHT_S = 300.0  # ... within so many seconds, after which the machine is theirs
UNKNOWN = "?"  # a knob that could not be read this time


class Hold:
    """The configuration in force, as long as one is."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._requested: Configuration | None = None
        self._effective: Configuration | None = None
        self._since_s = 0.0
        self._met: dict[str, deque[float]] = {}

    @property
    def wanted(self) -> Configuration | None:
        """What was asked for; None: nothing is held."""
        return self._requested

    def take(self, requested: Configuration, effective: Configuration, at_s: float) -> None:
        """From now on this is held."""
        self._requested, self._effective, self._since_s = requested, effective, at_s

    def loosen(self) -> None:
        """A change begins: until it is answered nobody knows where the machine stands, waited for or not."""
        self._requested = self._effective = None

    def let_go(self) -> None:
        """Nothing is held any more; old fights are forgotten."""
        self.loosen()
        self._met.clear()

    async def look(self) -> tuple[KnobOverwritten, ...]:
        """Read the machine back: each knob that somebody else turned, once. What cannot be read says nothing."""
        requested, effective = self._requested, self._effective
        if requested is None or effective is None:
            return ()
        began_s = anyio.current_time()
        try:
            found = await self._machine.glance()
        except CemlError:
            return ()
        at_s = anyio.current_time()
        turned = [
            knob
            for knob, level in found.items()
            if knob in requested and level not in (requested[knob], effective.get(knob), UNKNOWN)
        ]
        said = tuple(
            KnobOverwritten(
                at_s=at_s,
                knob=knob,
                wanted=effective.get(knob, requested[knob]),
                found=found[knob],
                since_s=self._since_s,
                times=self._meet(knob, at_s),
            )
            for knob in turned
        )
        if turned:
            self.loosen()  # said once; what is applied next is held anew
        elif UNKNOWN not in found.values():
            self._since_s = began_s
        return said

    def no_fight(self, knobs: Collection[str]) -> None:
        """Of these the latest meeting was none: what the other one wants is kept to."""
        for knob in knobs:
            self._met[knob].pop()

    def lost(self, at_s: float) -> ControlYielded | None:
        """Whether a knob was fought over so often that it is better left alone."""
        for knob, met in self._met.items():
            if len(met) >= FIGHTS:
                why = (
                    f"another program or the kernel turned {knob} back {len(met)} times in {at_s - met[0]:.0f} s: the "
                    "machine is left alone, every knob is put back. `ceml doctor` names known rivals; stop the other "
                    "one, then `ceml resume`"
                )
                return ControlYielded(at_s=at_s, knob=knob, times=len(met), why=why)
        return None

    def _meet(self, knob: str, at_s: float) -> int:
        met = self._met.setdefault(knob, deque())
        met.append(at_s)
        while met[0] < at_s - FIGHT_S:
            met.popleft()
        return len(met)
