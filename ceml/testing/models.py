"""Does a response model keep its promises? It is shown measurements of a simulated board, whose truth we know."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.contracts import UncertainFit
from ceml.domain.values import FitStatus, Observation, Prediction
from ceml.plant.board import jetson_tx2
from ceml.testing.promises import insist, lines_run, promise, quick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ceml.domain.contracts import Fit, ResponseModel
    from ceml.plant.machine import Plant

MEASURED = 12  # states: more than any method here needs
WORST = 0.5  # median error over all states; the mean of what was measured, taken everywhere, has about this


def check_model(model: ResponseModel) -> None:
    """Fit it to nothing, to little and to enough, and hold its predictions against the truth.

    Args:
        model: What a factory of models returned.

    Raises:
        BrokenPromise: It raises, answers in the wrong shape, or does not learn; one line a fault.
    """
    insist(promises(model))


def measured(plant: Plant, count: int = MEASURED, seed: int = 0) -> list[Observation]:
    """What a run would have measured in some states, the highest among them, with the noise that boards have."""
    rng = np.random.default_rng(seed)
    others = rng.choice(plant.space.states, count, replace=False).tolist()
    states = [plant.space.max_state, *(state for state in others if state != plant.space.max_state)][:count]
    return [
        Observation(
            configuration=plant.space.configuration(state),
            start_s=20.0 * number,
            end_s=20.0 * number + 20.0 * float(plant.step_s[state]),
            beats=20,
            steps=20.0,
            rate_hz=1.0 / float(plant.step_s[state] * rng.normal(1.0, 0.005)),
            power_w=float(plant.power_w[state] * rng.normal(1.0, 0.005)),
            rail_w=plant.rails_w(state),
            utilisation=plant.utilisation(state),
            power_samples=20,
            step_cv=0.02,
            power_cv=0.025,
        )
        for number, state in enumerate(states)
    ]


def promises(model: ResponseModel) -> Iterator[Callable[[], None]]:
    """Each promise as a question; what is asked first must hold for the others to make sense."""
    plant = jetson_tx2("vit")
    space, seen = plant.space, measured(plant)

    def answers() -> None:
        predicted = _predicted(model.fit(space, seen), len(space), space.states)
        promise(
            np.isfinite(predicted.rate_hz).any(), f"after {MEASURED} measured states it still predicts NaN everywhere"
        )

    def starts_from_nothing() -> None:
        for few in ([], seen[:1], seen[:3], [seen[0]] * MEASURED):
            fit = model.fit(space, few)
            promise(fit.sentence, "a fit says in a sentence how it went, also after few measurements")
            _predicted(fit, len(space), space.states)

    def bears_what_is_not_known() -> None:
        powerless = [_without_power(one) for one in seen]
        _predicted(model.fit(space, powerless), len(space), space.states)

    def is_quick() -> None:
        quick(lambda: model.fit(space, seen), f"a fit to {MEASURED} measured states")
        fit = model.fit(space, seen)
        quick(lambda: fit.predict(space.states), f"a prediction of {len(space)} states")

    def leaves_its_input_alone() -> None:
        before = deepcopy(seen)
        model.fit(space, seen)
        promise(before == seen, "fitting changes what was measured; observations are others' too")

    def repeats_itself() -> None:
        first, second = (model.fit(space, seen).predict(space.states) for _ in range(2))
        promise(
            _close(first, second),
            "the same measurements give another model when fitted again; take a seed, if you must",
        )

    def does_not_see_the_order() -> None:
        fit, shuffled = model.fit(space, seen), np.random.default_rng(1).permutation(space.states)
        order = np.argsort(shuffled)
        promise(
            _close(fit.predict(space.states), _picked(fit.predict(shuffled), order)),
            "it depends on order: the same states in another order are predicted otherwise",
        )

    def is_vectorised() -> None:
        fit = model.fit(space, seen)
        few, many = (lines_run(lambda n=n: fit.predict(space.states[:n])) for n in (50, 500))
        promise(
            many - few < 225,
            f"not vectorised: {many} lines of Python run to predict 500 states and {few} for 50. Compute with arrays",
        )

    def learns() -> None:
        fit = model.fit(space, seen)
        promise(
            fit.status is FitStatus.GOOD, f"{MEASURED} clean measurements are enough for a good fit: {fit.sentence}"
        )
        told, truth = fit.predict(space.states), plant.truth(space.states)
        for what, said, true in (("rate", told.rate_hz, truth.rate_hz), ("power", told.power_w, truth.power_w)):
            error = float(np.nanmedian(np.abs(said / true - 1.0)))
            promise(error < WORST, f"it does not learn: its {what} is off by {error:.0%} (median over all states)")

    def says_how_sure_it_is() -> None:
        fit = model.fit(space, seen)
        if not isinstance(fit, UncertainFit):
            return
        covariance = fit.covariance(space.states[:5], space.states[:3])
        promise(
            covariance.shape == (5, 3, 2, 2), f"covariance(5 states, 3 states) is (5, 3, 2, 2), not {covariance.shape}"
        )
        promise(len(fit.noise) == 2 and min(fit.noise) >= 0, f"noise is two variances, 0 or above, not {fit.noise}")
        drawn = list(fit.draw(space.states[:7], 3, np.random.default_rng(0)))
        promise(len(drawn) == 3, f"draw(7 states, 3) gives three programs, not {len(drawn)}")
        promise(all(one.rate_hz.shape == (7,) for one in drawn), "each drawn program has a rate for every state")

    yield answers
    yield starts_from_nothing
    yield bears_what_is_not_known
    yield is_quick
    yield leaves_its_input_alone
    yield repeats_itself
    yield does_not_see_the_order
    yield is_vectorised
    yield learns
    yield says_how_sure_it_is


def _predicted(fit: Fit, count: int, states: Sequence[int] | object) -> Prediction:
    predicted = fit.predict(np.asarray(states, dtype=np.intp))
    for what, numbers in (("rate_hz", predicted.rate_hz), ("power_w", predicted.power_w)):
        shape = np.asarray(numbers).shape
        promise(shape == (count,), f"a prediction has one {what} per state, shape ({count},); it has {shape}")
    return predicted


def _without_power(seen: Observation) -> Observation:
    return replace(seen, power_w=float("nan"), rail_w={}, utilisation={}, power_samples=0, power_cv=float("nan"))


def _picked(predicted: Prediction, at: object) -> Prediction:
    order = np.asarray(at, dtype=np.intp)
    return Prediction(rate_hz=predicted.rate_hz[order], power_w=predicted.power_w[order])


def _close(one: Prediction, other: Prediction) -> bool:
    pairs = ((one.rate_hz, other.rate_hz), (one.power_w, other.power_w))
    return all(np.allclose(a, b, rtol=1e-6, equal_nan=True) for a, b in pairs)
