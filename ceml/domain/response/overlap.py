"""The default response model: physics with broad priors, and a residual that honours what was measured."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.knobs import KnobSpace
from ceml.domain.ondemand import OnDemand
from ceml.domain.response.evidence import gather, rails_seen
from ceml.domain.response.heritage import Belief, inherited
from ceml.domain.response.rails import Rails
from ceml.domain.response.solving import CATEGORY_SD, RESIDUAL_SD, Board, solve
from ceml.domain.values import FitStatus, Parameter, Prediction
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Fit
    from ceml.domain.knobs import States
    from ceml.domain.response.evidence import Evidence, RailEvidence
    from ceml.domain.response.solving import Place, Solved
    from ceml.domain.values import Knowledge, Observation, Remembered

    Numbers = NDArray[np.float64]
    Places = NDArray[np.intp]
    Posterior = tuple[Numbers, Numbers, Numbers, Numbers, Numbers]

MOST_PROGRAMS = 16  # that a board's prior is made of, the latest first
EXPERIENCE = 2.5  # measured states that knowing the board is worth
WHOLE = 20_000  # states of a space up to which what is known of each is computed at once, and kept
CHUNK = 1_024  # states at a time: arrays that stay in the processor's cache, and small enough to be made of used memory
DOUBT = 0.7  # of the standard deviation that the broad priors leave: with it a stated 90 % holds for about 90 %


class OverlapFit:
    """A fitted `overlap` model: the most probable parameters, and the Gaussian around them.

    With J the slopes of the physics, S the prior variance of its parameters, K the residual's covariance, N the noise
    and A = J S J' + K + N over the measured rows: mean = f(theta) + K A^-1 (y - f + J (theta - mu)), and covariance
    D^2 (C - C' A^-1 C) + (1 - D^2) C' A^-1 N A^-1 C with C = J S J' + K between any two states. D = DOUBT: the priors
    are deliberately broader than boards differ, which costs the mean nothing; what measuring scatters is left whole.

    Attributes:
        status: How it went.
        sentence: The same in words.
        noise: Variance of ln step time per step and of ln power per sample, as learnt from the windows.
        board: The space it was fitted in, as the model sees it.
        theta: Parameters of the physics, for a warm start.
    """

    def __init__(
        self,
        board: Board,
        evidence: Evidence,
        solved: Solved,
        status: FitStatus,
        rails: Mapping[str, RailEvidence],
    ) -> None:
        self.status = status
        self.sentence = _sentence(status, evidence, solved.stretch)
        self.noise = evidence.noise
        self.board = board
        self.theta = solved.theta
        self._solved = solved
        self._measured = board.place(evidence.states)
        self._powered = np.isfinite(evidence.values[1])
        self._blind = len(evidence.states) > 0 and not evidence.has_power
        self._everything: list[tuple[Place, Posterior]] | None = None
        self._rails = Rails(board, solved.physics, solved.theta, rails, evidence.noise[1], self._step_time)

    @property
    def experience(self) -> float:
        """What the programs that ran here before are worth."""
        return EXPERIENCE if self.board.physics.inherits else 0.0

    def predict(self, states: States) -> Prediction:
        """Rate and power (the median of each, e^mean) and the covariance of their logarithms.

        Power is NaN where time was measured and power never. Without any measurement the scales are 1 s and 1 W.
        Rails are those that were measured (see `rails`).
        """
        mean, covariance = np.empty((2, len(states))), np.empty((len(states), 2, 2))
        for at, _, (means, covariances, *_) in self._chunks(states):
            mean[:, at] = means
            covariance[at] = np.moveaxis(covariances, 2, 0)
        power_w, rails = np.exp(mean[1]), self._rails
        told = OnDemand(rails.names, lambda rail: np.stack(rails.at(rail, states)))
        return Prediction(
            rate_hz=np.exp(-mean[0]),
            power_w=power_w,
            rail_w=OnDemand(rails.every, lambda rail: np.exp(told[rail][0]) if rail in told else power_w),
            rail_std=OnDemand(rails.names, lambda rail: told[rail][1]),
            covariance=covariance,
        )

    def covariance(self, states: States, reference: States) -> Numbers:
        """Covariance of (ln step time, ln power) between n states and m others (a few), shape (n, m, 2, 2)."""
        there = self.board.place(reference)
        _, _, slopes, whitened, scatter = self._posterior(there)
        scaled = self._solved.physics.spread(slopes)
        result = np.empty((len(states), len(reference), 2, 2))
        for at, place, (_, _, slopes_here, whitened_here, scatter_here) in self._chunks(states):
            kernel, shared = place.alike(there)
            for a in range(2):
                for b in range(2):
                    block = np.transpose(slopes_here[a]) @ scaled[b] - np.transpose(whitened_here[a]) @ whitened[b]
                    if a == b:
                        block += self._residual(a) ** 2 * kernel + CATEGORY_SD**2 * shared
                    block *= DOUBT**2
                    block += (1.0 - DOUBT**2) * (np.transpose(scatter_here[a]) @ scatter[b])
                    result[at, :, a, b] = block
        return result

    def draw(self, states: States, count: int, rng: np.random.Generator) -> Iterator[Prediction]:
        """`count` programs that the parameters allow, one prediction of n states each; the residual is left out."""
        physics, place = self._solved.physics, self.board.place(states)
        values, vectors = np.linalg.eigh(self.belief.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        for _ in range(count):
            theta = self.theta + root @ rng.standard_normal(len(self.theta))
            drawn, _ = physics.evaluate(theta, place.inputs, slopes=False)
            yield Prediction(rate_hz=np.exp(-drawn[0]), power_w=np.exp(drawn[1]))

    def parameters(self) -> tuple[Parameter, ...]:
        """The physics in seconds, watts and exponents; the residual's size; the noise of one step and one sample."""
        return (
            *self._solved.physics.parameters(self.theta),
            Parameter(name="residual_time", value=self._residual(0)),
            Parameter(name="residual_power", value=self._residual(1)),
            Parameter(name="noise_time", value=float(np.sqrt(self.noise[0]))),
            Parameter(name="noise_power", value=float(np.sqrt(self.noise[1]))),
            *self._rails.parameters(),
        )

    @property
    def believed(self) -> Belief:
        """What was believed of the parameters of the physics before anything was measured."""
        return self._solved.physics.belief

    @property
    def belief(self) -> Belief:
        """What is believed of the parameters of the physics: S - S J' A^-1 J S around theta."""
        reach = self._solved.gain @ np.transpose(self._solved.whiten)
        before = self.believed
        return Belief(before.names, self.theta, before.covariance - reach @ np.transpose(reach))

    def _step_time(self, states: States) -> tuple[Numbers, Numbers]:
        """Mean and variance of ln step time of n states, (n,) each."""
        mean, variance = np.empty((2, len(states)))
        for at, _, (means, covariances, *_) in self._chunks(states):
            mean[at], variance[at] = means[0], covariances[0, 0]
        return mean, variance

    def _residual(self, which: int) -> float:
        """Standard deviation of the residual of ln time (0) or ln power (1)."""
        return RESIDUAL_SD[which] * self._solved.stretch

    def _chunks(self, states: States) -> Iterator[tuple[slice | Places, Place, Posterior]]:
        """The states and what is known of them, a bounded number at a time, and which of `states` they are.

        The answer for all states of a space that is not too large is kept.
        """
        space = self.board.space
        if len(space) <= WHOLE:
            at = np.minimum(np.searchsorted(space.states, states), len(space) - 1)
            if np.array_equal(space.states[at], states):
                yield from self._of_everything(at)
                return  # else they are states that the space has lost meanwhile
        for start in range(0, len(states), CHUNK):
            place = self.board.place(states[start : start + CHUNK])
            yield slice(start, start + CHUNK), place, self._posterior(place)

    def _of_everything(self, wanted: Places) -> Iterator[tuple[slice | Places, Place, Posterior]]:
        """What is known of some states, by position in the space."""
        everywhere, count = self.board.everywhere, len(self.board.space)
        if self._everything is None:
            parts = (everywhere.part(slice(start, start + CHUNK)) for start in range(0, count, CHUNK))
            self._everything = [(part, self._posterior(part)) for part in parts]
        whole = len(wanted) == count and bool((wanted[1:] > wanted[:-1]).all())
        for number, (place, known) in enumerate(self._everything):
            start = number * CHUNK
            if whole:
                yield slice(start, start + CHUNK), place, known
                continue
            here = np.flatnonzero((wanted >= start) & (wanted < start + CHUNK))
            if len(here):
                at = wanted[here] - start
                mean, covariance, *rows = known
                slopes, whitened, scatter = (each[:, :, at] for each in rows)
                yield here, place.part(at), (mean[:, at], covariance[:, :, at], slopes, whitened, scatter)

    def _posterior(self, place: Place) -> Posterior:
        """Mean (2, n), covariance (2, 2, n), slopes (2, q, n), whitened cross-covariance and scatter (2, rows, n)."""
        mean, slopes = self._solved.physics.evaluate(self.theta, place.inputs)
        solved, rows = self._solved, len(self._powered)
        kernel, shared = self._measured.alike(place)
        cross = np.matmul(np.transpose(solved.gain), slopes)
        parts = [self._residual(a) ** 2 * kernel + CATEGORY_SD**2 * shared for a in range(2)]
        parts[1] = parts[1][self._powered]
        cross[0, :rows] += parts[0]
        cross[1, rows:] += parts[1]
        mean[0] += solved.pull[:rows] @ parts[0]
        mean[1] += solved.pull[rows:] @ parts[1]
        whitened = np.matmul(solved.whiten, cross)
        scatter = np.matmul(solved.scatter, whitened)
        scaled = self._solved.physics.spread(slopes)
        covariance = np.empty((2, 2, mean.shape[1]))
        offsets = place.categories.sum(axis=0) * CATEGORY_SD**2
        for a, b in ((0, 0), (1, 1), (0, 1)):
            own = np.einsum("qn,qn->n", scaled[a], slopes[b]) - np.einsum("rn,rn->n", whitened[a], whitened[b])
            if a == b:
                own = np.maximum(own + self._residual(a) ** 2 + offsets, 1e-12)
            noisy = np.einsum("rn,rn->n", scatter[a], scatter[b])
            covariance[a, b] = covariance[b, a] = DOUBT**2 * own + (1.0 - DOUBT**2) * noisy
        if self._blind:
            mean[1] = np.nan
        return mean, covariance, slopes, whitened, scatter


def _sentence(status: FitStatus, evidence: Evidence, stretch: float) -> str:
    if status is FitStatus.NOT_FINITE:
        return "the measurements gave no finite model; the usual behaviour of boards is assumed"
    if not len(evidence.states):
        return "nothing measured yet; the usual behaviour of boards is assumed"
    power = "" if evidence.has_power else ", no power measured"
    time_off, power_off = (100.0 * sd * stretch for sd in RESIDUAL_SD)
    return (
        f"{len(evidence.states)} states measured{power}; between them the physics is trusted to {time_off:.0f} % in"
        f" time and {power_off:.0f} % in power"
    )


class Overlap:
    """See `overlap`."""

    def __init__(self) -> None:
        self._board: Board | None = None
        self._programs: tuple[Remembered, ...] = ()

    def fit(
        self,
        space: KnobSpace,
        observations: Sequence[Observation],
        *,
        prior: Knowledge | None = None,
        warm: Fit | None = None,
    ) -> OverlapFit:
        """Fit to what was measured; of `prior` the programs are used that ran on this machine (see `heritage`).

        Numbers that are not positive and finite are left out beforehand; where the fit still is not finite, the status
        says so and the answer is that of no measurement at all.
        """
        programs = prior.programs if prior is not None else ()
        if self._board is None or self._board.space is not space or self._programs is not programs:
            self._board, self._programs = Board(space), programs
            self._inherit(self._board, programs)
        board, evidence = self._board, gather(space, observations)
        start = warm.theta if isinstance(warm, OverlapFit) and warm.board is board else None
        status = FitStatus.GOOD if len(evidence.states) >= 2 else FitStatus.TOO_FEW
        with np.errstate(all="ignore"):
            try:
                solved = solve(board, evidence, start)
            except np.linalg.LinAlgError:
                solved = None
            if solved is None or not (np.isfinite(solved.theta).all() and np.isfinite(solved.pull).all()):
                status, evidence = FitStatus.NOT_FINITE, gather(space, ())
                solved = solve(board, evidence, None)
        rails = rails_seen(space, () if status is FitStatus.NOT_FINITE else observations)
        return OverlapFit(board, evidence, solved, status, rails)

    @staticmethod
    def _inherit(board: Board, programs: Sequence[Remembered]) -> None:
        """Begin from what other programs taught of this machine, one fit each, the latest phase of each."""
        latest = {program.app: program for program in reversed(programs)}
        fits: list[tuple[Belief, Belief]] = []
        for program in list(reversed(latest.values()))[:MOST_PROGRAMS]:
            try:
                space = KnobSpace(program.knobs)
            except SettingsError:  # too large to be of a space that this program could hold
                continue
            fit = Overlap().fit(space, program.observations)
            if fit.status is FitStatus.GOOD:
                fits.append((fit.believed, fit.belief))
        if fits:
            with suppress(np.linalg.LinAlgError):
                board.physics.believe(inherited(board.physics.belief, fits))


def overlap() -> Overlap:
    """Device times overlap, watts follow clocks and busy shares, and a residual honours what was measured."""
    return Overlap()
