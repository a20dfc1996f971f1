"""What was measured, in the shape that a statistical model wants: pooled per state, in logarithms, with its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ceml.domain.knobs import KnobSpace, States
    from ceml.domain.values import Observation

    Numbers = NDArray[np.float64]

STEP_CV, POWER_CV = 0.02, 0.025  # usual scatter of one step and of one power sample, until it has been measured
BELIEF = 10.0  # how many scattered values the usual ones weigh as much as
SAME_POWER = 1e-9  # relative difference below which a rail is taken to be the power of the whole board
LEAST_CV = 0.003  # nothing is measured better than this by one step or sample: clocks drift, sensors are quantised


@dataclass(frozen=True, slots=True)
class Evidence:
    """All windows, pooled per state.

    Attributes:
        states: The states that were measured, ascending, shape (m,).
        values: ln seconds per step and ln watts, shape (2, m); NaN where not measured.
        counts: Steps and power samples behind them, shape (2, m).
        noise: Variance of ln step time per step, and of ln power per sample.
    """

    states: States
    values: Numbers
    counts: Numbers
    noise: tuple[float, float]

    @property
    def variance(self) -> Numbers:
        """Variance of `values` by noise alone, shape (2, m); 1 where there is none."""
        return np.array(self.noise)[:, None] / np.maximum(self.counts, 1e-9)

    @property
    def has_power(self) -> bool:
        """Whether any power was measured."""
        return bool(np.isfinite(self.values[1]).any())


def gather(space: KnobSpace, observations: Sequence[Observation]) -> Evidence:
    """Pool the windows of each state: total seconds over total steps, and the mean of all its power samples.

    Windows of configurations outside the space, and numbers that are not positive and finite, are left out. The noise
    is the scatter inside windows (their coefficients of variation) and between windows of one state, pooled with the
    usual values: sigma^2 = (B s0^2 + sum_w (n_w - 1) cv_w^2) / (B + sum_w (n_w - 1)).
    """
    pooled: dict[int, list[tuple[float, float, float, float]]] = {}
    scatter = [(BELIEF * STEP_CV**2, BELIEF), (BELIEF * POWER_CV**2, BELIEF)]

    def learn(which: int, variance: float, freedom: float) -> None:
        if freedom > 0 and np.isfinite(variance) and 0.0 <= variance < 4.0:
            scatter[which] = (scatter[which][0] + freedom * variance, scatter[which][1] + freedom)

    for seen in observations:
        state = space.find(seen.configuration)
        if state is None or not (seen.steps > 0 and seen.rate_hz > 0 and 0.0 < seen.steps / seen.rate_hz < np.inf):
            continue
        powered = seen.power_samples > 0 and seen.power_w > 0 and np.isfinite(seen.power_w)
        pooled.setdefault(state, []).append(
            (
                seen.steps,
                seen.steps / seen.rate_hz,
                seen.power_samples if powered else 0.0,
                seen.power_w if powered else 0.0,
            )
        )
        learn(0, seen.step_cv**2 * seen.steps / max(seen.beats, 1), seen.beats - 1)
        if powered:
            learn(1, seen.power_cv**2, seen.power_samples - 1)
    states = np.array(sorted(pooled), dtype=np.intp)
    values, counts = np.full((2, len(states)), np.nan), np.zeros((2, len(states)))
    for at, state in enumerate(states.tolist()):
        windows = np.array(pooled[state], dtype=np.float64)
        steps, seconds, samples, watts = np.transpose(windows)
        counts[:, at] = steps.sum(), samples.sum()
        values[0, at] = np.log(seconds.sum() / steps.sum())
        learn(0, *_between(np.log(seconds / steps) - values[0, at], steps))
        if samples.sum() > 0:
            values[1, at] = np.log((watts * samples).sum() / samples.sum())
            some = samples > 0
            learn(1, *_between(np.log(watts[some]) - values[1, at], samples[some]))
    noise = [max(total / weight, LEAST_CV**2) for total, weight in scatter]
    return Evidence(states, values, counts, (noise[0], noise[1]))


def _between(off: Numbers, counts: Numbers) -> tuple[float, float]:
    """Variance of one value as told by how far window means lie from their common mean, and its freedom."""
    freedom = len(off) - 1.0
    return (float((counts * off**2).sum() / freedom) if freedom > 0 else 0.0, freedom)


@dataclass(frozen=True, slots=True)
class RailEvidence:
    """What was measured of one rail: the states, ln watts and samples behind them, (m,) each.

    Attributes:
        whole: Whether it was the board's own power in every window.
    """

    states: States
    watts: Numbers
    samples: Numbers
    whole: bool


def rails_seen(space: KnobSpace, observations: Sequence[Observation]) -> Mapping[str, RailEvidence]:
    """Pool the windows of each state, rail by rail; readings that are not positive and finite are left out."""
    sums: dict[str, dict[int, list[float]]] = {}
    apart: set[str] = set()
    for seen in observations:
        state = space.find(seen.configuration)
        if state is None or seen.power_samples < 1:
            continue
        for rail, watts in seen.rail_w.items():
            if 0.0 < watts < np.inf:
                pooled = sums.setdefault(rail, {}).setdefault(state, [0.0, 0.0])
                pooled[0] += watts * seen.power_samples
                pooled[1] += seen.power_samples
                if not abs(watts - seen.power_w) <= SAME_POWER * watts:
                    apart.add(rail)
    found: dict[str, RailEvidence] = {}
    for rail, by_state in sums.items():
        states = np.array(sorted(by_state), dtype=np.intp)
        joules, samples = np.transpose([by_state[state] for state in states.tolist()])
        found[rail] = RailEvidence(states, np.log(joules / samples), samples, rail not in apart)
    return found
