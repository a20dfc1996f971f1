"""Which states a decision looks at: every one up to `EXACT`, beyond it those that are likely to matter.

Beyond the bound these are a seeded sample of the space, and what a descent by coordinate blocks meets: from the best
of the sample each start moves to the best state on its lines (one knob turned) until none moves, then the best ends
to the best state of their planes (two knobs turned). Neither the order of knobs nor that of states matters, but for
ties. The sample keeps a decision honest where the prediction is rugged, the descent makes it good where it is smooth.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Score
    from ceml.domain.knobs import KnobSpace, States

EXACT = 100_000  # states up to which all are looked at
SAMPLE = 8192  # states drawn from a larger space
STARTS = 24  # descents, from the best of the sample
MOST_ROUNDS = 16  # of a descent; few problems take more than six
LINE = 96  # levels of one knob that are looked at on a line; of more, the near ones and an even spread
SIDE = 40  # the same for each knob of a plane
PLANES_OF = 3  # ends whose planes are looked at


def candidates(space: KnobSpace, score: Score, near: Iterable[int] = (), *, seed: int = 0) -> States:
    """The states that a decision looks at, ascending; the very `space.states` where these are at most `EXACT`.

    Args:
        space: Where to look.
        score: What makes a state good.
        near: States that must be among them, where present, and that descents start from, too.
        seed: Of the sample.
    """
    if len(space) <= EXACT:
        return space.states
    kept = np.array([state for state in near if space.present[state]], dtype=np.intp)
    sample = np.unique(np.concatenate([sampled(space, seed=seed), kept]))
    starts = np.unique(np.concatenate([sample[_ranks(score, sample) < STARTS], kept[-STARTS:]]))
    axes = [(axis,) for axis in range(len(space.knobs))]
    ends, met = _descend(space, score, starts, axes, LINE)
    best = ends[_ranks(score, ends) < PLANES_OF]
    _, around = _descend(space, score, best, list(combinations(range(len(space.knobs)), 2)) or axes, SIDE)
    return np.unique(np.concatenate([sample, met, around]))


def sampled(space: KnobSpace, *, seed: int = 0) -> States:
    """Every state of a space of at most `EXACT`; of a larger one a seeded sample, its highest and its lowest state."""
    if len(space) <= EXACT:
        return space.states
    rng, found = np.random.default_rng(seed), np.array([space.max_state, space.min_state], dtype=np.intp)
    tries = int(np.ceil(SAMPLE * space.present.size / len(space)))
    drawn: States = np.zeros(tries, dtype=np.intp)
    for axis in space.by_name:
        drawn += rng.integers(space.shape[axis], size=tries) * space.strides[axis]
    return np.unique(np.concatenate([found, drawn[space.present[drawn]]]))


def _descend(
    space: KnobSpace, score: Score, starts: States, blocks: Sequence[tuple[int, ...]], most: int
) -> tuple[States, States]:
    """Move each start to the best state of its blocks until none moves; the ends, and the states around them.

    A block is the axes that are turned together; of each at most `most` levels are looked at.
    """
    around: States = starts
    for _ in range(MOST_ROUNDS):
        rows = [np.concatenate([_block(space, start, axes, most) for axes in blocks]) for start in starts.tolist()]
        around = np.unique(np.concatenate(rows))
        rank = _ranks(score, around)
        moved = [row[np.argmin(rank[np.searchsorted(around, row)])] for row in rows]
        ends = np.unique(np.array(moved, dtype=np.intp))
        if np.array_equal(ends, starts):
            break
        starts = ends
    return starts, around


def _block(space: KnobSpace, start: int, axes: tuple[int, ...], most: int) -> States:
    """Present states that differ from a present one in these axes at most."""
    found: States = np.array([start], dtype=np.intp)
    for axis in axes:
        stride, here = space.strides[axis], start // space.strides[axis] % space.shape[axis]
        found = (found[:, None] + (_levels(space.shape[axis], here, most) - here) * stride).ravel()
    return found[space.present[found]]


def _levels(count: int, here: int, most: int) -> NDArray[np.intp]:
    """Level positions to look at: all, or half of them around `here` and half spread evenly over all."""
    if count <= most:
        return np.arange(count)
    low = min(max(here - most // 4, 0), count - most // 2)
    spread = np.linspace(0, count - 1, most - most // 2).astype(np.intp)
    return np.unique(np.concatenate([np.arange(low, low + most // 2), spread]))


def _ranks(score: Score, states: States) -> NDArray[np.intp]:
    """Rank of each state by violation, then cost, then position; 0 is the best, shape (n,)."""
    scored = score(states)
    ranks = np.empty(len(states), dtype=np.intp)
    ranks[np.lexsort((scored.cost, scored.violation))] = np.arange(len(states))
    return ranks
