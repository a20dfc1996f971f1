"""An objective of one's own: energy per step, as long as a step stays below a time that the user can bear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class StepTimeLimit:
    """A step must not take longer than `longest_s`."""

    longest_s: float

    @property
    def name(self) -> str:
        return f"step time limit {self.longest_s:g} s"

    def violation(self, predicted: Any, now: Any) -> np.ndarray:
        """How far above the limit each state is, as a share of it; 0 where it holds."""
        return np.maximum(1 / (predicted.rate_hz * self.longest_s) - 1, 0.0)


@dataclass(frozen=True)
class FastEnough:
    """Cost = joules per step; all candidates come at once, as arrays of shape (n,)."""

    constraints: tuple[StepTimeLimit, ...]

    def cost(self, predicted: Any, now: Any) -> np.ndarray:
        return predicted.power_w / predicted.rate_hz


def fast_enough(*, longest_s: float) -> FastEnough:
    """Least energy per step among the states in which a step takes at most `longest_s` seconds."""
    return FastEnough((StepTimeLimit(longest_s),))
