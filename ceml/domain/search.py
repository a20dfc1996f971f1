"""The best configuration under a score: the paper's exhaustive and local search (C18, C19, C20).

Where the paper maximises a score, we minimise a cost. Where it assumes that some state is feasible (footnote 4), we
answer with the state of least predicted violation, and `Choice.violation` says so.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.candidates import candidates, sampled
from ceml.domain.values import Choice
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from ceml.domain.contracts import Score, Scored
    from ceml.domain.knobs import KnobSpace, States


class Exhaustive:
    """Algorithm 1: look at every state, all at once (C18); of a large space at its candidates (`candidates.py`)."""

    def best(self, space: KnobSpace, score: Score, start: int) -> Choice:
        """The feasible state of least cost; of equals, `start` if it is one of them, else the first in C order.

        Nothing feasible: least violation, of equals the least cost. Nothing predictable at all: `start`, with infinite
        cost and violation.
        """
        if not len(space):
            return _nothing(start)
        start = _present(space, start)
        states = candidates(space, score, (start,))
        scored = score(states)
        cost, violation = scored.cost, scored.violation
        masked = np.where(violation > 0.0, np.inf, cost)
        at = int(masked.argmin())
        least = masked.item(at)
        if least == np.inf:  # footnote 4 does not hold
            masked = np.where(violation > violation.min(), np.inf, cost)
            at = int(masked.argmin())
            least = masked.item(at)
        here = start if len(cost) == space.present.size else int(states.searchsorted(start))
        if masked.item(here) == least and violation.item(here) == violation.item(at):
            at = here  # Algorithm 1 starts here and moves for a strictly better one only
        return Choice(state=states.item(at), cost=least, violation=violation.item(at), evaluated=len(cost))


class Local:
    """Algorithm 2: go to the best neighbour for as long as it is better (C19).

    Goes down on (violation, cost), the violation first. From a feasible state this is the paper's way: only feasible
    neighbours count, and where there is none (footnote 5) the walk ends. From a state that is not, it is the shortest
    way to one that is. Each move is strictly better, so ties never loop and no state is visited twice.
    """

    def __init__(self, *, reach: Literal["axis", "box"]) -> None:
        self._reach = reach

    def best(self, space: KnobSpace, score: Score, start: int) -> Choice:
        """The state at which no neighbour is better; nothing predictable on the way: `start`, infinite cost."""
        if not len(space):
            return _nothing(start)
        state = _present(space, start)
        violation, cost = _first(score(np.array([state], dtype=np.intp)))[1]
        evaluated = 1
        while True:
            neighbours = space.neighbours(state) if self._reach == "axis" else _box(space, state)
            if not len(neighbours):
                break
            evaluated += len(neighbours)
            at, (next_violation, next_cost) = _first(score(neighbours))
            if (next_violation, next_cost) >= (violation, cost):
                break
            state, violation, cost = int(neighbours[at]), next_violation, next_cost
        return Choice(state=state, cost=cost, violation=violation, evaluated=evaluated)


def initial_state(space: KnobSpace, score: Score, measured: Sequence[int]) -> int:
    """The paper's getInitialState: where a search starts (ceml.md 1.6).

    The maximum if feasible, else the last feasible measured state, else the state of least predicted power; where no
    power is predicted, the lowest state.

    Args:
        space: Where to look; it must not be empty.
        score: What is feasible, as predicted.
        measured: States that were in force, oldest first; those no longer present are left out.
    """
    top = space.max_state
    tried = [top, *(state for state in reversed(measured) if space.present[state])]
    for state, violation in zip(tried, score(np.array(tried, dtype=np.intp)).violation, strict=True):
        if violation <= 0.0:
            return state
    states = sampled(space)
    power_w = score(states).predicted.power_w
    known = np.isfinite(power_w) & (power_w > 0)
    return int(states[np.where(known, power_w, np.inf).argmin()]) if known.any() else space.min_state


def exhaustive() -> Exhaustive:
    """Every state of the space, all at once (Algorithm 1); beyond 100 000 a seeded descent by blocks of knobs."""
    return Exhaustive()


def local(*, reach: str = "axis") -> Local:
    """From neighbour to better neighbour (Algorithm 2); for spaces too large to look at every state.

    Args:
        reach: `axis`: neighbours differ by one level in one knob; `box`: by at most one level in every knob.

    Raises:
        SettingsError: Another reach.
    """
    if reach not in ("axis", "box"):
        raise SettingsError(f"reach = {reach!r} of search local: choose axis (one knob at a time) or box (all at once)")
    return Local(reach="axis" if reach == "axis" else "box")


def _nothing(start: int) -> Choice:
    """What can be said of an empty space."""
    return Choice(state=start, cost=float("inf"), violation=float("inf"), evaluated=0)


def _present(space: KnobSpace, start: int) -> int:
    """`start`, or the present state nearest to it when it has left the space."""
    if space.present[start]:
        return start
    return space.nearest(space.shares(np.array([start], dtype=np.intp))[0])


def _first(scored: Scored) -> tuple[int, tuple[float, float]]:
    """Position and (violation, cost) of the best of a few states; of equals the first."""
    pairs: list[tuple[float, float]] = list(zip(scored.violation.tolist(), scored.cost.tolist(), strict=True))
    best = min(pairs)
    return pairs.index(best), best


def _box(space: KnobSpace, state: int) -> States:
    """Present states at most one level away in every knob, and those that `neighbours` reaches across holes."""
    ranges: list[range] = []
    here = space.places(np.array([state], dtype=np.intp))[0].tolist()
    for knob, place, count in zip(space.knobs, here, space.shape, strict=True):
        ranges.append(range(max(place - 1, 0), min(place + 2, count)) if knob.ordered else range(count))
    around = {int(np.ravel_multi_index(places, space.shape)) for places in product(*ranges)} - {state}
    found = {other for other in around if space.present[other]} | set(space.neighbours(state).tolist())
    return np.array(sorted(found), dtype=np.intp)
