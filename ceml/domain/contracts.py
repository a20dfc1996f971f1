"""What a plugin must be: objectives, constraints, models, searches, samplers, detectors. Pure, vectorised over states.

Candidates are arrays of states of a `KnobSpace`, shape (n,). A plugin is a factory with annotated keyword options
that returns one of these; randomness comes in as an argument of the factory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence  # noqa: TC003 - plugins' authors may ask for the type hints at run time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ceml.domain.values import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ceml.domain.knobs import KnobSpace, States
    from ceml.domain.values import (
        Choice,
        FitStatus,
        Knowledge,
        Observation,
        Parameter,
        Situation,
        Stay,
    )


@runtime_checkable
class Constraint(Protocol):
    """Something that must hold, e.g. a cap on power."""

    @property
    def name(self) -> str:
        """What a person calls it, with its bound and unit: `power cap 8 W`."""
        ...

    def violation(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """Relative excess of each state, shape (n,): 0 = allowed, 0.1 = 10 % over."""
        ...


@runtime_checkable
class Objective(Protocol):
    """What the user wants less of."""

    @property
    def constraints(self) -> Sequence[Constraint]:
        """Constraints that belong to the objective itself; usually none, and then a plugin may leave this out."""
        ...

    def cost(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """Cost of each state, shape (n,); lower is better, of one sign over the space."""
        ...


@runtime_checkable
class Fit(Protocol):
    """A fitted model. A bad fit has a `status`; it never raises."""

    @property
    def status(self) -> FitStatus:
        """How it went."""
        ...

    @property
    def sentence(self) -> str:
        """The same in words, with the numbers that matter."""
        ...

    def predict(self, states: States) -> Prediction:
        """Rate and power of n states; NaN where nothing sensible can be said."""
        ...

    def parameters(self) -> tuple[Parameter, ...]:
        """The fitted numbers, with units."""
        ...


@runtime_checkable
class UncertainFit(Fit, Protocol):
    """A fitted model that says how sure it is, everywhere and jointly; its predictions carry `covariance`."""

    @property
    def noise(self) -> tuple[float, float]:
        """Variance of ln step time of one step, and of ln power of one sample, by measuring alone."""
        ...

    @property
    def experience(self) -> float:
        """How many measured states what other programs taught of this machine is worth; 0 where none ran here."""
        ...

    def covariance(self, states: States, reference: States) -> NDArray[np.float64]:
        """Covariance of (ln step time, ln power) between n states and m others, shape (n, m, 2, 2)."""
        ...

    def draw(self, states: States, count: int, rng: np.random.Generator) -> Iterator[Prediction]:
        """`count` programs that the model thinks possible, one prediction of n states each."""
        ...


@runtime_checkable
class ResponseModel(Protocol):
    """How rate and power answer to the knobs."""

    def fit(
        self,
        space: KnobSpace,
        observations: Sequence[Observation],
        *,
        prior: Knowledge | None = None,
        warm: Fit | None = None,
    ) -> Fit:
        """Fit to what was measured. No observation at all is legal."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """Cost and violation of n states, shape (n,), and the prediction that they come from."""

    cost: NDArray[np.float64]
    violation: NDArray[np.float64]
    predicted: Prediction


@dataclass(frozen=True)
class Score:
    """The paper's `estimateScore` and `checkConstraint` in one: states in, cost and violation out (C17).

    A state whose predicted rate or power is not positive, or whose cost is no number, is infeasible: infinite cost and
    violation (a linear model may well predict negative speed or watts at the edge of the space).

    Attributes:
        fit: Predicts.
        objective: Gives the cost.
        constraints: Give the violation; a state's is its largest.
        now: Where the run stands.
        surely: Constraints are judged at this quantile of the prediction, on the pessimistic side; 0.5: as expected.
    """

    fit: Fit
    objective: Objective
    constraints: Sequence[Constraint]
    now: Situation
    surely: float = 0.5

    def __call__(self, states: States) -> Scored:
        """Score n states by the fitted model."""
        return self.of(self.fit.predict(states))

    def of(self, predicted: Prediction) -> Scored:
        """Score a prediction, or a measurement in the shape of one."""
        with np.errstate(all="ignore"):
            cost = np.asarray(self.objective.cost(predicted, self.now), dtype=np.float64)
            violation = np.zeros(cost.shape)
            judged = predicted if self.surely == 0.5 or not self.constraints else predicted.quantile(self.surely)
            for constraint in self.constraints:
                np.maximum(violation, constraint.violation(judged, self.now), out=violation)
            sane = np.isfinite(cost + violation + predicted.rate_hz)
            # fmin passes over NaN: a power that is not known is for the objective and the constraints to judge.
            sane &= np.fmin(predicted.rate_hz, predicted.power_w) > 0
        if np.count_nonzero(sane) < sane.size:
            cost, violation = np.where(sane, cost, np.inf), np.where(sane, violation, np.inf)
        return Scored(cost, violation, predicted)

    @property
    def power_caps(self) -> tuple[Constraint, ...]:
        """The constraints that forbid watts: a state of the same rate that draws enormous power violates them."""
        same = np.ones(2)
        hot = Prediction(rate_hz=same, power_w=np.array([1e-6, 1e9]))
        with np.errstate(all="ignore"):
            return tuple(each for each in self.constraints if float(np.ptp(each.violation(hot, self.now))) > 0.0)


@runtime_checkable
class Search(Protocol):
    """Which state is best under a score."""

    def best(self, space: KnobSpace, score: Score, start: int) -> Choice:
        """The best state, starting from `start`. Nothing feasible: the least violation, flagged by the choice."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Which state to measure next, and for how long."""

    def next(
        self,
        space: KnobSpace,
        fit: Fit,
        score: Score,
        observations: Sequence[Observation],
        remaining_work: float | None,
        total_work: float | None,
    ) -> Stay | None:
        """The next stay; None hands over to the search."""
        ...


@runtime_checkable
class ChangeDetector(Protocol):
    """Whether a signal has changed for good. One instance per signal."""

    def update(self, measured: float, *, predicted: float, std: float) -> bool:
        """Feed one window's value; `predicted` and `std` (of the measured value) may be NaN. True: it changed."""
        ...

    def reset(self) -> None:
        """Forget the past, e.g. because the configuration changed."""
        ...
