"""The default sampler: measure what is expected to pay for itself, stay as long as the decision needs, then commit.

Everything happens on ln |cost|, which near a state is a weighted sum of ln step time and ln power; the weights are
finite differences of the objective (energy 1 and 1, EDP 2 and 1, performance 1 and 0), so that any objective works.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.contracts import UncertainFit
from ceml.domain.values import NAN, Prediction, Stay
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Fit, Score
    from ceml.domain.knobs import KnobSpace, States
    from ceml.domain.values import Observation

    Numbers = NDArray[np.float64]

STAYS = ((3, 1), (6, 2), (12, 4), (25, 6))  # steps and power samples that a trial may last
FIRST_STAY = (6, 2)
SURVEY_STAY = (3, 2)
DRAWS = 200  # programs drawn before the first measurement
MOST_SPREAD = 0.12  # of ln cost that is believed: what is wholly unknown does not lure
SAFE = 0.95  # constraints must hold in this quantile of the prediction
SURVEY_SHARE = 0.002  # of the remaining work that a survey may cost
SURVEY_WORTH = 0.008  # fall of the mean variance of ln time + ln power that makes a survey worth it, at 7 states
LEAST_COMMITMENT = 50.0  # steps
LEAST_WORTH = 0.5  # steps that a trial must be expected to gain, so that rounding decides nothing
PROBE_HOPE = 0.25  # share of a probe's promise that comes true: what it tells is not yet a better state
NUDGE = 1e-4  # of ln time and ln power, for derivatives
REFERENCES, CANDIDATES = 64, 300  # states that stand for all in a survey, and states that may be surveyed
SLACK = 1.2  # of the errors a stay is reckoned with: rate and power wait for each other, which is not reckoned
PATIENCE = 3.0  # times the expected length that a trial may last: what scatters more is learnt for the next decision
DEFAULT_PERIOD_S = 0.1  # between two power samples, until it has been seen


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is believed of the n states of a space, seen from the best one measured.

    Attributes:
        states: The present states.
        predicted: Rate, power and covariance.
        loss: ln |cost|, (n,); infinite where there is no cost.
        weights: Derivatives of `loss` by ln step time and ln power, (n, 2).
        variance: Variance of `loss`, (n,).
        tried: Which states were measured, (n,).
        safe: Which states keep all constraints in the upper quantile, (n,).
        hope: Probability, coarsely, that a state keeps them, (n,).
        best: Position of the best measured one.
        left: Steps still to do.
    """

    states: States
    predicted: Prediction
    loss: Numbers
    weights: Numbers
    variance: Numbers
    tried: NDArray[np.bool_]
    safe: NDArray[np.bool_]
    hope: Numbers
    best: int
    left: float

    @property
    def waste(self) -> Numbers:
        """Expected excess of each state's cost over the best one's, as share of it, at least 0, (n,)."""
        gap = self.loss - self.loss[self.best] + 0.5 * np.minimum(self.variance, 1.0)
        return np.maximum(np.expm1(np.minimum(gap, 30.0)), 0.0)


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
        found = {space.find(seen.configuration) for seen in observations if seen.steps > 0 and seen.rate_hz > 0}
        tried = sorted(state for state in found if state is not None)
        if not tried:  # tried and nothing came of it (a dry run): there is nothing to learn from here
            return None if observations else self._asking(self._first(space, fit, score), fit, NAN, DEFAULT_PERIOD_S)
        done = sum(seen.steps for seen in observations)
        left = remaining_work if remaining_work is not None else max(self._assumed_steps - done, done)
        with np.errstate(all="ignore"):
            outlook = _look(space, fit, score, np.array(tried, dtype=np.intp), max(left, 1.0))
            period_s = _period_s(observations)
            if outlook is None:
                stay = _first_with_a_cost(space, fit, score, tried)
                return None if stay is None else self._asking(stay, fit, NAN, period_s)
            stay = (
                self._trial(fit, outlook, period_s)
                or _probe(fit, outlook)
                or self._survey(space, fit, outlook)
                or _commit(outlook)
            )
            rate_hz = float(outlook.predicted.rate_hz[np.searchsorted(outlook.states, stay.state)])
        return self._asking(stay, fit, rate_hz, period_s)

    def _asking(self, stay: Stay, fit: UncertainFit, rate_hz: float, period_s: float) -> Stay:
        """A trial with the standard errors that its steps and samples are expected to bring, and bounds in time.

        Where steps are short the sensor's period sets the length, where they are long the steps do; the errors are of
        that length. The counts become lower bounds, half of what is expected.
        """
        if stay.commits:
            return stay
        steps, samples = stay.steps, float(stay.power_samples)
        if rate_hz > 0.0 and period_s > 0.0:
            steps = max(stay.steps, stay.power_samples * period_s * rate_hz)
            samples = max(steps / (rate_hz * period_s), samples)
        expected_s = max((steps + 1.0) / rate_hz, samples * period_s) if rate_hz > 0.0 else math.inf
        return replace(
            stay,
            beats=self._beats,
            steps=math.ceil(stay.steps / 2),
            power_samples=max(self._power_samples, math.ceil(stay.power_samples / 2)),
            rate_se=SLACK * math.sqrt(fit.noise[0] / steps),
            power_se=SLACK * math.sqrt(fit.noise[1] / samples),
            step_cv=math.sqrt(fit.noise[0]),
            power_cv=math.sqrt(fit.noise[1]),
            longest_s=min(self._longest_s, PATIENCE * expected_s),
        )

    def _first(self, space: KnobSpace, fit: UncertainFit, score: Score) -> Stay:
        """The state with the least mean excess over what boards usually do; under a cap on power, the lowest."""
        steps, samples = FIRST_STAY
        if _caps_power(score):
            return Stay(state=space.min_state, steps=steps, power_samples=samples, why="first state, below every cap")
        excess = np.zeros(len(space))
        for drawn in fit.draw(space.states, DRAWS, np.random.default_rng(self._seed)):
            loss, _ = _loss(score, drawn, slopes=False)
            if np.isfinite(loss.min()):  # else this program has no cost anywhere, and teaches nothing
                excess += np.expm1(np.minimum(loss - loss.min(), 3.0))
        state = int(space.states[int(np.argmin(excess))]) if np.isfinite(excess).any() else space.max_state
        return Stay(state=state, steps=steps, power_samples=samples, why="first state: where optima usually lie")

    def _trial(self, fit: UncertainFit, outlook: Outlook, period_s: float) -> Stay | None:
        """The state and stay of the largest net gain, in steps' worth of cost; None where nothing pays.

        net = EI (left - stay) - stay waste - price, with EI = s (z Phi(z) + phi(z)), z = (loss_best - loss) / s and s
        the standard deviation of how far this stay will move the difference between the two.
        """
        states, best, w = outlook.states, outlook.best, outlook.weights
        joint = np.einsum("ni,nij,j->n", w, fit.covariance(states, states[best : best + 1])[:, 0], w[best])
        apart = np.abs(outlook.variance - joint)
        gain = outlook.loss[best] - outlook.loss
        waste, rate_hz = outlook.waste, outlook.predicted.rate_hz
        price = np.where(outlook.tried, 0.0, self._state_cost_steps * (np.count_nonzero(outlook.tried) / 8.0) ** 3)
        barred = ~outlook.safe
        barred[best] = True
        top, pick, chosen = LEAST_WORTH, -1, STAYS[0]
        for steps, samples in STAYS:
            long = np.maximum(steps, samples * period_s * rate_hz)
            counted = long / (rate_hz * period_s) if period_s > 0 else np.full(len(states), np.inf)
            noise = w[:, 0] ** 2 * fit.noise[0] / long + w[:, 1] ** 2 * fit.noise[1] / np.maximum(counted, samples)
            spread = np.minimum(np.maximum(apart / np.sqrt(outlook.variance + noise), 1e-9), MOST_SPREAD)
            z = gain / spread
            improvement = spread * (z * _cumulative(z) + np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi))
            stay = long + 1.0  # the step that spans the change is spent, too
            net = np.where(barred, -np.inf, improvement * (outlook.left - stay) - stay * waste - price)
            at = int(np.nanargmax(net)) if np.isfinite(net).any() else best
            if net[at] > top:
                top, pick, chosen = float(net[at]), at, (steps, samples)
        if pick < 0:
            return None
        why = f"trial: worth {top:.0f} steps, {'again' if outlook.tried[pick] else 'new'}"
        return Stay(state=int(states[pick]), steps=chosen[0], power_samples=chosen[1], why=why)

    def _survey(self, space: KnobSpace, fit: UncertainFit, outlook: Outlook) -> Stay | None:
        """A short look where it teaches most about the whole space, before settling: budgets and programs change.

        Gain of state s = mean over states x of sum_a cov_a(x, s)^2 / (var_a(s) + noise_a), a = ln time, ln power.
        """
        steps, samples = SURVEY_STAY
        own = outlook.predicted.covariance
        threshold = SURVEY_WORTH * (np.count_nonzero(outlook.tried) / 7.0) ** 3
        signals = [0, 1] if np.isfinite(outlook.predicted.power_w).any() else [0]
        if own is None or own[:, signals, signals].mean(axis=0).sum() <= threshold:
            return None  # no state can teach more than there is doubt
        affordable = (outlook.waste * (steps + 1) <= SURVEY_SHARE * outlook.left) & outlook.safe & ~outlook.tried
        order = np.lexsort([space.all_shares[:, at] for at in np.argsort([knob.name for knob in space.knobs])])
        rng = np.random.default_rng(self._seed)
        some = order[affordable[order]]
        if not len(some):
            return None
        if len(some) > CANDIDATES:
            some = some[rng.choice(len(some), CANDIDATES, replace=False)]
        references = order if len(order) <= REFERENCES else order[rng.choice(len(order), REFERENCES, replace=False)]
        joint = fit.covariance(outlook.states[some], outlook.states[references])
        gain = np.zeros(len(some))
        for a in signals:
            gain += (joint[:, :, a, a] ** 2).mean(axis=1) / (own[some, a, a] + fit.noise[a] / SURVEY_STAY[a])
        at = int(np.argmax(gain))
        if gain[at] <= threshold:
            return None
        return Stay(state=int(outlook.states[some[at]]), steps=steps, power_samples=samples, why="survey of the space")


def _first_with_a_cost(space: KnobSpace, fit: Fit, score: Score, tried: Sequence[int]) -> Stay | None:
    """Where no state measured so far has a cost: the new one that is expected to have the least."""
    scored = score(space.states)
    cost = np.where(scored.violation <= 0.0, scored.cost, np.inf)
    cost = cost if np.isfinite(cost).any() else np.where(np.isfinite(scored.cost), scored.cost, np.inf)
    cost[np.isin(space.states, tried)] = np.inf
    if not np.isfinite(cost).any():
        return None
    steps, samples = FIRST_STAY
    why = "trial: no state measured so far has a cost"
    return Stay(state=int(space.states[int(np.argmin(cost))]), steps=steps, power_samples=samples, why=why)


def _look(space: KnobSpace, fit: UncertainFit, score: Score, tried: States, left: float) -> Outlook | None:
    """Score all states; None where no measured state has a cost."""
    states = space.states
    predicted = fit.predict(states)
    covariance = predicted.covariance
    if covariance is None:
        return None
    loss, weights = _loss(score, predicted)
    variance = np.einsum("ni,nij,nj->n", weights, covariance, weights)
    risk = score.of(predicted.quantile(SAFE)).violation if score.constraints else np.zeros(len(states))
    known = np.zeros(len(states), dtype=np.bool_)
    known[np.searchsorted(states, tried)] = True
    sane = np.isfinite(loss) & np.isfinite(variance)
    if not (known & sane).any():
        return None
    safe = (risk <= 0.0) & sane
    hope = np.ones(len(states))
    if score.constraints:
        hope = np.mean(
            [score.of(predicted.quantile(share)).violation <= 0.0 for share in (0.1, 0.3, 0.5, 0.7, 0.9)], axis=0
        )
    good = safe & known
    if good.any():
        best = int(np.argmin(np.where(good, loss, np.inf)))
    else:  # nothing measured is safe: the least risk, wherever it lies; a tie is broken by cost
        lowest = risk[sane].min()
        best = int(np.argmin(np.where(sane & (risk <= lowest), loss, np.inf)))
    return Outlook(states, predicted, loss, weights, variance, known, safe, hope, best, left)


def _probe(fit: UncertainFit, outlook: Outlook) -> Stay | None:
    """Where constraints hide something better: the safe new state that tells most about the best unsafe one."""
    hidden = np.where(outlook.safe, 0.0, outlook.hope * (outlook.loss[outlook.best] - outlook.loss))
    hidden[~np.isfinite(hidden)] = 0.0
    fresh = outlook.safe & ~outlook.tried
    own = outlook.predicted.covariance
    wanted = int(np.argmax(hidden))
    if own is None or hidden[wanted] <= 0.0 or not fresh.any():
        return None
    told = fit.covariance(outlook.states, outlook.states[wanted : wanted + 1])[:, 0, 1, 1]
    steps, samples = STAYS[1]
    share = np.where(fresh, told**2 / (own[:, 1, 1] + fit.noise[1] / samples) / own[wanted, 1, 1], 0.0)
    at = int(np.argmax(share))
    worth = share[at] * min(hidden[wanted], 1.0) * outlook.left * PROBE_HOPE
    if worth < (steps + 1) * (1.0 + outlook.waste[at]) * (np.count_nonzero(outlook.tried) / 8.0) ** 2:
        return None
    return Stay(state=int(outlook.states[at]), steps=steps, power_samples=samples, why="probe towards the constraint")


def _commit(outlook: Outlook) -> Stay:
    """Stay at the best state for an eighth of what is left, then ask again with what was learnt meanwhile."""
    steps = min(max(LEAST_COMMITMENT, outlook.left / 8.0), outlook.left)
    why = "best measured" if outlook.safe[outlook.best] else "nothing is surely allowed: least risk"
    return Stay(state=int(outlook.states[outlook.best]), steps=steps, commits=True, why=why)


def _loss(score: Score, predicted: Prediction, *, slopes: bool = True) -> tuple[Numbers, Numbers]:
    """Give ln |cost| of n states, (n,) (negated where costs are below zero), and its derivatives, (n, 2)."""

    def at(slower: float, hotter: float) -> Numbers:
        moved = Prediction(
            rate_hz=predicted.rate_hz * math.exp(-slower),
            power_w=predicted.power_w * math.exp(hotter),
            rail_w={rail: watts * math.exp(hotter) for rail, watts in predicted.rail_w.items()},
        )
        cost = score.of(moved).cost
        return np.where(np.isfinite(cost), np.sign(cost) * np.log(np.abs(cost)), np.inf)

    with np.errstate(all="ignore"):
        here = at(0.0, 0.0)
        if not slopes:
            return here, np.zeros((len(here), 2))
        by = np.stack([(at(NUDGE, 0.0) - here) / NUDGE, (at(0.0, NUDGE) - here) / NUDGE], axis=1)
        return here, np.where(np.isfinite(by), by, 0.0)


def _caps_power(score: Score) -> bool:
    """Whether some constraint forbids watts: a state of the same rate that draws enormous power violates it."""
    same = np.ones(2)
    hot = Prediction(rate_hz=same, power_w=np.array([1e-6, 1e9]))
    with np.errstate(all="ignore"):
        return any(float(np.ptp(constraint.violation(hot, score.now))) > 0.0 for constraint in score.constraints)


def _cumulative(z: Numbers) -> Numbers:
    """Normal distribution function, Abramowitz and Stegun 26.2.17: absolute error below 1e-7."""
    t = 1.0 / (1.0 + 0.2316419 * np.abs(z))
    tail = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    tail *= t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    return np.where(z > 0, 1.0 - tail, tail)


def _period_s(observations: Sequence[Observation]) -> float:
    """Seconds between two power samples, as seen in the windows; 0 where there is no power."""
    spans = [seen.counted_s / seen.power_samples for seen in observations if seen.power_samples >= 2]
    if spans:
        return float(np.median(spans))
    return DEFAULT_PERIOD_S if any(seen.power_samples for seen in observations) else 0.0


def improvement(
    *,
    beats: int | None = None,
    power_samples: int = 0,
    assumed_steps: float = 2000.0,
    state_cost_steps: float = 40.0,
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
