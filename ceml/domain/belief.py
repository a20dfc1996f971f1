"""What is believed of single configurations: what was measured in them, and what they are surely not above."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ceml.domain.budget import AMBIENT_C, rise_per_watt
from ceml.domain.guard import BOARD, HEAT, STEP_TIME
from ceml.domain.keeping import SURELY_Z, amount, least
from ceml.domain.memory import pooled
from ceml.domain.values import NAN, Situation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ceml.domain.contracts import Fit
    from ceml.domain.guard import Alarm, Bound
    from ceml.domain.knobs import Configuration, KnobSpace
    from ceml.domain.spent import Spent
    from ceml.domain.values import Observation

GUESSED_SD = 0.05  # of a prediction whose model states none
FEW = 5  # power samples that tell what a state drew before


class Belief(NamedTuple):
    """What is known at one moment; asked for one configuration at a time.

    Attributes:
        space: The states that are left.
        observations: What was measured in the present phase of the program.
        spent: The last readings.
        fit: Gives the model as last fitted: who needs none does not have it fitted.
    """

    space: KnobSpace
    observations: Sequence[Observation]
    spent: Spent
    fit: Callable[[], Fit]

    def surely(self, configuration: Configuration, signal: str) -> float:
        """Watts of a rail, seconds per step, or degrees, that a configuration is surely not above; NaN: not known.

        No less than what was measured there, less its noise: a model that is sure of itself is no evidence.
        """
        if signal == HEAT:
            return AMBIENT_C + self._rise_per_watt * self.surely(configuration, BOARD)
        seen = pooled(self.space, [seen for seen in self.observations if seen.configuration == configuration])
        return max(self.expected(configuration, signal), least(seen, signal))  # NaN first stays NaN

    def expected(self, configuration: Configuration, signal: str) -> float:
        """As `surely`, by the model alone."""
        state = self.space.find(configuration)
        if state is None:
            return NAN
        predicted = self.fit().predict(np.array([state]))
        if predicted.covariance is None:
            careful, slower = float(np.exp(SURELY_Z * GUESSED_SD)), float(np.exp(SURELY_Z * GUESSED_SD))
        else:
            slower, careful = (float(np.exp(SURELY_Z * np.sqrt(predicted.covariance[0, a, a]))) for a in range(2))
        if signal == STEP_TIME:
            return slower / float(predicted.rate_hz[0])
        watts = float(predicted.power_w[0]) * careful
        if signal == BOARD:
            return watts
        rail_w = predicted.rail_w.get(signal)
        shares = self.spent.rail_shares(self.observations)
        if rail_w is None:
            return watts * shares.get(signal, 1.0)
        sd = predicted.rail_std.get(signal)
        return float(rail_w[0]) * (careful if sd is None else float(np.exp(SURELY_Z * sd[0])))

    @property
    def _rise_per_watt(self) -> float:
        return rise_per_watt(Situation(power_w=self.spent.power_w, temperature_c=self.spent.temperature_c))

    def in_watts(self, bound: Bound) -> Bound:
        """A cap on temperature as one on the power that would bring it: windows measure no temperature."""
        if bound.signal != HEAT:
            return bound
        rise_per_watt = self._rise_per_watt
        most = (bound.most - AMBIENT_C) / rise_per_watt if rise_per_watt > 0.0 else NAN
        return replace(bound, signal=BOARD, most=most)

    def samples(self, configuration: Configuration) -> int:
        """How many power samples it was measured with."""
        return sum(seen.power_samples for seen in self.observations if seen.configuration == configuration)

    def readings(self, configuration: Configuration, bound: Bound) -> tuple[float, int]:
        """How far above a bound its readings so far were, summed as shares of the bound, and how many there are."""
        over, count = 0.0, 0
        for seen in self.observations:
            if seen.configuration == configuration and seen.power_samples:
                over += seen.power_samples * (amount(seen, bound.signal) / bound.most - 1.0)
                count += seen.power_samples
        return over, count

    def times(self, alarm: Alarm, here: Configuration) -> tuple[float, float]:
        """How many times as much as before a configuration draws now, and what that was; 1 and NaN: not known."""
        seen = pooled(self.space, [seen for seen in self.observations if seen.configuration == here])
        before = [amount(each, alarm.bound.signal) for each in seen if each.power_samples >= FEW]
        return (max(alarm.measured / before[0], 1.0), before[0]) if before and before[0] > 0.0 else (1.0, NAN)
