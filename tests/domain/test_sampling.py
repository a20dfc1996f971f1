"""The paper's profiling states and stays, by number. Not covered: who waits there and for how long (manager)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.domain.budget import PowerCap
from ceml.domain.contracts import Sampler, Score
from ceml.domain.knobs import Configuration, Knob, KnobKind, KnobSpace
from ceml.domain.response.bilinear import BilinearForm
from ceml.domain.response.paper import paper as paper_model
from ceml.domain.sampling import SEVEN, PaperSampler, paper, seven_states
from ceml.domain.values import Observation, Situation, Stay
from ceml.errors import SettingsError
from ceml.plugins.energy import energy
from ceml.plugins.performance import performance

# C2: the paper's 540 states of the Jetson TX2, MHz
CPU = (806.4, 960, 1113.6, 1267.2, 1420.8, 1574.4, 1728, 1881.6, 2035.2)
GPU = (420.75, 522.75, 624.75, 726.75, 854.25, 930.75, 1032.75, 1122, 1236.75, 1300.5)
OLD_GPU = (*GPU[:4], 828.75, *GPU[5:])
MEM = (665.6, 800, 1062.4, 1331.2, 1600, 1866)
# C15 in GHz, as printed in the paper
PRINTED = (
    (2, 1.3, 1.87),
    (1.42, 0.83, 0.67),
    (1.42, 0.42, 1.33),
    (0.81, 0.83, 1.33),
    (0.81, 0.42, 1.06),
    (0.81, 0.62, 0.67),
    (1.11, 0.42, 0.67),
)


def clocks(name: str, mhz: tuple[float, ...]) -> Knob:
    return Knob(name=name, levels=tuple(round(level * 1e6, 3) for level in mhz))


def tx2(gpu: tuple[float, ...] = GPU) -> KnobSpace:
    return KnobSpace([clocks("cpu_hz", CPU), clocks("gpu_hz", gpu), clocks("mem_hz", MEM)])


def ghz(configuration: Configuration) -> list[float]:
    return [float(configuration[name]) / 1e9 for name in ("cpu_hz", "gpu_hz", "mem_hz")]


def seen(configuration: Configuration) -> Observation:
    return Observation(configuration=configuration, start_s=0, end_s=1, beats=1, steps=1, rate_hz=1.0)


def ask(sampler: PaperSampler, space: KnobSpace, done: list[Observation], total: float | None = None) -> Stay | None:
    fit = paper_model().fit(space, done)
    return sampler.next(space, fit, Score(fit, energy(), (), Situation()), done, total, total)


def walk(space: KnobSpace) -> list[int]:
    done: list[Observation] = []
    states: list[int] = []
    while (stay := ask(paper(), space, done)) is not None:
        states.append(stay.state)
        done.append(seen(space.configuration(stay.state)))
    return states


@pytest.mark.parametrize("gpu", [GPU, OLD_GPU])
def test_on_the_tx2_the_seven_states_are_those_of_the_paper_in_its_order(gpu: tuple[float, ...]) -> None:
    space = tx2(gpu)
    assert len(space) == 540
    states = walk(space)
    assert len(states) == 7
    for state, printed in zip(states, PRINTED, strict=True):
        assert np.abs(np.array(ghz(space.configuration(state))) - printed).max() <= 0.036  # 2.0352 is printed as 2
    exact = [[round(value, 4) for value in ghz(space.configuration(state))] for state in states]
    middle = round(gpu[4] / 1e3, 4)
    assert exact == [
        [2.0352, 1.3005, 1.866],
        [1.4208, middle, 0.6656],
        [1.4208, 0.4208, 1.3312],
        [0.8064, middle, 1.3312],
        [0.8064, 0.4208, 1.0624],
        [0.8064, 0.6248, 0.6656],
        [1.1136, 0.4208, 0.6656],
    ]
    assert states[0] == space.max_state


def test_the_seven_states_tell_the_seven_unknowns_apart() -> None:
    space = tx2()
    form = BilinearForm(space)
    columns = form.seen([space.configuration(state) for state in seven_states(space)])
    assert columns.shape == (7, 7)
    assert np.linalg.matrix_rank(columns) == 7
    assert np.linalg.cond(columns) == pytest.approx(105, rel=0.01)
    assert np.linalg.cond(columns * form.scale[:, None]) == pytest.approx(94, rel=0.01)  # in GHz, ceml.md 1.7


@pytest.mark.parametrize(("sizes", "step"), [((14, 13, 4), 1.0), ((9, 10, 6), 0.5), ((3, 3, 3), 1.0)])
def test_on_other_boards_the_nearest_levels_are_taken_by_share_of_the_maximum(sizes, step: float) -> None:
    names = ("cpu_hz", "gpu_hz", "mem_hz")
    space = KnobSpace([clocks(n, tuple(100 + step * 100 * i for i in range(s))) for n, s in zip(names, sizes)])  # noqa: B905
    for state, wanted in zip(seven_states(space), SEVEN):  # noqa: B905 - small spaces have fewer
        shares = space.shares(np.array([state]))[0]
        if len(seven_states(space)) == 7:
            for axis, name in enumerate(names):
                levels = space.knobs[axis].numbers / space.knobs[axis].numbers.max()
                assert abs(shares[axis] - wanted[name]) == np.abs(levels - wanted[name]).min()


def test_the_seven_are_shares_and_the_first_is_all_at_maximum() -> None:
    assert len(SEVEN) == 7
    assert set(SEVEN[0].values()) == {1.0}
    assert all(0 < share <= 1 for state in SEVEN for share in state.values())


def test_states_that_fall_together_on_a_coarse_board_are_measured_once() -> None:
    space = KnobSpace([clocks("cpu_hz", (1000, 2000)), clocks("gpu_hz", (500, 1000))])
    states = walk(space)
    assert len(states) == len(set(states)) <= 4


def test_other_knobs_stay_at_their_maximum_and_missing_ones_are_not_missed() -> None:
    cores = Knob(name="cpu_cores", levels=(2, 4, 6), kind=KnobKind.COUNT)
    space = KnobSpace([cores, clocks("gpu_hz", GPU)])
    assert {space.configuration(state)["cpu_cores"] for state in walk(space)} == {6}
    assert walk(KnobSpace([cores])) == [2]


def test_a_state_out_of_reach_is_replaced_by_the_nearest_that_is_left() -> None:
    space = tx2()
    third = seven_states(space)[2]
    left = space.without([third])
    plan = seven_states(left)
    assert plan[:2] + plan[3:] == seven_states(space)[:2] + seven_states(space)[3:]
    distance = np.abs(left.all_shares - space.shares(np.array([third]))).sum(axis=1)
    assert plan[2] == left.states[distance.argmin()]
    done = [seen(space.configuration(state)) for state in plan[:2]]
    stay = ask(paper(), left, done)
    assert stay is not None
    assert stay.state == plan[2]


def test_the_order_of_measurements_does_not_matter_and_other_configurations_do_not_count() -> None:
    space = tx2()
    plan = seven_states(space)
    done = [seen(space.configuration(state)) for state in (plan[3], plan[0], 17)]
    stay = ask(paper(), space, done)
    assert stay is not None
    assert stay.state == plan[1]
    assert "2 of 7" in stay.why


def test_in_a_space_with_no_state_left_there_is_nothing_to_try() -> None:
    space = tx2()
    assert ask(paper(), space.without(range(540)), []) is None


# C7 and C16: the paper's step totals and 1 % of them
@pytest.mark.parametrize(
    ("total", "steps"),
    [(4000, 40), (2000, 20), (1000, 10), (30000, 300), (10136, 102), (32550, 326), (700, 7), (10, 1)],
)
def test_a_stay_is_one_percent_of_all_steps_rounded_up_and_at_least_three_beats(total: float, steps: float) -> None:
    stay = ask(paper(), tx2(), [], total)
    assert stay is not None
    assert (stay.steps, stay.beats, stay.power_samples, stay.commits) == (steps, 3, 5, False)


@given(st.floats(1, 1e9), st.floats(1e-6, 1))
def test_a_stay_never_takes_less_than_its_share(total: float, share: float) -> None:
    stay = ask(paper(share=share), tx2(), [], total)
    assert stay is not None
    assert share * total - 1e-6 <= stay.steps < share * total + 1


@pytest.mark.parametrize("total", [None, 0.0, -5.0, float("nan"), float("inf")])
def test_without_a_total_that_makes_sense_a_stay_is_a_number_of_beats(total: float | None) -> None:
    stay = ask(paper(default_beats=12), tx2(), [], total)
    assert stay is not None
    assert (stay.beats, stay.steps) == (12, 0)


def test_a_number_of_beats_that_was_asked_for_wins_over_the_share() -> None:
    stay = ask(paper(beats=4, power_samples=1), tx2(), [], 100_000)
    assert stay is not None
    assert (stay.beats, stay.steps, stay.power_samples) == (4, 0, 1)


@pytest.mark.parametrize(
    "options", [{"beats": 0}, {"default_beats": 0}, {"share": 0.0}, {"share": 1.5}, {"power_samples": -1}]
)
def test_sampler_options_out_of_range_are_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        paper(**options)


def test_the_sampler_keeps_the_contract() -> None:
    assert isinstance(paper(), Sampler)


def under(cap_w: float, power_w, space: KnobSpace) -> list[Observation]:
    """Go through the plan under a cap; what breaks it is seen without a beat, and has left the space, as of a guard."""
    done: list[Observation] = []
    objective = performance()
    limits = (PowerCap(cap_w),)
    while True:
        fit = paper_model().fit(space, done)
        stay = paper().next(space, fit, Score(fit, objective, limits, Situation()), done, None, None)
        if stay is None:
            return done
        here = space.configuration(stay.state)
        assert all(each.configuration != here for each in done)
        watts = power_w(here)
        kept = watts <= cap_w
        done.append(replace(seen(here), rate_hz=sum(ghz(here)) if kept else float("nan"), power_w=watts))
        if not kept:
            space = space.without([stay.state])


@given(st.floats(0.2, 0.9))
@settings(deadline=None, max_examples=30)
def test_under_a_cap_what_breaks_it_is_replaced_until_the_model_has_its_seven_states(share: float) -> None:
    def power_w(configuration: Configuration) -> float:
        cpu, gpu, memory = ghz(configuration)
        return 1.0 + 0.4 * cpu**2 + 2.0 * gpu**2 + 0.6 * memory

    space = tx2()
    lowest_w, highest_w = (power_w(space.configuration(state)) for state in (seven_states(space)[-1], space.max_state))
    cap_w = lowest_w + share * (highest_w - lowest_w)
    done = under(cap_w, power_w, space)
    kept = [each.configuration for each in done if each.power_w <= cap_w]
    broken = [ghz(each.configuration) for each in done if each.power_w > cap_w]
    assert len(set(kept)) == 7
    assert len(broken) <= 7
    for number, each in enumerate(broken):
        assert not any(all(a >= b for a, b in zip(each, other, strict=True)) for other in broken[:number])


def test_where_even_the_lowest_profiling_state_breaks_the_cap_hardly_anything_is_tried() -> None:
    assert len(under(1.0, lambda configuration: 2.0 + sum(ghz(configuration)), tx2())) <= 5


def test_what_another_run_measured_at_levels_that_are_not_here_replaces_nothing() -> None:
    space = tx2()
    strange = replace(seen(Configuration({"cpu_hz": 5e9, "gpu_hz": 1e9, "mem_hz": 1e9})), power_w=50.0)
    less = replace(seen(Configuration({"cpu_hz": 8.064e8})), power_w=50.0)
    fit = paper_model().fit(space, [])
    score = Score(fit, performance(), (PowerCap(8.0),), Situation())
    one, other = (paper().next(space, fit, score, done, None, None) for done in ([], [strange, less]))
    assert repr(one) == repr(other)  # NaN equals itself only there
