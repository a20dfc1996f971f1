"""The default sampler: measure what is expected to pay for itself, stay as long as the decision needs, then commit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.values import Prediction, Stay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Fit, Score
    from ceml.domain.knobs import KnobSpace, States
    from ceml.domain.values import Observation

    Numbers = NDArray[np.float64]

STAYS = ((3, 1), (6, 2), (12, 4), (25, 6))  # steps and power samples of a trial
FIRST_STAY = (6, 2)
DRAWS = 200  # programs drawn from the prior to find the first state
MOST_SPREAD = 0.12  # believed at most of the ln cost of a state, so that the far unknown does not lure
NUDGE = 1e-4
SURVEY_WORTH = 0.002
SURVEY_STAY = (3, 2)
SURVEY_SHARE = 0.002


@dataclass(frozen=True, slots=True)
class Slope:
    """ln cost of n states, and how it answers to ln step time and ln power, shape (n,) and (n, 2)."""

    value: Numbers
    weights: Numbers


def slope(score: Score, predicted: Prediction) -> Slope:
    """ln |cost| (negated for costs below zero) and its derivatives by finite differences of the objective."""

    def loss(slower: float, hotter: float) -> Numbers:
        cost = score.of(
            Prediction(
                rate_hz=predicted.rate_hz * math.exp(-slower),
                power_w=predicted.power_w * math.exp(hotter),
                rail_w=predicted.rail_w,
            )
        ).cost
        with np.errstate(all="ignore"):
            return np.where(np.isfinite(cost), np.sign(cost) * np.log(np.abs(cost)), np.inf)

    here = loss(0.0, 0.0)
    with np.errstate(all="ignore"):
        by = np.stack([(loss(NUDGE, 0.0) - here) / NUDGE, (loss(0.0, NUDGE) - here) / NUDGE], axis=1)
    return Slope(here, np.where(np.isfinite(by), by, 0.0))


class Improvement:
    """See `improvement`."""

    def __init__(self, *, assumed_steps: float, state_cost_steps: float, seed: int) -> None:
        self._assumed = assumed_steps
        self._state_cost = state_cost_steps
        self._seed = seed

    def next(
        self,
        space: KnobSpace,
        fit: Fit,
        score: Score,
        observations: Sequence[Observation],
        remaining_work: float | None,
        total_work: float | None,
    ) -> Stay | None:
        """The next trial, or the next stretch at the best state measured."""
        tried = sorted({s for seen in observations if (s := space.find(seen.configuration)) is not None})
        if not tried:
            return self._first(space, fit, score)
        states = space.states
        predicted = fit.predict(states)
        m = slope(score, predicted)
        at = np.searchsorted(states, tried)
        best = int(at[int(np.argmin(m.value[at]))])
        noise = np.array(fit.noise)
        done = sum(seen.steps for seen in observations)
        left = remaining_work if remaining_work is not None else max(self._assumed - done, done, 1.0)
        w = m.weights
        cov = predicted.covariance
        var = np.einsum("ni,nij,nj->n", w, cov, w)
        joint = np.einsum("ni,nij,j->n", w, fit.covariance(states, states[best : best + 1])[:, 0], w[best])
        gap = m.value[best] - m.value
        known = np.zeros(len(states), dtype=bool)
        known[at] = True
        price = np.where(known, 0.0, self._state_cost * (len(tried) / 8.0) ** 2)
        loss = np.exp(-gap + 0.5 * np.minimum(var, 1.0)) - 1.0
        away = np.ones(len(states)); away[best] = 0.0
        period = _period_s(observations)
        top, pick, how = 0.0, -1, STAYS[0]
        for steps, samples in STAYS:
            long = np.maximum(steps, samples * period * predicted.rate_hz) if period > 0 else np.full(len(states), float(steps))
            counted = np.stack([long, np.maximum(samples, long / np.maximum(predicted.rate_hz * period, 1e-9))], axis=1) if period > 0 else np.stack([long, np.full(len(states), np.inf)], axis=1)
            fuzz = (w**2 * noise / counted).sum(axis=1)
            spread = np.minimum(np.abs(var - joint) / np.sqrt(var + fuzz), MOST_SPREAD)
            z = gap / spread
            ei = spread * (z * _cdf(z) + np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))
            long = long + 1.0
            net = ei * (left - long) - long * np.maximum(loss, 0.0) - price
            net[best] = -np.inf
            s = int(np.argmax(net))
            if net[s] > top:
                top, pick, how = float(net[s]), s, (steps, samples)
        if pick >= 0:
            return Stay(state=int(states[pick]), steps=how[0], power_samples=how[1], why="trial")
        pick = self._survey(space, fit, var, w, loss, left, known)
        if pick >= 0:
            return Stay(state=int(states[pick]), steps=SURVEY_STAY[0], power_samples=SURVEY_STAY[1], why="survey")
        return Stay(state=int(states[best]), steps=min(max(50.0, left / 8.0), max(left, 1.0)), power_samples=2, commits=True, why="commit")

    def _survey(self, space, fit, var, w, loss, left, known) -> int:
        states = space.states
        rng = np.random.default_rng(self._seed)
        refs = states if len(states) <= 100 else np.sort(rng.choice(states, 100, replace=False))
        allowed = (loss * (SURVEY_STAY[0] + 1) <= SURVEY_SHARE * left) & ~known
        if not allowed.any():
            return -1
        some = np.flatnonzero(allowed)
        c = fit.covariance(states[some], refs)
        own = fit.predict(states).covariance[some]
        noise = np.array(fit.noise) / np.array(SURVEY_STAY)
        gain = sum((c[:, :, :, a] ** 2).sum(axis=2).mean(axis=1) / (own[:, a, a] + noise[a]) for a in range(2))
        top = int(np.argmax(gain))
        return int(some[top]) if gain[top] > SURVEY_WORTH else -1

    def _first(self, space: KnobSpace, fit: Fit, score: Score) -> Stay:
        states = space.states
        total = np.zeros(len(states))
        rng = np.random.default_rng(self._seed)
        for t, p in fit.draw(states, DRAWS, rng):
            cost = slope(score, Prediction(rate_hz=np.exp(-t), power_w=np.exp(p))).value
            total += np.exp(np.minimum(cost - cost.min(), 3.0))
        s = int(states[int(np.argmin(total))])
        return Stay(state=s, steps=FIRST_STAY[0], power_samples=FIRST_STAY[1], why="first")


def _cdf(z: Numbers) -> Numbers:
    """Normal distribution function, by Abramowitz and Stegun 26.2.17 (error below 1e-7)."""
    t = 1.0 / (1.0 + 0.2316419 * np.abs(z))
    tail = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    tail *= t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    return np.where(z > 0, 1.0 - tail, tail)


def _period_s(observations: Sequence[Observation]) -> float:
    """Seconds between two power samples, as seen in the windows; 0 where there is no power."""
    spans = [seen.duration_s / seen.power_samples for seen in observations if seen.power_samples >= 2]
    return float(np.median(spans)) if spans else (0.1 if any(seen.power_samples for seen in observations) else 0.0)


def improvement(*, assumed_steps: float = 2000.0, state_cost_steps: float = 15.0, seed: int = 0) -> Improvement:
    """Expected improvement against the trial's own cost, from few informative states; commits to the best measured."""
    return Improvement(assumed_steps=assumed_steps, state_cost_steps=state_cost_steps, seed=seed)
