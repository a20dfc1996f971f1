"""Where not to go, by what the guard saw; and where to go when a state has to be left at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ceml.domain.guard import STEP_TIME
from ceml.domain.keeping import keeps
from ceml.domain.memory import pooled
from ceml.domain.values import Prediction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ceml.domain.belief import Belief
    from ceml.domain.contracts import Score
    from ceml.domain.guard import Bound, Violators
    from ceml.domain.knobs import Configuration, KnobSpace
    from ceml.domain.values import Observation


class Caution(NamedTuple):
    """What is known of states that broke a limit, at one moment.

    Attributes:
        violators: States that broke a limit, as the guard saw.
        bounds: What the guard watches now.
        belief: What is believed of single configurations.
    """

    violators: Violators
    bounds: tuple[Bound, ...]
    belief: Belief

    @property
    def forbidden(self) -> frozenset[Configuration]:
        """States that are known to break a limit in force, and not yet believed to keep it."""
        return self._breaking(self.bounds) if len(self.violators) else frozenset()

    @property
    def safe(self) -> KnobSpace:
        """The space without states that are known to break a cap; one that misses a target may take turns."""
        space = self.belief.space
        gone = self.states(self._breaking([bound for bound in self.bounds if bound.signal != STEP_TIME]))
        return space.without(gone) if gone and len(gone) < len(space) else space

    def states(self, configurations: Iterable[Configuration]) -> list[int]:
        """Of those that are left, their numbers in the space."""
        return [state for state in map(self.belief.space.find, configurations) if state is not None]

    def hopeless(self, bound: Bound) -> bool:
        """Whether even the lowest state is known to break a cap: then the least violation of it is what is left."""
        return bool(broken := self._broken(bound)) and not self._of_use(bound, broken)

    def _broken(self, bound: Bound) -> frozenset[Configuration]:
        return self.violators.forbidden([bound], self.belief.surely)

    def _of_use(self, bound: Bound, broken: frozenset[Configuration]) -> bool:
        space = self.belief.space
        return bound.signal == STEP_TIME or space.configuration(space.min_state) not in broken

    def _breaking(self, bounds: Sequence[Bound]) -> frozenset[Configuration]:
        """What breaks one of these, but for caps that even the lowest state breaks."""
        gone: set[Configuration] = set()
        for bound in bounds:
            broken = self._broken(bound)
            if self._of_use(bound, broken):
                gone |= broken
        return frozenset(gone)

    def refuge(
        self,
        known: Sequence[Observation],
        score: Score,
        here: Configuration,
        drawn_w: float,
        *,
        slow: bool = False,
        times: float = 1.0,
        cooler: bool = False,
    ) -> int | None:
        """The best state that was *measured* to keep all caps; None where there is none.

        Measured surely: mean plus 1.645 standard errors.

        Args:
            known: What was measured in this phase of the program, as far as it was recognised in earlier ones, too.
            score: What scores states now.
            here: What is to be left.
            drawn_w: Expected of it, where it was not measured.
            slow: Whether a target is missed, too; else a cap comes before any target.
            times: How many times as much as before the program draws: what is true of one state is feared of all.
            cooler: Whether it must draw less than `here`, too: what heats a board may be outside of it.
        """
        forbidden, space = self.forbidden, self.belief.space
        kept = [self.belief.in_watts(bound) for bound in self.bounds if slow or bound.signal != STEP_TIME]
        whole = pooled(space, known)
        drawn_w = next((seen.power_w for seen in whole if seen.configuration == here), drawn_w)
        best: tuple[float, int] | None = None
        for seen in whole:
            state = space.find(seen.configuration)
            if state is None or seen.configuration == here or seen.configuration in forbidden:
                continue
            if cooler and not seen.power_w < drawn_w:  # not known: then the lowest state it is
                continue
            if all(keeps(seen, bound, times) for bound in kept):
                cost = float(score.of(Prediction.measured(seen)).cost[0])
                if best is None or cost < best[0]:
                    best = cost, state
        return None if best is None else best[1]
