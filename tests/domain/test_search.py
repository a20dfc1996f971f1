"""Both searches against the paper's algorithms, word by word. Not covered: their speed (benchmarks)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.budget import PowerCap
from ceml.domain.contracts import Score
from ceml.domain.knobs import Knob, KnobKind, KnobSpace
from ceml.domain.search import exhaustive, initial_state, local
from ceml.domain.values import Choice, FitStatus, Prediction, Situation
from ceml.errors import SettingsError
from ceml.plugins.energy import energy
from ceml.plugins.performance import performance

CAP_W = 5.0


@dataclass(frozen=True)
class Known:
    """A "model" that knows rate and power of every state of the product."""

    rate_hz: np.ndarray
    power_w: np.ndarray
    status: FitStatus = FitStatus.GOOD
    sentence: str = "known"

    def predict(self, states) -> Prediction:
        return Prediction(rate_hz=self.rate_hz[states], power_w=self.power_w[states])

    def parameters(self) -> tuple[()]:
        return ()


def score_of(rate_hz, power_w, cap_w: float | None = CAP_W, objective=None) -> Score:
    fit = Known(np.array(rate_hz, dtype=float), np.array(power_w, dtype=float))
    return Score(fit, objective or energy(), () if cap_w is None else (PowerCap(cap_w),), Situation())


@st.composite
def problems(draw: st.DrawFn) -> tuple[KnobSpace, Score, int]:
    """A space with holes, few different numbers (hence many ties), some of them insane, and a present start."""
    knobs: list[Knob] = []
    for number in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 4))
        kind = draw(st.sampled_from([KnobKind.COUNT, KnobKind.CATEGORY]))
        levels = tuple(range(1, count + 1)) if kind is KnobKind.COUNT else tuple("abcd"[:count])
        knobs.append(Knob(name=f"d{number}_n", levels=levels, kind=kind))
    size = int(np.prod([len(knob.levels) for knob in knobs]))
    present = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    start = draw(st.integers(0, size - 1))
    present[start] = True
    numbers = st.sampled_from([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 1.0, 2.0, 0.0, -1.0, float("nan")])
    rate_hz, power_w = (draw(st.lists(numbers, min_size=size, max_size=size)) for _ in range(2))
    return KnobSpace(knobs, present), score_of(rate_hz, power_w), start


def one(score: Score, state: int) -> tuple[float, float]:
    """(cost, violation) of one state."""
    scored = score(np.array([state]))
    return float(scored.cost[0]), float(scored.violation[0])


def algorithm_1(space: KnobSpace, score: Score, start: int) -> int:
    """The paper's listing, line by line; costs instead of scores."""
    best_state = start  # 2
    best_cost = one(score, best_state)[0]  # 3
    for place in product(*(range(count) for count in space.shape)):  # 4-6
        state = int(np.ravel_multi_index(place, space.shape))  # 7
        if not space.present[state]:
            continue
        cost, violation = one(score, state)  # 8
        if cost < best_cost and violation <= 0:  # 9
            best_state, best_cost = state, cost  # 10, 11
    return best_state


def algorithm_2(space: KnobSpace, score: Score, start: int) -> int:
    """The paper's listing with its footnote 5."""
    best_state = start  # 2
    best_cost = one(score, best_state)[0]  # 3
    while True:  # 4
        feasible = [n for n in space.neighbours(best_state).tolist() if one(score, n)[1] <= 0]
        if not feasible:  # invalidState has the minimum score
            break
        state = min(feasible, key=lambda n: one(score, n)[0])  # 5
        cost = one(score, state)[0]  # 6
        if cost < best_cost:  # 7
            best_state, best_cost = state, cost  # 8, 9
        else:
            break  # 11
    return best_state


@given(problems())
def test_exhaustive_search_is_algorithm_1_wherever_the_start_is_feasible(problem) -> None:
    space, score, start = problem
    choice = exhaustive().best(space, score, start)
    if one(score, start)[1] <= 0:
        assert choice.state == algorithm_1(space, score, start)
        assert choice.feasible
        assert choice.cost == one(score, choice.state)[0]


@given(problems())
def test_local_search_is_algorithm_2_wherever_the_start_is_feasible(problem) -> None:
    space, score, start = problem
    choice = local().best(space, score, start)
    if one(score, start)[1] <= 0:
        assert choice.state == algorithm_2(space, score, start)
        assert choice.feasible


@given(problems())
def test_a_feasible_state_is_found_wherever_there_is_one_and_none_is_better(problem) -> None:
    space, score, start = problem
    choice = exhaustive().best(space, score, start)
    every = [one(score, state) for state in space.states.tolist()]
    feasible = [cost for cost, violation in every if violation <= 0]
    assert space.present[choice.state]
    assert choice.evaluated == len(space)
    if feasible:
        assert choice.cost == min(feasible)
    else:
        least = min(violation for _, violation in every)
        assert choice.violation == least
        assert not choice.feasible
        assert choice.cost == min(cost for cost, violation in every if violation == least)
        if least == np.inf:
            assert choice.state == start


@given(problems(), st.sampled_from(["axis", "box"]))
def test_local_search_never_beats_exhaustive_search_and_never_ends_worse_than_it_started(problem, reach: str) -> None:
    space, score, start = problem
    choice, best = local(reach=reach).best(space, score, start), exhaustive().best(space, score, start)
    before = one(score, start)
    assert (best.violation, best.cost) <= (choice.violation, choice.cost) <= (before[1], before[0])
    assert space.present[choice.state]


@given(problems(), st.sampled_from(["axis", "box"]))
def test_local_search_ends_within_as_many_moves_as_there_are_states(problem, reach: str) -> None:
    space, score, start = problem
    looks: list[int] = []

    class Counting(Score):
        def __call__(self, states):
            looks.append(len(states))
            return super().__call__(states)

    counting = Counting(score.fit, score.objective, score.constraints, score.now)
    choice = local(reach=reach).best(space, counting, start)
    assert len(looks) - 2 <= len(space)  # the start, one look a move, and the last look in vain
    assert choice.evaluated == sum(looks)


def test_ties_never_loop_and_keep_the_start() -> None:
    space = KnobSpace([Knob(name="a_n", levels=tuple(range(9)), kind=KnobKind.COUNT)])
    score = score_of([1] * 9, [2] * 9)
    for search in (exhaustive(), local(), local(reach="box")):
        assert search.best(space, score, 4).state == 4


def test_of_equals_the_first_in_c_order_wins() -> None:
    space = KnobSpace([Knob(name=f"{name}_n", levels=(1, 2, 3), kind=KnobKind.COUNT) for name in "ab"])
    power_w = [3, 3, 3, 3, 1, 3, 3, 1, 3]
    assert exhaustive().best(space, score_of([1] * 9, power_w), 8).state == 4
    assert exhaustive().best(space, score_of([1] * 9, power_w), 7).state == 7


def test_local_search_sticks_in_a_valley_that_exhaustive_search_sees_beyond() -> None:
    space = KnobSpace([Knob(name="a_n", levels=tuple(range(6)), kind=KnobKind.COUNT)])
    score = score_of([1] * 6, [1, 4, 3, 2, 3, 4])
    assert local().best(space, score, 5).state == 3
    assert exhaustive().best(space, score, 5).state == 0


def test_a_box_also_reaches_states_that_differ_in_several_knobs() -> None:
    space = KnobSpace([Knob(name=f"{name}_n", levels=(1, 2), kind=KnobKind.COUNT) for name in "ab"])
    score = score_of([1] * 4, [1, 3, 3, 2])
    assert local().best(space, score, 3).state == 3
    assert local(reach="box").best(space, score, 3).state == 0


def test_from_an_infeasible_start_local_search_climbs_down_to_a_feasible_state() -> None:
    space = KnobSpace([Knob(name="a_n", levels=tuple(range(5)), kind=KnobKind.COUNT)])
    choice = local().best(space, score_of([1, 2, 3, 4, 5], [3, 4, 6, 8, 10], objective=performance()), 4)
    assert (choice.state, choice.feasible) == (1, True)


def test_when_nothing_is_feasible_the_least_violation_is_chosen_and_flagged() -> None:
    space = KnobSpace([Knob(name="a_n", levels=(1, 2, 3), kind=KnobKind.COUNT)])
    score = score_of([1, 2, 3], [6, 6, 10])
    for search in (exhaustive(), local()):
        choice = search.best(space, score, 2)
        assert choice == Choice(state=1, cost=3, violation=pytest.approx(0.2), evaluated=choice.evaluated)
        assert not choice.feasible


@pytest.mark.parametrize("search", [exhaustive(), local(), local(reach="box")])
def test_when_nothing_can_be_predicted_it_stays_where_it_is_and_says_so(search) -> None:
    space = KnobSpace([Knob(name="a_n", levels=(1, 2, 3), kind=KnobKind.COUNT)])
    choice = search.best(space, score_of([np.nan] * 3, [1] * 3), 1)
    assert (choice.state, choice.cost, choice.violation) == (1, np.inf, np.inf)


@pytest.mark.parametrize("search", [exhaustive(), local(), local(reach="box")])
def test_a_start_that_has_left_the_space_is_replaced_and_an_empty_space_is_survived(search) -> None:
    space = KnobSpace([Knob(name="a_n", levels=(1, 2, 3), kind=KnobKind.COUNT)])
    score = score_of([1] * 3, [2] * 3)
    assert search.best(space.without([2]), score, 2).state in (0, 1)
    empty = search.best(space.without([0, 1, 2]), score, 2)
    assert (empty.state, empty.feasible, empty.evaluated) == (2, False, 0)


SPACE = KnobSpace([Knob(name="a_n", levels=(1, 2, 3, 4), kind=KnobKind.COUNT)])


def test_the_initial_state_is_the_maximum_if_that_is_feasible() -> None:
    assert initial_state(SPACE, score_of([1] * 4, [1, 2, 3, 4]), [0, 1]) == 3
    assert initial_state(SPACE, score_of([1] * 4, [9, 9, 9, 9], cap_w=None), []) == 3


def test_else_it_is_the_last_feasible_state_that_was_measured() -> None:
    assert initial_state(SPACE, score_of([1] * 4, [1, 2, 4, 9]), [2, 1, 3]) == 1
    assert initial_state(SPACE.without([1]), score_of([1] * 4, [1, 2, 4, 9]), [2, 1, 3]) == 2


def test_else_it_is_the_state_of_least_predicted_power() -> None:
    assert initial_state(SPACE, score_of([1] * 4, [7, 6, 8, 9]), [2, 3]) == 1
    assert initial_state(SPACE, score_of([1] * 4, [-1, np.nan, 8, 9]), []) == 2
    assert initial_state(SPACE, score_of([1] * 4, [np.nan] * 4), []) == 0


def test_another_reach_is_refused_with_the_two_there_are() -> None:
    with pytest.raises(SettingsError, match=r"reach = 'far' .* axis .* box"):
        local(reach="far")
