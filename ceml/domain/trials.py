"""Stays that the default sampler chooses among, and what each is worth: survey, trial, probe, commitment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.outlook import SAFE_Z, caps_of, cumulative, in_order
from ceml.domain.values import Stay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Score, UncertainFit
    from ceml.domain.knobs import KnobSpace
    from ceml.domain.outlook import Outlook
    from ceml.domain.values import Observation

STAYS = ((3, 1), (6, 2), (12, 4), (25, 6))  # steps and power samples that a trial may last
SURVEY_STAY = (3, 2)
IRREGULAR_CV, MOST_TIMES = 0.3, 64.0  # scatter of a step from which on stays take more of them; so many times at most
REFERENCE_STAY = (12, 3)  # what a slowdown is held against: what is wrong there is wrong everywhere
MOST_SPREAD = 0.12  # of ln cost that is believed: what is wholly unknown does not lure
SURVEY_SHARE = 0.002  # of the remaining work that a survey may cost
SEEK_SHARE = 0.02  # of the remaining work that a look may cost where no state is expected to keep the limits
LEAST_SOUGHT, SOUGHT_PER_KNOB = 2, 2  # states after which what cannot be found is believed to be impossible
SURVEY_WORTH = 0.012  # fall of the mean variance of ln time + ln power that makes a survey worth it, at 4 states
LEAST_COMMITMENT = 50.0  # steps
LEAST_WORTH = 0.5  # steps that a trial must be expected to gain, so that rounding decides nothing
PROBE_HOPE = 0.25  # share of a probe's promise that comes true: what it tells is not yet a better state
CAPPED = 0.2  # share of a new state's price where constraints hide states: an edge is approached in small steps
DARE_Z = 0.5  # quantile, in standard deviations, that must keep the constraints, but for the slack, in a short look
AGAIN_Z = 1.0  # the same for a second look
CAPPED_Z = 1.5  # the same for both where a cap on power may break: that costs more than steps
DARE_WORTH = 0.01  # share of the remaining work that a short look past the sure states must be expected to gain
BOLD_WORTH = 0.05  # the same where only the median keeps the constraints, but for the slack
BOLDER = 2.0  # times as much after each look that broke a cap: luck is tried again only where much is at stake
ODDS_Z = -1.0  # the same for limits on the run as a whole: a look is no harm there, however small its chance
CLIMB_Z = -2.0  # the same for the second state under a cap: of one state alone nobody knows how much the clocks move
DARE_FACTOR = 1.5  # by how much more than any sure trial does
DARE_STAYS = ((1, 2),)
SETTLE_STAYS = ((6, 6),)  # where a short look found nothing wrong, to make sure
SETTLED_SD = 0.012  # of ln power: better measured than this, a state has had its second look
MOST_LOOKS = 2  # windows after which a state is taken to be measured, samples or not: sensors get lost
WANTED = 16  # states hidden by constraints that a probe is held against
TOGETHER = 20_000  # states that are held against those at a time, so that memory stays bounded
REFERENCES, CANDIDATES = 64, 300  # states that stand for all in a survey, and states that may be surveyed


def trial(
    space: KnobSpace, fit: UncertainFit, outlook: Outlook, period_s: float, state_cost_steps: float, score: Score
) -> Stay | None:
    """The state and stay of the largest net gain, in steps' worth of cost; None where nothing pays.

    Where constraints hide much, a short look past what is surely allowed may be worth more than all that is; if much is
    to be gained, even where a constraint is as likely to break as not; each that broke a cap on power doubles how much.
    Where no cap can break, a look need only promise more, times its chance, than it costs; the same goes for the second
    state.
    """
    stays = [_longer(fit, stay) for stay in STAYS]
    worth, at, stay = _best_net(space, fit, outlook, period_s, outlook.safe, stays, state_cost_steps)
    dare_z, again_z = (CAPPED_Z, CAPPED_Z) if caps_of(score) else (DARE_Z, AGAIN_Z)
    likely = outlook.fair & ~outlook.safe & (outlook.margin >= dare_z) & ~outlook.tried
    again = ~outlook.safe & (outlook.margin >= again_z) & outlook.tried
    again &= (outlook.doubt > SETTLED_SD) & (outlook.looks <= MOST_LOOKS)
    even = ~outlook.safe & (outlook.margin >= 0.0) & ~outlook.tried
    odds = outlook.harmless & ~outlook.safe & (outlook.margin >= ODDS_Z) & ~outlook.tried
    climb = ~outlook.safe & (outlook.margin >= CLIMB_Z) & ~outlook.tried & (score.now.excesses == 0)
    climb &= bool(caps_of(score)) and np.count_nonzero(outlook.tried) == 1
    for some, stays, share in (
        (again, SETTLE_STAYS, DARE_WORTH),
        (likely, DARE_STAYS, DARE_WORTH),
        (even, DARE_STAYS, BOLD_WORTH * BOLDER**score.now.excesses),
        (odds, DARE_STAYS, DARE_WORTH),
        (climb, DARE_STAYS, DARE_WORTH),
    ):
        if not some.any():
            continue
        dare, there, short = _best_net(space, fit, outlook, period_s, some, stays, state_cost_steps)
        if dare > max(DARE_FACTOR * worth, share * outlook.left):
            why = f"short look past the sure states: worth {dare:.0f} steps"
            return Stay(state=int(outlook.states[there]), steps=short[0], power_samples=short[1], why=why)
    if worth <= LEAST_WORTH:
        return None
    why = f"trial: worth {worth:.0f} steps, {'again' if outlook.tried[at] else 'new'}"
    return Stay(state=int(outlook.states[at]), steps=stay[0], power_samples=stay[1], why=why)


def _longer(fit: UncertainFit, stay: tuple[int, int]) -> tuple[int, int]:
    """As many steps as say as much of the rate where steps are irregular; a handful of them would say nothing."""
    times = min(max(fit.noise[0] / IRREGULAR_CV**2, 1.0), MOST_TIMES)
    return math.ceil(stay[0] * times), stay[1]


def _best_net(
    space: KnobSpace,
    fit: UncertainFit,
    outlook: Outlook,
    period_s: float,
    allowed: NDArray[np.bool_],
    stays: Sequence[tuple[int, int]],
    state_cost_steps: float,
) -> tuple[float, int, tuple[int, int]]:
    """The largest net gain in steps' worth of cost, 0 where there is none, its position and its stay.

    net = p EI (left - stay) - stay waste - price, with EI = s (z Phi(z) + phi(z)), z = (loss_best - loss) / s, s
    the standard deviation of how far this stay will move the difference between the two, and p the probability
    that the constraints hold there.
    """
    states, best, w = outlook.states, outlook.best, outlook.weights
    some = np.flatnonzero(allowed & (np.arange(len(states)) != best))
    if not all(knob.ordered for knob in space.knobs):
        some = some[in_order(space, states[some])]  # of equals the first by name
    if not len(some):
        return 0.0, best, stays[0]
    if len(some) > TOGETHER:  # leave out those that could not pay even if they had nothing in common with the best
        most = outlook.variance[some] + np.sqrt(outlook.variance[some] * outlook.variance[best])
        some = some[(_nets(fit, outlook, period_s, some, most, stays, state_cost_steps) > 0.0).any(axis=0)]
        if not len(some):
            return 0.0, best, stays[0]
    joint = fit.covariance(states[some], states[best : best + 1])[:, 0]
    apart = np.abs(outlook.variance[some] - np.einsum("ni,nij,j->n", w[some], joint, w[best]))
    top, pick, chosen = 0.0, best, stays[0]
    for stay, net in zip(stays, _nets(fit, outlook, period_s, some, apart, stays, state_cost_steps), strict=True):
        most = np.nanmax(net) if np.isfinite(net).any() else np.inf
        at = int(np.argmax(net >= most - 1e-9 * abs(most)))
        if net[at] > top:
            top, pick, chosen = float(net[at]), int(some[at]), stay
    return top, pick, chosen


def _nets(
    fit: UncertainFit,
    outlook: Outlook,
    period_s: float,
    some: NDArray[np.intp],
    apart: NDArray[np.float64],
    stays: Sequence[tuple[int, int]],
    state_cost_steps: float,
) -> NDArray[np.float64]:
    """Net gain of each stay in some states, (stays, n), where `apart` is what measuring tells of the difference, (n,).

    It grows with `apart`, wherever it is positive.
    """
    variance, loss, w_some = outlook.variance[some], outlook.loss[some], outlook.weights[some]
    gain = outlook.loss[outlook.best] - loss
    waste, rate_hz = outlook.waste[some], outlook.predicted.rate_hz[some]
    hidden = CAPPED if (np.isfinite(outlook.loss) & ~outlook.safe).any() else 1.0
    price = np.where(outlook.tried[some], 0.0, hidden * state_cost_steps * (outlook.count / 8.0) ** 3)
    likely = np.where(outlook.safe[some], 1.0, cumulative(outlook.margin[some]))
    nets = np.empty((len(stays), len(some)))
    for at, (steps, samples) in enumerate(stays):
        long = np.maximum(steps, samples * period_s * rate_hz)
        counted = long / (rate_hz * period_s) if period_s > 0 else np.full(len(some), np.inf)
        noise = w_some[:, 0] ** 2 * fit.noise[0] / long
        noise += w_some[:, 1] ** 2 * fit.noise[1] / np.maximum(counted, samples)
        spread = np.minimum(np.maximum(apart / np.sqrt(variance + noise), 1e-9), MOST_SPREAD)
        improvement = likely * _improvement(gain, spread)
        stay = long + 1.0  # the step that spans the change is spent, too
        nets[at] = improvement * (outlook.left - stay) - stay * waste - price
    return nets


def _improvement(gain: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected improvement s (z Phi(z) + phi(z)), z = gain / s, where the gain is known to a standard deviation s."""
    spread = np.maximum(spread, 1e-9)
    z = gain / spread
    return spread * (z * cumulative(z) + np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi))


def survey(space: KnobSpace, fit: UncertainFit, outlook: Outlook, seed: int) -> Stay | None:
    """A short look where it teaches most about the whole space: learnt early, it makes every trial better.

    States without a cost are no part of it. Limits on the run as a whole (a deadline, a target) do not forbid it, caps
    on power do.
    Gain of state s = mean over states x of sum_a cov_a(x, s)^2 / (var_a(s) + noise_a), a = ln time, ln power.
    """
    steps, samples = stay = _longer(fit, SURVEY_STAY)
    own = outlook.predicted.covariance
    threshold = SURVEY_WORTH * (outlook.count / 4.0) ** 3
    signals = [0, 1] if np.isfinite(outlook.predicted.power_w).any() else [0]
    priced = np.isfinite(outlook.loss)
    if own is None or own[priced][:, signals, signals].mean(axis=0).sum() <= threshold:
        return None  # no state can teach more than there is doubt
    affordable = (outlook.waste * (steps + 1) <= SURVEY_SHARE * outlook.left) & outlook.harmless & ~outlook.tried
    order = in_order(space, outlook.states)
    order = order[priced[order]]
    rng = np.random.default_rng(seed)
    some = order[affordable[order]]
    if not len(some):
        return None
    if len(some) > CANDIDATES:
        some = some[rng.choice(len(some), CANDIDATES, replace=False)]
    references = order if len(order) <= REFERENCES else order[rng.choice(len(order), REFERENCES, replace=False)]
    joint = fit.covariance(outlook.states[some], outlook.states[references])
    gain = np.zeros(len(some))
    for a in signals:
        gain += (joint[:, :, a, a] ** 2).mean(axis=1) / (own[some, a, a] + fit.noise[a] / stay[a])
    at = int(np.argmax(gain >= (1.0 - 1e-9) * gain.max()))
    if gain[at] <= threshold:
        return None
    return Stay(state=int(outlook.states[some[at]]), steps=steps, power_samples=samples, why="survey of the space")


def at_max(space: KnobSpace) -> Stay:
    """With every knob at its highest: what a slowdown is held against is measured, since half a percent matters."""
    steps, samples = REFERENCE_STAY
    why = "maximum frequencies: what a slowdown is held against"
    return Stay(state=space.max_state, steps=steps, power_samples=samples, why=why)


def reference(space: KnobSpace, outlook: Outlook) -> Stay | None:
    """The maximum, where it has not been measured and breaks no cap on power."""
    here = outlook.states == space.max_state
    return at_max(space) if (here & outlook.harmless & ~outlook.tried).any() else None


def seek(space: KnobSpace, outlook: Outlook) -> Stay | None:
    """Where no state is expected to keep the limits: a short look, by turns far away and where there is most hope.

    A model that is wrong in kind (a program that higher clocks slow down) would else call impossible what it never
    looked at. Caps on power are not broken for it, but among words, which have no lowest state. It ends after a few
    states for each knob.
    """
    steps, samples = SURVEY_STAY
    looked, knobs = np.flatnonzero(outlook.tried), sum(levels > 1 for levels in space.shape)
    if outlook.fair.any() or not len(looked) or len(looked) >= LEAST_SOUGHT + SOUGHT_PER_KNOB * knobs:
        return None
    fresh = np.flatnonzero(
        outlook.harmless & ~outlook.tried & (outlook.waste * (steps + 1) <= SEEK_SHARE * outlook.left)
    )
    if not len(fresh) and not all(knob.ordered for knob in space.knobs):
        fresh = np.flatnonzero(~outlook.tried & (outlook.hope <= 0.0))  # among words no state is the lowest: all may be
    if not len(fresh):
        return None
    if len(looked) % 2:
        shares = space.places(outlook.states) / np.maximum(np.array(space.shape) - 1, 1)
        apart = np.full(len(fresh), np.inf)
        for one in looked.tolist():
            np.minimum(apart, np.abs(shares[fresh] - shares[one]).sum(axis=1), out=apart)
        at = int(np.argmax(apart))
    else:
        at = int(np.argmin(outlook.hope[fresh]))
    why = "no state is expected to keep the limits: a look whether one does"
    return Stay(state=int(outlook.states[fresh[at]]), steps=steps, power_samples=samples, why=why)


def before_commitment(
    space: KnobSpace, fit: UncertainFit, score: Score, outlook: Outlook, observations: Sequence[Observation]
) -> Stay | None:
    """What must still be known before a commitment: what a probe tells, and that the best state is allowed."""
    power = bool(caps_of(score))
    probe = _probe(fit, outlook, 1 if power else 0)
    if probe or not power or not outlook.safe[outlook.best]:
        return probe
    state, (steps, samples) = int(outlook.states[outlook.best]), SETTLE_STAYS[0]
    if outlook.left <= steps:  # no time to make sure of anything: the guard watches
        return None
    there = [seen.power_samples for seen in observations if space.find(seen.configuration) == state]
    if len(there) > MOST_LOOKS or sum(there) >= samples:
        return None
    return Stay(state=state, steps=steps, power_samples=samples, why="making sure that the constraints hold")


def _probe(fit: UncertainFit, outlook: Outlook, signal: int) -> Stay | None:
    """Where constraints hide something better: the safe new state that tells most about the best unsafe ones.

    Measuring s moves the belief about w by N(0, d^2), d = |cov(w, s)| / sqrt(var(s) + noise), and leaves
    var' = var(w) - d^2 of doubt. w is allowed thereafter with probability Phi((margin sd(w) - SAFE_Z sd') / d).
    Measuring it is worth that times what w gains over the rest of the run; or, where one look will not do, a share of
    what w promises.
    """
    hoped = _improvement(outlook.loss[outlook.best] - outlook.loss, np.minimum(np.sqrt(outlook.variance), MOST_SPREAD))
    promise = np.where(outlook.safe, 0.0, cumulative(outlook.margin) * hoped)
    promise[~np.isfinite(promise)] = 0.0
    fresh = np.flatnonzero(outlook.safe & ~outlook.tried)
    own = outlook.predicted.covariance
    wanted = np.argsort(-promise, kind="stable")[:WANTED]
    wanted = wanted[promise[wanted] > 0.0]
    if own is None or not len(wanted) or not len(fresh):
        return None
    steps, samples = STAYS[1]
    told = np.concatenate(
        [
            fit.covariance(outlook.states[fresh[at : at + TOGETHER]], outlook.states[wanted])[:, :, signal, signal]
            for at in range(0, len(fresh), TOGETHER)
        ]
    )
    moved = told**2 / (own[fresh, signal, signal] + fit.noise[signal] / (steps, samples)[signal])[:, None]
    doubt = own[wanted, signal, signal]
    allowed = cumulative(
        (outlook.margin[wanted] * np.sqrt(doubt) - SAFE_Z * np.sqrt(np.maximum(doubt - moved, 0.0)))
        / np.sqrt(np.maximum(moved, 1e-12))
    )
    gain = np.minimum(hoped[wanted], 1.0)
    worth = np.maximum(allowed * gain, PROBE_HOPE * np.minimum(promise[wanted], 1.0) * moved / doubt).max(axis=1)
    net = worth * outlook.left - (steps + 1) * (1.0 + outlook.waste[fresh]) * (outlook.count / 8.0) ** 2
    at = int(np.argmax(net))
    if net[at] <= 0.0:
        return None
    state = int(outlook.states[fresh[at]])
    return Stay(state=state, steps=steps, power_samples=samples, why="probe towards the constraint")


def commit(outlook: Outlook) -> Stay:
    """Stay at the best state for an eighth of what is left, then ask again with what was learnt meanwhile."""
    steps = min(max(LEAST_COMMITMENT, outlook.left / 8.0), outlook.left)
    why = "best measured" if outlook.safe[outlook.best] else "nothing is surely allowed: least risk"
    return Stay(state=int(outlook.states[outlook.best]), steps=steps, commits=True, why=why)
