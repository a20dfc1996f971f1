"""What a decision was based on, for records: the model's view of the space, bounded in size and number.

A fit cannot be rebuilt from a record, and pictures need what it said. So a decision that was taken on a new fit is
followed by its predictions: of at most `MOST_STATES` states (some 25 kB), of the first `FREELY` decisions, and after
that of one in `PERIOD_S`.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, cast

import numpy as np
import structlog

from ceml.domain.events import Decided, ModelFitted, SpacePredicted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ceml.domain.contracts import Fit
    from ceml.domain.events import Event
    from ceml.domain.knobs import KnobSpace, States

MOST_STATES = 1024
FREELY = 16
PERIOD_S = 600.0


class Predictions:
    """Follows the fits and answers a decision with what its model expected."""

    def __init__(self) -> None:
        self._fitted: dict[str, ModelFitted] = {}
        self._said = 0
        self._next_s = float("-inf")

    def on(self, event: Event) -> SpacePredicted | None:
        """Take in one event; what is to be recorded after it, if anything."""
        if isinstance(event, ModelFitted):
            self._fitted[event.app] = event
        if not isinstance(event, Decided) or (self._said >= FREELY and event.at_s < self._next_s):
            return None
        fitted = self._fitted.pop(event.app, None)  # one fit is told once
        if fitted is None or fitted.fit is None or fitted.space is None:
            return None
        try:
            told = predicted(cast("Fit", fitted.fit), fitted.space, event)
        except Exception as error:  # a model may be a plugin; its mistakes must not end the record of the run
            structlog.get_logger("ceml").warning("prediction_not_recorded", app=event.app, reason=repr(error))
            return None
        self._said += 1
        self._next_s = event.at_s + PERIOD_S
        return told


def predicted(fit: Fit, space: KnobSpace, decided: Decided) -> SpacePredicted:
    """What a fit expects, with four digits."""
    states = some_states(space, decided)
    expected = fit.predict(states)
    spread = expected.energy_sd
    return SpacePredicted(
        at_s=decided.at_s,
        app=decided.app,
        states=tuple(int(state) for state in states),
        rate_hz=_rounded(expected.rate_hz),
        power_w=_rounded(expected.power_w),
        energy_sd=() if spread is None else _rounded(spread),
    )


def some_states(space: KnobSpace, decided: Decided) -> States:
    """All present states, or of a large space those of a coarser grid, the chosen and the highest among them."""
    kept = [np.arange(count) for count in space.shape]
    while prod(map(len, kept)) > MOST_STATES:
        longest = max(range(len(kept)), key=lambda axis: len(kept[axis]))
        levels = kept[longest]
        wanted = max(len(levels) * 3 // 4, 1)
        kept[longest] = levels[np.unique(np.rint(np.linspace(0, len(levels) - 1, wanted)).astype(np.intp))]
    grid = np.zeros(1, dtype=np.intp)
    for levels, stride in zip(kept, space.strides, strict=True):
        grid = (grid[:, None] + levels[None, :] * stride).ravel()
    chosen = space.find(decided.configuration)
    more = [space.max_state] if chosen is None else [space.max_state, chosen]
    return np.unique(np.concatenate([grid[space.present[grid]], np.array(more, dtype=np.intp)]))


def _rounded(numbers: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{number:.4g}") for number in numbers.tolist())
