"""What was measured, in the shape that a statistical model wants: pooled per state, in logarithms, with its noise."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.values import NAN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ceml.domain.knobs import KnobSpace, States
    from ceml.domain.values import Observation

    Numbers = NDArray[np.float64]

STEP_CV, POWER_CV = 0.02, 0.025  # usual scatter of one step and of one power sample, until it has been measured
BELIEF = 10.0  # how many scattered values the usual ones weigh as much as
SAME_POWER = 1e-9  # relative difference below which a rail is taken to be the power of the whole board
MOST_CV = 10.0  # nor worse: what scatters more is no noise
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
        if freedom > 0 and np.isfinite(variance) and variance >= 0.0:
            believed = min(variance, MOST_CV**2)
            scatter[which] = (scatter[which][0] + freedom * believed, scatter[which][1] + freedom)

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
    values: list[tuple[float, float]] = []
    counts: list[tuple[float, float]] = []
    for state in sorted(pooled):
        steps, seconds, samples, watts = zip(*pooled[state], strict=True)
        counts.append((sum(steps), sum(samples)))
        values.append((_ln(sum(seconds) / sum(steps)), NAN))
        if len(steps) > 1:
            learn(0, *_between([(n, s / n) for n, s in zip(steps, seconds, strict=True)], values[-1][0]))
        if sum(samples) > 0:
            powered = [(n, w) for n, w in zip(samples, watts, strict=True) if n]
            values[-1] = values[-1][0], _ln(sum([n * w for n, w in powered]) / sum(samples))
            if len(powered) > 1:
                learn(1, *_between(powered, values[-1][1]))
    noise = [max(total / weight, LEAST_CV**2) for total, weight in scatter]
    return Evidence(
        np.array(sorted(pooled), dtype=np.intp),
        np.transpose(np.reshape(values, (-1, 2))),
        np.transpose(np.reshape(counts, (-1, 2))),
        (noise[0], noise[1]),
    )


def _ln(value: float) -> float:
    """Natural logarithm of a number of at least 0."""
    return log(value) if value > 0.0 else -inf


def _between(windows: Sequence[tuple[float, float]], mean: float) -> tuple[float, float]:
    """Variance of one value as told by how far windows (count, mean) lie from the log of their mean; its freedom."""
    freedom = len(windows) - 1.0
    return sum([count * (_ln(value) - mean) ** 2 for count, value in windows]) / freedom, freedom


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
