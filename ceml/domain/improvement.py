"""The default sampler: measure what is expected to pay for itself, stay as long as the decision needs, then commit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.candidates import candidates, sampled
from ceml.domain.contracts import UncertainFit
from ceml.domain.outlook import DEFAULT_PERIOD_S, caps_of, held_against_max, in_order, log_cost, look, period_s
from ceml.domain.trials import at_max, before_commitment, commit, reference, seek, survey, trial
from ceml.domain.values import NAN, Stay
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ceml.domain.contracts import Fit, Score
    from ceml.domain.knobs import KnobSpace
    from ceml.domain.values import Observation

FIRST_STAY = (6, 2)
SLACK = 1.2  # of the errors a stay is reckoned with: rate and power wait for each other, which is not reckoned
PATIENCE = 3.0  # times the expected length that a trial may last: what scatters more is learnt for the next decision
DRAWS, DRAWN_STATES = 80, 300  # programs drawn before the first measurement, and states looked at in each


class Improvement:
    """See `improvement`."""

    def __init__(
        self,
        *,
        beats: int | None,
        power_samples: int,
        assumed_steps: float,
        state_cost_steps: float,
        longest_s: float,
        seed: int,
    ) -> None:
        self._beats = beats or 1
        self._power_samples = power_samples
        self._assumed_steps = assumed_steps
        self._state_cost_steps = state_cost_steps
        self._longest_s = longest_s
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
        """The next trial, or the next stretch at the best state measured; None: no cost, or nothing measured.

        Raises:
            SettingsError: The model states no uncertainty.
        """
        if not isinstance(fit, UncertainFit):
            raise SettingsError(
                f"sampler improvement needs a model that states its uncertainty, and {type(fit).__name__} does not;"
                " use --model overlap, or --sampler paper"
            )
        found = [space.find(seen.configuration) for seen in observations if seen.steps > 0 and seen.rate_hz > 0]
        tried = sorted(state for state in found if state is not None)
        if not tried:  # tried and nothing came of it (a dry run): there is nothing to learn from here
            return None if observations else self._asking(self._first(space, fit, score), fit, NAN, DEFAULT_PERIOD_S)
        done = sum(seen.steps for seen in observations)
        left = remaining_work if remaining_work is not None else max(self._assumed_steps - done, done)
        with np.errstate(all="ignore"):
            outlook, period = (
                look(space, fit, score, np.array(tried, dtype=np.intp), max(left, 1.0), seed=self._seed),
                period_s(observations),
            )
            if outlook is None:
                stay = _first_with_a_cost(space, fit, score, tried)
                return None if stay is None else self._asking(stay, fit, NAN, period)
            stay = (
                (reference(space, outlook) if held_against_max(score) else None)
                or survey(space, fit, outlook, self._seed)
                or trial(space, fit, outlook, period, self._state_cost_steps, score)
                or (before_commitment(space, fit, score, outlook, observations) if score.constraints else None)
                or (seek(space, outlook) if score.constraints else None)
                or commit(outlook)
            )
            rate_hz = float(outlook.predicted.rate_hz[np.searchsorted(outlook.states, stay.state)])
        return self._asking(stay, fit, rate_hz, period, least=1.0 if score.constraints else 0.5)

    def _asking(self, stay: Stay, fit: UncertainFit, rate_hz: float, period: float, *, least: float = 0.5) -> Stay:
        """A trial with the standard errors that its steps and samples are expected to bring, and bounds in time.

        Where steps are short the sensor's period sets the length, where they are long the steps do; the errors are of
        that length. The counts become lower bounds, `least` of what is expected.
        """
        if stay.commits:
            return stay
        steps, samples = stay.steps, float(stay.power_samples)
        if rate_hz > 0.0 and period > 0.0:
            steps = max(stay.steps, stay.power_samples * period * rate_hz)
            samples = max(steps / (rate_hz * period), samples)
        expected_s = math.inf
        if rate_hz > 0.0:
            expected_s = max((max(steps, self._beats) + 1.0) / rate_hz, max(samples, self._power_samples) * period)
        return replace(
            stay,
            beats=self._beats,
            steps=math.ceil(stay.steps * least),
            power_samples=max(self._power_samples, math.ceil(stay.power_samples * least)),
            rate_se=SLACK * math.sqrt(fit.noise[0] / steps),
            power_se=SLACK * math.sqrt(fit.noise[1] / samples),
            step_cv=math.sqrt(fit.noise[0]),
            power_cv=math.sqrt(fit.noise[1]),
            longest_s=min(self._longest_s, PATIENCE * expected_s),
            patience=PATIENCE,
        )

    def _first(self, space: KnobSpace, fit: UncertainFit, score: Score) -> Stay:
        """The state with the least mean excess over what boards usually do; with limits, one that surely keeps them."""
        steps, samples = FIRST_STAY
        if caps_of(score):
            return Stay(state=space.min_state, steps=steps, power_samples=samples, why="first state, below every cap")
        if held_against_max(score):
            return at_max(space)
        states, rng = sampled(space, seed=self._seed), np.random.default_rng(self._seed)
        order = in_order(space, states)
        some = states[order if len(order) <= DRAWN_STATES else rng.choice(order, DRAWN_STATES, False)]
        excess = np.zeros(len(some))
        for drawn in fit.draw(some, DRAWS, rng):
            loss, _ = log_cost(score, drawn, slopes=False)
            if np.isfinite(loss.min()):  # else this program has no cost anywhere, and teaches nothing
                excess += np.expm1(np.minimum(loss - loss.min(), 3.0))
        state = int(some[int(np.argmin(excess))]) if np.isfinite(excess).any() else space.max_state
        return Stay(state=state, steps=steps, power_samples=samples, why="first state: where optima usually lie")


def _first_with_a_cost(space: KnobSpace, fit: Fit, score: Score, tried: Sequence[int]) -> Stay | None:
    """Where no state measured so far has a cost: the new one that is expected to have the least."""
    states = candidates(space, score, tried)
    scored = score(states)
    cost = np.where(scored.violation <= 0.0, scored.cost, np.inf)
    cost = cost if np.isfinite(cost).any() else np.where(np.isfinite(scored.cost), scored.cost, np.inf)
    cost[np.isin(states, tried)] = np.inf
    if not np.isfinite(cost).any():
        return None
    steps, samples = FIRST_STAY
    why = "trial: no state measured so far has a cost"
    return Stay(state=int(states[int(np.argmin(cost))]), steps=steps, power_samples=samples, why=why)


def improvement(
    *,
    beats: int | None = None,
    power_samples: int = 0,
    assumed_steps: float = 2000.0,
    state_cost_steps: float = 30.0,
    longest_s: float = 60.0,
    seed: int = 0,
) -> Improvement:
    """Expected improvement against the trial's own cost, from few informative states; commits to the best measured.

    Args:
        beats: Heartbeats to count in each trial, at least; None: as many as the decision needs.
        power_samples: Power samples to wait for in each trial, at least.
        assumed_steps: Length of a run that announces none.
        state_cost_steps: What the eighth new state must bring in, in steps' worth of cost, beyond its own cost: fewer
            states at 60, a nearer best at 15.
        longest_s: Seconds that a trial may last.
        seed: Of what is drawn before the first measurement.

    Raises:
        SettingsError: A number out of its range.
    """
    if (beats is not None and beats < 1) or power_samples < 0:
        raise SettingsError(
            f"beats = {beats}, power_samples = {power_samples} of sampler improvement: give at least 1 heartbeat and "
            "0 or more samples"
        )
    if not (0 < assumed_steps < math.inf and 0 <= state_cost_steps < math.inf):
        raise SettingsError(
            f"assumed_steps = {assumed_steps:g}, state_cost_steps = {state_cost_steps:g} of sampler improvement: "
            "give a length above 0 and a cost of 0 or more, in steps"
        )
    return Improvement(
        beats=beats,
        power_samples=power_samples,
        assumed_steps=assumed_steps,
        state_cost_steps=state_cost_steps,
        longest_s=longest_s,
        seed=seed,
    )
