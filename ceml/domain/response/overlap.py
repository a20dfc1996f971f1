"""The default response model: physics with broad priors, and a residual that honours what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.response.devices import Devices
from ceml.domain.response.evidence import Evidence, gather
from ceml.domain.response.physics import Physics
from ceml.domain.values import FitStatus, Parameter, Prediction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Fit
    from ceml.domain.knobs import KnobSpace, States
    from ceml.domain.values import Knowledge, Observation

    Numbers = NDArray[np.float64]

RESIDUAL_SD = (0.05, 0.04)  # of ln step time and ln power: what the physics leaves over
CATEGORY_SD = 0.3  # of ln time and ln power between two levels of a knob without order
STRETCHES = (1.0, 1.5, 2.2)  # factors on the residual among which evidence chooses
STRETCH_SD = 0.5  # of ln(factor): how sure one is beforehand that it is 1
MOST_ITERATIONS = 12
CLOSE = 1e-3  # in units of the prior's standard deviations
CHUNK = 20_000  # states at a time, so that memory stays bounded in huge spaces


@dataclass(frozen=True, slots=True)
class Place:
    """Some states as the model sees them: inputs of the physics, coordinates of the residual, one-hot categories."""

    inputs: tuple[Numbers, Numbers, Numbers]
    coordinates: Numbers
    categories: Numbers

    def part(self, start: int, stop: int) -> Place:
        """A range of the states."""
        return Place(
            tuple(each[:, start:stop] for each in self.inputs),  # type: ignore[arg-type]
            self.coordinates[:, start:stop],
            self.categories[:, start:stop],
        )

    def alike(self, other: Place) -> tuple[Numbers, Numbers]:
        """Matern 5/2 correlation of the residuals, and shared categories, of two sets of states, each (m, n)."""
        square = (self.coordinates**2).sum(axis=0)[:, None] + (other.coordinates**2).sum(axis=0)
        square -= 2.0 * (self.coordinates.T @ other.coordinates)
        r = np.sqrt(5.0 * np.maximum(square, 0.0))
        return (1.0 + r + r * r / 3.0) * np.exp(-r), self.categories.T @ other.categories


class Board:
    """A space as this model sees it: made once, used by every fit."""

    def __init__(self, space: KnobSpace) -> None:
        self.space = space
        self.devices = Devices(space)
        self.physics = Physics(self.devices)
        self.everywhere = self.place(space.states)

    def place(self, states: States) -> Place:
        """The same states in the model's terms."""
        columns = self.devices.columns(states)
        ordered = [at for at in range(len(columns)) if at not in self.devices.categories]
        flags = [
            (columns[at] == level) for at in self.devices.categories for level in range(int(self.devices.levels[at]))
        ]
        one_hot = np.stack(flags).astype(np.float64) if flags else np.zeros((0, len(states)))
        scaled = columns[ordered] / self.devices.lengths[ordered, None]
        # Two different levels of a category lie one correlation length apart.
        return Place(self.physics.clocks_and_cores(columns), np.vstack([scaled, one_hot / np.sqrt(2.0)]), one_hot)


@dataclass(frozen=True, slots=True)
class Solved:
    """Where Gauss-Newton ended: parameters, and what is needed to say how sure they are."""

    theta: Numbers
    stretch: tuple[float, float]
    gain: Numbers  # S J', (q, rows)
    whiten: Numbers  # inverse Cholesky factor of the rows' covariance
    pull: Numbers  # covariance^-1 (measured - linearised mean), (rows,)


class OverlapFit:
    """A fitted `overlap` model: the maximum a posteriori, and the Gaussian around it.

    Attributes:
        status: How it went.
        sentence: The same in words.
        noise: Variance of ln step time per step and of ln power per sample, as learnt from the windows.
    """

    def __init__(self, board: Board, evidence: Evidence, solved: Solved, status: FitStatus, sentence: str) -> None:
        self.status, self.sentence = status, sentence
        self.noise = evidence.noise
        self._board, self._evidence, self._solved = board, evidence, solved
        self._measured = board.place(evidence.states)
        self._powered = np.isfinite(evidence.values[1])
        self._blind = len(evidence.states) > 0 and not evidence.has_power
        self._last: tuple[States, Numbers, Numbers, Numbers, Numbers] | None = None

    @property
    def theta(self) -> Numbers:
        """Parameters of the physics, for a warm start."""
        return self._solved.theta

    @property
    def board(self) -> Board:
        """The space it was fitted in."""
        return self._board

    def predict(self, states: States) -> Prediction:
        """Rate and power (the median of each, e^mean) and the covariance of their logarithms.

        Power is NaN where time was measured and power never. Without any measurement the scales are 1 s and 1 W.
        """
        means: list[Numbers] = []
        covariances: list[Numbers] = []
        for _, mean, covariance, _, _ in self._chunks(states):
            means.append(mean)
            covariances.append(covariance)
        mean = np.concatenate(means, axis=1) if means else np.zeros((2, 0))
        covariance = np.concatenate(covariances, axis=2) if covariances else np.zeros((2, 2, 0))
        return Prediction(
            rate_hz=np.exp(-mean[0]), power_w=np.exp(mean[1]), covariance=np.moveaxis(covariance, 2, 0).copy()
        )

    def covariance(self, states: States, reference: States) -> Numbers:
        """Covariance of (ln step time, ln power) between n states and m others, shape (n, m, 2, 2)."""
        there = self._board.place(reference)
        _, slopes = self._board.physics.evaluate(self.theta, there.inputs)
        _, _, _, whitened = self._posterior(there)
        result = np.empty((len(states), len(reference), 2, 2))
        start, variance = 0, self._board.physics.variance[:, None]
        for place, _, _, slopes_here, whitened_here in self._chunks(states):
            stop = start + whitened_here.shape[2]
            kernel, shared = place.alike(there)
            for a in range(2):
                for b in range(2):
                    block = slopes_here[a].T @ (variance * slopes[b]) - whitened_here[a].T @ whitened[b]
                    if a == b:
                        block += self._residual(a) ** 2 * kernel + CATEGORY_SD**2 * shared
                    result[start:stop, :, a, b] = block
            start = stop
        return result

    def draw(self, states: States, count: int, rng: np.random.Generator) -> Iterator[Prediction]:
        """`count` programs that the parameters allow, one prediction of n states each; the residual is left out."""
        physics = self._board.physics
        place = self._place(states)
        spread = physics.variance[:, None] * np.eye(len(physics.mean))
        reach = self._solved.gain @ self._solved.whiten.T
        values, vectors = np.linalg.eigh(spread - reach @ reach.T)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        for _ in range(count):
            theta = self.theta + root @ rng.standard_normal(len(physics.mean))
            drawn, _ = physics.evaluate(theta, place.inputs, slopes=False)
            yield Prediction(rate_hz=np.exp(-drawn[0]), power_w=np.exp(drawn[1]))

    def parameters(self) -> tuple[Parameter, ...]:
        """The physics in seconds, watts and exponents; the residual's size; the noise of one step and one sample."""
        return (
            *self._board.physics.parameters(self.theta),
            Parameter(name="residual_time", value=self._residual(0)),
            Parameter(name="residual_power", value=self._residual(1)),
            Parameter(name="noise_time", value=float(np.sqrt(self.noise[0]))),
            Parameter(name="noise_power", value=float(np.sqrt(self.noise[1]))),
        )

    def _residual(self, which: int) -> float:
        return RESIDUAL_SD[which] * self._solved.stretch[which]

    def _place(self, states: States) -> Place:
        everywhere = states is self._board.space.states
        return self._board.everywhere if everywhere else self._board.place(states)

    def _chunks(self, states: States) -> Iterator[tuple[Place, Numbers, Numbers, Numbers, Numbers]]:
        """Place, mean (2, k), covariance (2, 2, k), slopes (2, q, k), whitened (2, rows, k) of k states at a time."""
        place = self._place(states)
        if len(states) <= CHUNK:
            if self._last is None or self._last[0] is not states:
                self._last = (states, *self._posterior(place))
            yield place, *self._last[1:]
            return
        for start in range(0, len(states), CHUNK):
            part = place.part(start, start + CHUNK)
            yield part, *self._posterior(part)

    def _posterior(self, place: Place) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        mean, slopes = self._board.physics.evaluate(self.theta, place.inputs)
        solved, rows = self._solved, len(self._measured.coordinates.T)
        kernel, shared = self._measured.alike(place)
        cross = np.matmul(solved.gain.T, slopes)  # (2, rows, n)
        time_part = self._residual(0) ** 2 * kernel + CATEGORY_SD**2 * shared
        power_part = (self._residual(1) ** 2 * kernel + CATEGORY_SD**2 * shared)[self._powered]
        cross[0, :rows] += time_part
        cross[1, rows:] += power_part
        mean[0] += solved.pull[:rows] @ time_part
        mean[1] += solved.pull[rows:] @ power_part
        whitened = np.matmul(solved.whiten, cross)
        variance = self._board.physics.variance[:, None]
        scaled = slopes * variance
        covariance = np.empty((2, 2, mean.shape[1]))
        floor = place.categories.sum(axis=0) * CATEGORY_SD**2
        for a in range(2):
            own = (scaled[a] * slopes[a]).sum(axis=0) - (whitened[a] ** 2).sum(axis=0) + floor
            covariance[a, a] = np.maximum(own + self._residual(a) ** 2, 1e-12)
        covariance[0, 1] = (scaled[0] * slopes[1]).sum(axis=0) - (whitened[0] * whitened[1]).sum(axis=0)
        covariance[1, 0] = covariance[0, 1]
        if self._blind:
            mean[1] = np.nan
        return mean, covariance, slopes, whitened


class Overlap:
    """The factory's product; see `overlap`."""

    def __init__(self) -> None:
        self._board: Board | None = None

    def fit(
        self,
        space: KnobSpace,
        observations: Sequence[Observation],
        *,
        prior: Knowledge | None = None,
        warm: Fit | None = None,
    ) -> OverlapFit:
        """Fit by Gauss-Newton to the maximum a posteriori; the board's offline calibration is not used."""
        if self._board is None or self._board.space is not space:
            self._board = Board(space)
        board, evidence = self._board, gather(space, observations)
        start = warm.theta if isinstance(warm, OverlapFit) and warm.board is board else None
        with np.errstate(all="ignore"):
            solved = _solve(board, evidence, start)
        status = FitStatus.GOOD if len(evidence.states) >= 2 else FitStatus.TOO_FEW
        if not np.isfinite(solved.theta).all():
            status, solved = FitStatus.NOT_FINITE, _solve(board, gather(space, ()), None)
            evidence = gather(space, ())
        return OverlapFit(board, evidence, solved, status, _sentence(status, evidence, solved))


def _sentence(status: FitStatus, evidence: Evidence, solved: Solved) -> str:
    if status is FitStatus.NOT_FINITE:
        return "the measurements gave no finite model; the usual behaviour of boards is assumed"
    if not len(evidence.states):
        return "nothing measured yet; the usual behaviour of boards is assumed"
    power = "" if evidence.has_power else ", no power measured"
    time_off, power_off = (100 * sd * by for sd, by in zip(RESIDUAL_SD, solved.stretch, strict=True))
    return (
        f"{len(evidence.states)} states measured{power}; away from them physics is trusted to {time_off:.0f} % in time"
        f" and {power_off:.0f} % in power"
    )


def _solve(board: Board, evidence: Evidence, start: Numbers | None) -> Solved:
    """theta <- mu + S J' (J S J' + K + N)^-1 (r + J (theta - mu)), halving steps that make the posterior worse."""
    physics, measured = board.physics, board.place(evidence.states)
    powered = np.isfinite(evidence.values[1])
    target = np.concatenate([evidence.values[0], evidence.values[1, powered]])
    noise = np.concatenate([evidence.variance[0], evidence.variance[1, powered]])
    mean, rows = physics.mean.copy(), len(target)
    before, _ = physics.evaluate(mean, measured.inputs, slopes=False)
    # The scale comes from the data, so scaling all seconds or all watts changes nothing else.
    if rows:
        mean[physics.TIME] = float(np.mean(evidence.values[0] - before[0]))
    if powered.any():
        mean[physics.POWER] = float(np.mean((evidence.values[1] - before[1])[powered]))
    kernel, shared = measured.alike(measured)
    count = len(evidence.states)

    def loose(stretch: tuple[float, float]) -> Numbers:
        cover = np.diag(noise)
        for which, rows_of in enumerate((slice(0, count), slice(count, rows))):
            sd = RESIDUAL_SD[which] * stretch[which]
            block = sd * sd * kernel + CATEGORY_SD**2 * shared
            cover[rows_of, rows_of] += block if which == 0 else block[np.ix_(powered, powered)]
        return cover

    def linear(theta: Numbers) -> tuple[Numbers, Numbers]:
        values, slopes = physics.evaluate(theta, measured.inputs)
        return target - np.concatenate([values[0], values[1, powered]]), np.concatenate(
            [slopes[0], slopes[1][:, powered]], axis=1
        ).T

    def climb(theta: Numbers, stretch: tuple[float, float], most: int) -> tuple[Numbers, Numbers, Numbers]:
        cover = loose(stretch)
        tight = np.linalg.inv(cover)
        off, slopes = linear(theta)
        cost = off @ tight @ off + ((theta - mean) ** 2 / physics.variance).sum()
        for _ in range(most):
            gain = physics.variance[:, None] * slopes.T
            aim = mean + gain @ np.linalg.solve(slopes @ gain + cover, off + slopes @ (theta - mean))
            step, size = aim - theta, 1.0
            while size > 0.02:
                tried = theta + size * step
                off_tried, slopes_tried = linear(tried)
                cost_tried = off_tried @ tight @ off_tried + ((tried - mean) ** 2 / physics.variance).sum()
                if cost_tried <= cost:
                    break
                size /= 2.0
            else:
                break
            theta, off, slopes, done = tried, off_tried, slopes_tried, cost - cost_tried
            cost = cost_tried
            if done < CLOSE or np.max(step**2 / physics.variance) < CLOSE**2:
                break
        return theta, off, slopes

    theta, stretch = mean if start is None else start, (1.0, 1.0)
    theta, off, slopes = climb(theta, stretch, MOST_ITERATIONS)
    if count >= 3:
        stretch = _stretch(physics, mean, theta, off, slopes, loose)
        if stretch != (1.0, 1.0):
            theta, off, slopes = climb(theta, stretch, MOST_ITERATIONS)
    gain = physics.variance[:, None] * slopes.T
    whiten = np.linalg.inv(np.linalg.cholesky(slopes @ gain + loose(stretch)))
    pull = whiten.T @ (whiten @ (off + slopes @ (theta - mean)))
    return Solved(theta, stretch, gain, whiten, pull)


def _stretch(physics: Physics, mean: Numbers, theta: Numbers, off: Numbers, slopes: Numbers, loose) -> tuple[float, float]:
    best, chosen = -np.inf, (1.0, 1.0)
    model = slopes @ (physics.variance[:, None] * slopes.T)
    gap = off + slopes @ (theta - mean)
    for factor in STRETCHES:
        root = np.linalg.cholesky(model + loose((factor, factor)))
        evidence = -0.5 * (np.linalg.solve(root, gap) ** 2).sum() - np.log(np.diag(root)).sum()
        evidence -= 0.5 * (np.log(factor) / STRETCH_SD) ** 2
        if evidence > best:
            best, chosen = evidence, (factor, factor)
    return chosen


def overlap() -> Overlap:
    """Device times overlap, watts follow clocks and busy shares, and a residual honours what was measured."""
    return Overlap()
