"""Do a search, a sampler and a change detector keep their promises? On a simulated board and on made-up signals."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.contracts import Score
from ceml.domain.response.overlap import overlap
from ceml.domain.values import Situation, Stay
from ceml.plant.board import jetson_tx2
from ceml.testing.models import measured
from ceml.testing.promises import insist, promise, quick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import ChangeDetector, Constraint, Sampler, Search
    from ceml.domain.knobs import KnobSpace
    from ceml.domain.values import Choice, Observation, Prediction

STEPS = 3000.0  # of the run in which a sampler is tried
MOST_STAYS, MOST_TRIALS = 100, 40  # of 540 states; ours try 7
NAN = float("nan")


@dataclass(frozen=True)
class _Energy:
    constraints: tuple[Constraint, ...] = ()

    def cost(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        return predicted.power_w / predicted.rate_hz


@dataclass(frozen=True)
class _Cap:
    watts: float
    name: str = "power cap"

    def violation(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        return np.maximum(predicted.power_w / self.watts - 1.0, 0.0)


def check_search(search: Search) -> None:
    """Let it look for the best of known states: free, under a cap, under a cap that no state keeps.

    Raises:
        BrokenPromise: It chooses what is worse, not there, or not allowed; one line a fault.
    """
    insist(search_promises(search))


def check_sampler(sampler: Sampler) -> None:
    """Let it plan a whole run.

    Raises:
        BrokenPromise: It names states that are not there, stays for nothing, or never ends; one line a fault.
    """
    insist(sampler_promises(sampler))


def check_detector(detector: ChangeDetector) -> None:
    """Feed it steady, changed and missing signals.

    Raises:
        BrokenPromise: It cries wolf, sleeps through a change, or minds the unit; one line a fault.
    """
    insist(detector_promises(detector))


# Search ---------------------------------------------------------------------------------------------------------------


def search_promises(search: Search) -> Iterator[Callable[[], None]]:
    """Each promise as a question."""
    plant = jetson_tx2("vit")
    space = plant.space
    fit = overlap().fit(space, measured(plant))

    def score(*constraints: Constraint) -> Score:
        return Score(fit, _Energy(), constraints, Situation(remaining_work=1000.0))

    every = score()(space.states)
    starts = [int(space.max_state), int(space.min_state), int(space.states[len(space) // 2])]

    def best(start: int, *constraints: Constraint, where: KnobSpace = space) -> Choice:
        choice = search.best(where, score(*constraints), start)
        present = 0 <= choice.state < len(where.present) and bool(where.present[choice.state])
        promise(present, f"it chooses state {choice.state}, which the space does not have")
        told = score(*constraints)(np.array([choice.state]))
        promise(
            np.isclose(choice.cost, told.cost[0]) and np.isclose(choice.violation, told.violation[0]),
            f"it says cost {choice.cost:.4g} and violation {choice.violation:.3g} of its choice, and the score says "
            f"{told.cost[0]:.4g} and {told.violation[0]:.3g}",
        )
        return choice

    def answers() -> None:
        best(starts[0])

    def is_no_worse_than_its_start() -> None:
        for start in starts:
            here = float(score()(np.array([start])).cost[0])
            found = best(start).cost
            promise(
                found <= here * (1 + 1e-9),
                f"it chooses a state that is worse than the one it started from ({found:.4g} > {here:.4g})",
            )

    def finds_something_good() -> None:
        costs = every.cost[np.isfinite(every.cost)]
        found = min(best(start).cost for start in starts)
        promise(
            found <= float(np.quantile(costs, 0.1)),
            f"from three starts its best costs {found:.4g} J; a tenth of all states costs less",
        )

    def keeps_a_cap() -> None:
        watts = float(np.quantile(every.predicted.power_w, 0.3))
        choice = best(int(space.min_state), _Cap(watts))
        promise(
            choice.feasible,
            f"under a cap that a third of all states keep it chooses one that breaks it ({watts:.3g} W)",
        )

    def says_so_where_nothing_is_allowed() -> None:
        least = float(np.nanmin(every.predicted.power_w))
        choice = best(starts[0], _Cap(0.5 * least))
        promise(not choice.feasible, "where no state keeps the cap its choice must say so (violation above 0)")

    def bears_a_space_with_holes() -> None:
        holes = space.without(space.states[::3].tolist())
        best(int(holes.states[0]), where=holes)
        alone = space.without(space.states[1:].tolist())
        best(int(alone.states[0]), where=alone)

    def repeats_itself() -> None:
        promise(
            best(starts[0]).state == best(starts[0]).state, "asked again from the same start it chooses another state"
        )

    def is_quick() -> None:
        quick(lambda: search.best(space, score(), starts[0]), f"a search over {len(space)} states")

    yield answers
    yield is_no_worse_than_its_start
    yield finds_something_good
    yield keeps_a_cap
    yield says_so_where_nothing_is_allowed
    yield bears_a_space_with_holes
    yield repeats_itself
    yield is_quick


# Sampler --------------------------------------------------------------------------------------------------------------


def sampler_promises(sampler: Sampler) -> Iterator[Callable[[], None]]:
    """Each promise as a question."""
    plant = jetson_tx2("vit")
    space, model = plant.space, overlap()
    known = {int(space.max_state): measured(plant, 1)[0]}

    def asked(seen: Sequence[Observation], left: float | None) -> Stay | None:
        score = Score(model.fit(space, seen), _Energy(), (), Situation(remaining_work=left))
        stay = sampler.next(space, score.fit, score, seen, left, None if left is None else STEPS)
        if stay is None:
            return None
        present = 0 <= stay.state < len(space.present) and bool(space.present[stay.state])
        promise(present, f"it wants to try state {stay.state}, which the space does not have")
        numbers = (stay.beats, stay.steps, stay.power_samples, stay.longest_s, stay.patience)
        promise(not any(number != number for number in numbers), f"its stay has numbers that are none: {stay}")
        promise(min(numbers) >= 0, f"its stay has numbers below 0: {stay}")
        promise(
            stay.beats <= STEPS and stay.power_samples <= STEPS,
            f"it wants {stay.beats:g} beats and {stay.power_samples:g} power samples of one state, in a run of "
            f"{STEPS:g} steps",
        )
        promise(
            stay.beats >= 1 or stay.steps > 0 or stay.power_samples > 0,
            "it wants to stay somewhere for no beats, no steps and no power samples",
        )
        promise(stay.longest_s > 0, f"it wants to stay for at most {stay.longest_s} s")
        promise(stay.patience > 0, f"it has a patience of {stay.patience} times what it expects")
        return stay

    def answers() -> None:
        promise(asked([], STEPS) is not None, "with nothing measured it names no state to begin with")

    def comes_to_an_end() -> None:
        seen: list[Observation] = []
        left, trials = STEPS, 0
        for number in range(MOST_STAYS):
            stay = asked(seen, max(left, 0.0))
            if stay is None or left <= 0:
                break
            trials += not stay.commits
            promise(
                trials <= MOST_TRIALS,
                f"it tries more than {MOST_TRIALS} of {len(space)} states; a run is too short for that: the model is "
                "there to spare them, and None hands over to the search",
            )
            steps = max(stay.beats, stay.steps, 1.0) if isfinite(stay.steps) else left
            left -= steps
            seen.append(_seen(stay.state, number))
        else:
            promise(False, f"after {MOST_STAYS} stays it still wants to measure; None hands over to the search")

    def is_quick() -> None:
        seen = list(known.values())
        fit = model.fit(space, seen)
        score = Score(fit, _Energy(), (), Situation(remaining_work=STEPS))
        quick(lambda: sampler.next(space, fit, score, seen, STEPS, STEPS), "one stay, with one state measured,")

    def bears_an_unknown_total() -> None:
        asked([], None)
        asked(list(known.values()), None)

    def _seen(state: int, number: int) -> Observation:
        from dataclasses import replace

        noise = np.random.default_rng(number).normal(1.0, 0.005, 2)
        return replace(
            known[int(space.max_state)],
            configuration=space.configuration(state),
            rate_hz=float(noise[0] / plant.step_s[state]),
            power_w=float(noise[1] * plant.power_w[state]),
            rail_w=plant.rails_w(state),
            utilisation=plant.utilisation(state),
        )

    yield answers
    yield is_quick
    yield comes_to_an_end
    yield bears_an_unknown_total


# Detector -------------------------------------------------------------------------------------------------------------


def detector_promises(detector: ChangeDetector) -> Iterator[Callable[[], None]]:
    """Each promise as a question; each is put to a copy, as the house does for each signal."""

    def fed(
        values: Sequence[float], *, predicted: float = NAN, std: float = NAN, one: ChangeDetector | None = None
    ) -> list[int]:
        """The windows in which it saw a change."""
        mine = deepcopy(detector) if one is None else one
        said: list[object] = [mine.update(value, predicted=predicted, std=std) for value in values]
        promise(all(isinstance(each, bool | np.bool_) for each in said), "update answers True or False, nothing else")
        return [number for number, each in enumerate(said) if each]

    def noisy(level: float, count: int, seed: int = 0) -> list[float]:
        return [level * float(noise) for noise in np.random.default_rng(seed).normal(1.0, 0.01, count)]

    def answers() -> None:
        fed([1.0, 1.01, 0.99])
        deepcopy(detector).reset()

    def does_not_cry_wolf() -> None:
        for predicted, std in ((NAN, NAN), (5.0, 0.05)):
            times = fed(noisy(5.0, 300), predicted=predicted, std=std)
            promise(
                len(times) <= 1, f"in 300 windows of a steady signal with 1 % of noise it sees {len(times)} changes"
            )

    def sees_a_change() -> None:
        for factor in (2.0, 0.5):
            times = fed(noisy(5.0, 40) + noisy(5.0 * factor, 20, seed=1))
            promise(
                any(40 <= at < 60 for at in times),
                f"in 20 windows it does not see that the signal went to {factor:g} times its level",
            )

    def minds_no_unit() -> None:
        signal = noisy(5.0, 40) + noisy(10.0, 20, seed=1)
        promise(
            fed(signal) == fed([1000.0 * value for value in signal]),
            "it sees something else in milliwatts than in watts; judge by shares of the level",
        )

    def bears_what_is_no_number() -> None:
        fed([5.0, NAN, 0.0, float("inf"), -1.0, 5.0], predicted=NAN, std=NAN)
        fed([5.0, 5.0], predicted=5.0, std=0.0)

    def forgets() -> None:
        one = deepcopy(detector)
        fed(noisy(5.0, 40), one=one)
        one.reset()
        times = fed(noisy(10.0, 40, seed=1), one=one)
        promise(not times, "after reset it still holds the new level against the old one")

    def is_quick() -> None:
        quick(lambda: fed(noisy(5.0, 100)), "100 windows")

    yield answers
    yield does_not_cry_wolf
    yield sees_a_change
    yield minds_no_unit
    yield bears_what_is_no_number
    yield forgets
    yield is_quick
