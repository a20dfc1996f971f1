"""Does an objective keep its promises? Asked about made-up states of which we know what must come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.values import Prediction, Situation
from ceml.plugins.checked import ANSWER_S, CheckedObjective
from ceml.testing.promises import insist, lines_run, promise, quick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ceml.domain.contracts import Constraint, Objective

STATES = 540  # as many as the paper's board has
FEW, MANY = 50, 500
ASKED = 200  # times again: a decision asks dozens of times
NOW = Situation(
    at_s=100.0, unix_s=1.7e9, remaining_work=1000.0, spent_s=50.0, spent_j=300.0, rate_at_max_hz=3.0, power_w=6.0
)
BLIND = Situation()  # nothing is known but the time, as at the start of a program that announced nothing


def check_objective(objective: Objective) -> None:
    """Ask it about ordinary, shuffled, single, worse and impossible states.

    Args:
        objective: What a factory of objectives returned.

    Raises:
        BrokenPromise: Its costs are wrong in shape or sense, or it is unfit for a control loop; one line a fault.
    """
    insist(promises(objective))


def ordinary(count: int = STATES, seed: int = 0) -> Prediction:
    """Rates and powers as boards have them: faster states draw more, but not always."""
    rng = np.random.default_rng(seed)
    rate_hz = rng.uniform(0.5, 3.0, count)
    power_w = 2.0 + 2.0 * rate_hz**1.5 * rng.uniform(0.8, 1.2, count)
    shares = {"cpu": 0.3, "gpu": 0.5, "total": 1.0}
    noise: NDArray[np.float64] = np.zeros((count, 2, 2))
    noise[:, 0, 0] = noise[:, 1, 1] = 4e-4
    rails = {rail: share * power_w for rail, share in shares.items()}
    return Prediction(rate_hz=rate_hz, power_w=power_w, rail_w=rails, covariance=noise)


def promises(objective: Objective) -> Iterator[Callable[[], None]]:
    """Each promise as a question; what is asked first must hold for the others to make sense."""
    asked: list[CheckedObjective] = []

    def cost(predicted: Prediction, now: Situation = NOW) -> NDArray[np.float64]:
        return asked[0].cost(predicted, now)

    def answers() -> None:
        asked.append(CheckedObjective("", objective))
        costs = cost(ordinary())
        bad = int(np.count_nonzero(~np.isfinite(costs)))
        promise(not bad, f"{bad} of {len(costs)} ordinary states cost NaN or infinity; every ordinary state has a cost")

    def is_quick() -> None:
        quick(lambda: cost(ordinary()), f"asking the cost of {STATES} states", ANSWER_S)

    def takes_any_number() -> None:
        for count in (1, 2, STATES):
            cost(ordinary(count))

    def repeats_itself() -> None:
        first, second = cost(ordinary()), cost(ordinary())
        promise(_same(first, second), "the same states cost something else when asked again; a cost must not change")
        few = ordinary(3)
        first = cost(few)
        again = all(_same(cost(few), first) for _ in range(ASKED))
        promise(again, f"asked {ASKED} times, as in a few decisions, the same states cost something else at last")

    def does_not_see_the_order() -> None:
        states = ordinary()
        shuffled = np.random.default_rng(1).permutation(STATES)
        promise(
            _same(cost(_picked(states, shuffled)), cost(states)[shuffled]),
            "it depends on order: the same states in another order cost something else. Judge each state by itself",
        )

    def does_not_see_the_others() -> None:
        states = ordinary()
        some = np.argsort(cost(states))[STATES // 10 : -STATES // 10]  # neither the best nor the worst, nor their mean
        alone = [some[at : at + 1] for at in (0, len(some) // 2, len(some) - 1)]  # nor whoever is highest in anything
        promise(
            all(_same(cost(_picked(states, few)), cost(states)[few]) for few in (some, *alone)),
            "a state costs something else when it is asked about with fewer others: do not scale by the best or the "
            "mean of the states, a search sees only some of them",
        )

    def is_vectorised() -> None:
        few, many = (lines_run(lambda count=count: cost(ordinary(count))) for count in (FEW, MANY))
        promise(
            many - few < (MANY - FEW) / 2,
            f"not vectorised: {many} lines of Python run for {MANY} states and {few} for {FEW}. Compute with the whole "
            "arrays, e.g. predicted.power_w / predicted.rate_hz, without a loop over states",
        )

    def more_watts_cost_no_less() -> None:
        states = ordinary()
        hotter = Prediction(
            rate_hz=states.rate_hz,
            power_w=1.2 * states.power_w,
            rail_w={rail: 1.2 * watts for rail, watts in states.rail_w.items()},
            covariance=states.covariance,
        )
        _no_cheaper(cost(states), cost(hotter), "draws 20 % more power at the same speed")

    def slower_costs_no_less() -> None:
        states = ordinary()
        slower = Prediction(
            rate_hz=states.rate_hz / 1.2, power_w=states.power_w, rail_w=states.rail_w, covariance=states.covariance
        )
        _no_cheaper(cost(states), cost(slower), "is 20 % slower at the same power")

    def tells_states_apart() -> None:
        promise(np.ptp(cost(ordinary())) > 0.0, "every state costs the same: there is nothing to choose by")

    def has_one_sign() -> None:
        costs = cost(ordinary())
        promise(
            (costs >= 0).all() or (costs <= 0).all(),
            "some states cost less than 0 and some more; costs are of one sign, so that shares of them have a meaning",
        )

    def bears_what_is_not_known() -> None:
        states = ordinary()
        unknown = Prediction(rate_hz=states.rate_hz, power_w=np.full(STATES, np.nan))
        for predicted in (states, unknown):
            cost(predicted, BLIND)

    def bears_impossible_states() -> None:
        odd = np.array([0.0, -1.0, 1e-300, 1e300, np.inf, np.nan, 1.0])
        cost(Prediction(rate_hz=odd, power_w=np.flip(odd)))

    yield answers
    yield is_quick
    yield takes_any_number
    yield repeats_itself
    yield does_not_see_the_order
    yield does_not_see_the_others
    yield is_vectorised
    yield more_watts_cost_no_less
    yield slower_costs_no_less
    yield tells_states_apart
    yield has_one_sign
    yield bears_what_is_not_known
    yield bears_impossible_states
    for constraint in asked[0].constraints if asked else ():
        yield lambda constraint=constraint: _constraint(constraint)


def _constraint(constraint: Constraint) -> None:
    name = constraint.name
    promise(name.strip(), "a constraint has a name that a person understands, with its bound and unit")
    quick(lambda: constraint.violation(ordinary(), NOW), f"constraint {name!r} for {STATES} states", ANSWER_S)
    for now in (NOW, BLIND):
        violation = constraint.violation(ordinary(), now)
        promise(not np.isnan(violation).any(), f"constraint {name!r}: a violation is a number; some are NaN")
        promise((violation >= 0).all(), f"constraint {name!r}: a violation is 0 or above (0.1 = 10 % over), never less")
    shuffled = np.random.default_rng(1).permutation(STATES)
    promise(
        _same(
            constraint.violation(_picked(ordinary(), shuffled), NOW), constraint.violation(ordinary(), NOW)[shuffled]
        ),
        f"constraint {name!r} depends on order: judge each state by itself",
    )


def _no_cheaper(before: NDArray[np.float64], after: NDArray[np.float64], how: str) -> None:
    cheaper = int(np.count_nonzero(after < before - 1e-9 * np.abs(before)))
    promise(
        not cheaper,
        f"lower is better, but a state that {how} costs less ({cheaper} of {len(before)} states): is the sign the "
        "wrong way round? What is to be maximised, e.g. steps per joule, is a cost with a minus before it",
    )


def _picked(states: Prediction, at: NDArray[np.intp]) -> Prediction:
    return Prediction(
        rate_hz=states.rate_hz[at],
        power_w=states.power_w[at],
        rail_w={rail: watts[at] for rail, watts in states.rail_w.items()},
        covariance=None if states.covariance is None else states.covariance[at],
    )


def _same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool(np.allclose(one, other, rtol=1e-9, atol=0.0, equal_nan=True))
