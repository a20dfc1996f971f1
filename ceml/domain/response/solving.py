"""Gauss-Newton to the most probable parameters of physics plus residual, given what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.response.devices import Devices
from ceml.domain.response.physics import Physics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ceml.domain.knobs import KnobSpace, States
    from ceml.domain.response.evidence import Evidence

    Numbers = NDArray[np.float64]

RESIDUAL_SD = (0.05, 0.04)  # of ln step time and ln power: what the physics leaves over
CATEGORY_SD = 0.3  # of ln time and ln power between two levels of a knob without order
STRETCHES = (1.0, 1.5, 2.2)  # factors on the residual among which evidence chooses
ODD_FROM = 2.2  # factor from which on the physics itself is doubted
ODD_PRIOR = 3.0  # how much more evidence, in ln, the odd kind of program must have
FLAT, FLAT_PRIOR = 0.1, 1.0  # range of ln step time in which a program seems to wait, and what it takes to believe it
STRETCH_SD = 0.5  # of ln(factor): how sure one is beforehand that it is 1
STATES_FOR_STRETCH = 3
MOST_ITERATIONS = 12
CLOSE = 1e-4  # a step, in units of the prior's standard deviations, or a fall of the cost, that ends the climb
LEAST_STEP = 0.02  # of a Gauss-Newton step; shorter ones mean that it cannot get better


@dataclass(frozen=True, slots=True)
class Place:
    """Some states as the model sees them: inputs of the physics, coordinates of the residual, one-hot categories."""

    inputs: tuple[Numbers, Numbers, Numbers]
    coordinates: Numbers
    categories: Numbers

    def part(self, at: slice | States) -> Place:
        """Some of the states, by position."""
        clocks, cores, extras = (each[:, at] for each in self.inputs)
        return Place((clocks, cores, extras), self.coordinates[:, at], self.categories[:, at])

    def alike(self, other: Place) -> tuple[Numbers, Numbers]:
        """Matern 5/2 correlation of the residuals, and the count of shared categories, of m and n states, (m, n)."""
        square = (self.coordinates**2).sum(axis=0)[:, None] + (other.coordinates**2).sum(axis=0)
        square -= 2.0 * (np.transpose(self.coordinates) @ other.coordinates)
        r = np.sqrt(5.0 * np.maximum(square, 0.0))
        return (1.0 + r + r * r / 3.0) * np.exp(-r), np.transpose(self.categories) @ other.categories


class Board:
    """A space as this model sees it: made once, used by every fit.

    Attributes:
        space: The space.
        physics: The mean of the model.
    """

    def __init__(self, space: KnobSpace) -> None:
        self.space = space
        self._devices = Devices(space)
        self.physics = Physics(self._devices)

    @cached_property
    def odd(self) -> Physics:
        """The mean of the model for a program that higher clocks slow down; made when it is first doubted."""
        return self.physics.odd()

    @cached_property
    def paced(self) -> Physics:
        """The mean of the model for a program that mostly waits; made when the usual one is first doubted."""
        return self.physics.paced()

    @cached_property
    def everywhere(self) -> Place:
        """All present states of the space; for spaces small enough to look at all."""
        return self.place(self.space.states)

    def place(self, states: States) -> Place:
        """The same states in the model's terms."""
        devices = self._devices
        columns = devices.columns(states)
        ordered = [at for at in range(len(columns)) if at not in devices.categories]
        flags = [columns[at] == level for at in devices.categories for level in range(devices.levels[at])]
        one_hot = np.stack(flags).astype(np.float64) if flags else np.zeros((0, len(states)))
        scaled = columns[ordered] / devices.lengths[ordered, None]
        # Two different levels of a category lie one correlation length apart.
        return Place(self.physics.inputs(columns), np.vstack([scaled, one_hot / np.sqrt(2.0)]), one_hot)


@dataclass(frozen=True, slots=True)
class Solved:
    """Where Gauss-Newton ended: the parameters, and what is needed to say how sure they are.

    Attributes:
        physics: The usual one, or the odd one.
        theta: Parameters of the physics, (q,).
        stretch: Factor on the residual.
        gain: Prior variance times slopes, S J', (q, rows); rows are the measured times, then the measured powers.
        whiten: Inverse Cholesky factor of the covariance of the rows, (rows, rows).
        scatter: Root of the noise times the transpose of `whiten`, (rows, rows): how noise alone moves the answer.
        pull: That covariance^-1 times (measured - mean before measuring), (rows,).
    """

    physics: Physics
    theta: Numbers
    stretch: float
    gain: Numbers
    whiten: Numbers
    scatter: Numbers
    pull: Numbers


class Problem:
    """Measured rows against the model: y = f(theta) + residual + noise, theta ~ N(mean, S)."""

    def __init__(self, physics: Physics, measured: Place, evidence: Evidence) -> None:
        self._physics, self._measured = physics, measured
        self._powered = np.isfinite(evidence.values[1])
        self._count = len(evidence.states)
        self.target = np.concatenate([evidence.values[0], evidence.values[1, self._powered]])
        self._noise = np.concatenate([evidence.variance[0], evidence.variance[1, self._powered]])
        self.spread = np.sqrt(self._noise)
        self._kernel, self._shared = self._measured.alike(self._measured)
        self.mean = self._scaled(evidence)

    def _scaled(self, evidence: Evidence) -> Numbers:
        """The prior mean, with scales taken from the data: scaling all seconds or all watts changes nothing else."""
        mean: Numbers = np.array(self._physics.mean)
        expected, _ = self._physics.evaluate(mean, self._measured.inputs, slopes=False)
        off = evidence.values - expected
        if self._count:
            mean[self._physics.TIME] += off[0].mean()
        if self._powered.any():
            mean[self._physics.POWER] += off[1, self._powered].mean()
        return mean

    def loose(self, stretch: float) -> Numbers:
        """Covariance of residual and noise of the rows."""
        cover: Numbers = np.eye(len(self._noise)) * self._noise
        blocks = [(sd * stretch) ** 2 * self._kernel + CATEGORY_SD**2 * self._shared for sd in RESIDUAL_SD]
        cover[: self._count, : self._count] += blocks[0]
        cover[self._count :, self._count :] += blocks[1][np.ix_(self._powered, self._powered)]
        return cover

    def linear(self, theta: Numbers) -> tuple[Numbers, Numbers]:
        """How far the physics is off, (rows,), and its slopes, (rows, q)."""
        values, slopes = self._physics.evaluate(theta, self._measured.inputs)
        off = self.target - np.concatenate([values[0], values[1, self._powered]])
        return off, np.transpose(np.concatenate([slopes[0], slopes[1][:, self._powered]], axis=1))

    def climb(self, theta: Numbers, stretch: float) -> Numbers:
        """Iterate theta <- mu + S J' (J S J' + K + N)^-1 (r + J (theta - mu)), halving steps that fail."""
        cover = self.loose(stretch)
        tight = np.linalg.inv(cover)

        def cost_of(off: Numbers, at: Numbers) -> float:
            return float(off @ tight @ off) + self._physics.oddity(at - self.mean)

        off, slopes = self.linear(theta)
        cost = cost_of(off, theta)
        for _ in range(MOST_ITERATIONS):
            gain = self._physics.spread(np.transpose(slopes))
            aim = self.mean + gain @ np.linalg.solve(slopes @ gain + cover, off + slopes @ (theta - self.mean))
            step, size, before = aim - theta, 1.0, cost
            while size > LEAST_STEP:
                off, slopes = self.linear(theta + size * step)
                cost = cost_of(off, theta + size * step)
                if cost <= before:
                    break
                size /= 2.0
            else:
                return theta
            theta = theta + size * step
            if before - cost < CLOSE or float(np.max(step**2 / self._physics.variance)) < CLOSE**2:
                break
        return theta

    def stretch(self, theta: Numbers) -> tuple[float, float]:
        """The factor on the residual with the most evidence, log N(gap; 0, J S J' + K + N) + log prior, and that."""
        off, slopes = self.linear(theta)
        model = slopes @ self._physics.spread(np.transpose(slopes))
        gap = off + slopes @ (theta - self.mean)
        evidences: list[float] = []
        for factor in STRETCHES:
            root = np.linalg.cholesky(model + self.loose(factor))
            fit = float((np.linalg.solve(root, gap) ** 2).sum()) / 2.0 + float(np.log(np.diagonal(root)).sum())
            evidences.append(-fit - 0.5 * (np.log(factor) / STRETCH_SD) ** 2)
        best = int(np.argmax(evidences))
        return STRETCHES[best], evidences[best]


def solve(board: Board, evidence: Evidence, start: Numbers | None) -> Solved:
    """The maximum a posteriori, from `start` (a warm start) or from the prior mean.

    Where the usual physics leaves much over, it is held against one that allows a program to be slowed down by higher
    clocks, and against one of a program that mostly waits; the one with the most evidence is taken. Where no clock has
    changed the time of a step so far, the latter is thought of at once.

    Raises:
        numpy.linalg.LinAlgError: The numbers are not finite.
    """
    physics, measured = board.physics, board.place(evidence.states)
    problem = Problem(physics, measured, evidence)
    begin = problem.mean if start is None else start[: len(problem.mean)]  # the fit before may have been odd
    theta = problem.climb(begin, 1.0) if len(problem.target) else problem.mean
    stretch = 1.0
    if len(evidence.states) >= STATES_FOR_STRETCH:
        stretch, sure = problem.stretch(theta)
        flat = float(np.ptp(evidence.values[0])) < FLAT
        kinds = (board.odd, board.paced) if stretch >= ODD_FROM else (board.paced,) if flat else ()
        sure += FLAT_PRIOR if flat else ODD_PRIOR
        for kind in kinds:
            other = Problem(kind, measured, evidence)
            there = other.climb(other.mean, 1.0)
            factor, surer = other.stretch(there)
            if surer > sure:
                physics, problem, theta, stretch, sure = kind, other, there, factor, surer
        if stretch != 1.0:
            theta = problem.climb(theta, stretch)
    off, slopes = problem.linear(theta)
    gain = physics.spread(np.transpose(slopes))
    whiten: Numbers = np.asarray(
        np.linalg.inv(np.linalg.cholesky(slopes @ gain + problem.loose(stretch))), dtype=np.float64
    )
    pull = np.transpose(whiten) @ (whiten @ (off + slopes @ (theta - problem.mean)))
    return Solved(physics, theta, stretch, gain, whiten, problem.spread[:, None] * np.transpose(whiten), pull)
