"""Which states of a machine are left to ask for: not what proved unreachable, nor what the limits of others forbid."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ceml.domain.knobs import Configuration, KnobSpace, Level


class Territory:
    """The states that are left.

    Attributes:
        space: They; unreachable ones have gone.
        unreachable: Configurations that the machine refused, for good.
    """

    def __init__(self, space: KnobSpace, unreachable: Iterable[Configuration] = ()) -> None:
        """`unreachable`: what earlier runs found so, and `space` is without."""
        self.space = self._reachable = self._whole = space
        self.unreachable = set(unreachable)
        self._levels: Mapping[str, Sequence[Level]] = {}  # that the limits of others leave, of the knobs named

    def drop(self, configuration: Configuration, *, for_good: bool = True) -> None:
        """A state proved unreachable, or all that have these levels; `for_good`: other runs should know."""
        if for_good:
            self.unreachable.add(configuration)
        gone = self._reachable.having(configuration)
        if len(gone):
            self._reachable = self._reachable.without(gone.tolist())
            self._narrow()

    def reach_again(self, forgiven: Iterable[Configuration]) -> None:
        """What kept states out of reach has gone: all may be asked for again but those unreachable for good.

        `forgiven`: of these it was wrong to think so.
        """
        self.unreachable.difference_update(forgiven)
        gone = {int(state) for levels in self.unreachable for state in self._whole.having(levels)}
        self._reachable = self._whole.without(gone) if 0 < len(gone) < len(self._whole) else self._whole
        self._narrow()

    def limit_levels(self, levels: Mapping[str, Sequence[Level]]) -> None:
        """Of these knobs only these levels may be asked for, until told otherwise."""
        self._levels = levels
        self._narrow()

    def _narrow(self) -> None:
        """The reachable states within the levels; all of them, where nothing would be left."""
        left = self._reachable
        for knob in left.knobs:
            kept = self._levels.get(knob.name, knob.levels)
            gone = [left.having({knob.name: level}).tolist() for level in knob.levels if level not in kept]
            left = left.without(chain.from_iterable(gone))
        self.space = left if len(left) else self._reachable
