"""Three objectives of growing ambition: a ratio, a limit, and money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

J_PER_KWH = 3.6e6


@dataclass(frozen=True)
class StepsPerJoule:
    """1. A ratio. What is to be maximised is a cost with a minus before it."""

    constraints: tuple[Any, ...] = ()

    def cost(self, predicted: Any, now: Any) -> np.ndarray:
        return -predicted.rate_hz / predicted.power_w  # (steps/s) / W = steps per joule


def steps_per_joule() -> StepsPerJoule:
    """Most steps per joule."""
    return StepsPerJoule()


@dataclass(frozen=True)
class Slowdown:
    """A constraint: by how much a step may take longer than at maximum frequencies."""

    most: float

    @property
    def name(self) -> str:
        return f"slowdown {self.most:.0%}"

    def violation(self, predicted: Any, now: Any) -> np.ndarray:
        slowdown = now.rate_at_max_hz / predicted.rate_hz - 1  # NaN as long as nobody knows the maximum
        return np.nan_to_num(np.maximum(slowdown - self.most, 0) / (1 + self.most))


@dataclass(frozen=True)
class Energy:
    """2. A goal and a limit: least energy per step among the states that keep the constraint."""

    constraints: tuple[Slowdown, ...]

    def cost(self, predicted: Any, now: Any) -> np.ndarray:
        return predicted.power_w / predicted.rate_hz


def patient(*, slowdown: float = 0.1) -> Energy:
    """Least energy, at most so much slower than at maximum frequencies.

    Args:
        slowdown: 0.1 is 10 %.
    """
    return Energy((Slowdown(slowdown),))


@dataclass(frozen=True)
class Money:
    """3. Two prices: of electricity, and of the time in which the machine (or a person) waits for the result."""

    euro_per_kwh: float
    euro_per_hour: float
    constraints: tuple[Any, ...] = ()

    def cost(self, predicted: Any, now: Any) -> np.ndarray:
        euro_per_s = predicted.power_w * self.euro_per_kwh / J_PER_KWH + self.euro_per_hour / 3600
        return euro_per_s / predicted.rate_hz  # euro per step; all of the run's steps are equal, so their number is not


def money(*, euro_per_kwh: float = 0.30, euro_per_hour: float = 0.001) -> Money:
    """Least cost of electricity and time together.

    Args:
        euro_per_kwh: Price of electricity.
        euro_per_hour: What an hour of waiting is worth: 0 is `energy`, very much is `performance`.
    """
    return Money(euro_per_kwh, euro_per_hour)
