"""Laws of the default model and sampler together, and what they make of boards and sensors that misbehave.

Not covered: figures on measured boards (the bench), the manager that carries out the stays, cap guards.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tried import CPU, GPU, MEM, SPACE, AtMost, StepTime, committed, plant, play

from ceml.domain.contracts import Score
from ceml.domain.improvement import improvement
from ceml.domain.knobs import Knob, KnobKind, KnobSpace
from ceml.domain.outlook import look
from ceml.domain.response.overlap import overlap
from ceml.domain.values import Observation, Situation

seeds = st.integers(0, 2**16)
few = settings(max_examples=6, deadline=None)
WORDS = ("off", "on", "auto", "more")
FLAG = Knob(name="turbo_mode", levels=WORDS, kind=KnobKind.CATEGORY)


def configurations(space, stays):
    return [dict(space.configuration(stay.state)) for stay in stays]


def same_run(one, other, space, wide):
    """Whether two runs visit the same configurations, as far as the first space's knobs say."""
    names = [knob.name for knob in space.knobs]
    return configurations(space, one) == [{name: c[name] for name in names} for c in configurations(wide, other)]


def spread(space, truth, wide):
    """The truth of `space` on `wide`, which has the same knobs and others that do nothing."""
    values = np.full((2, len(wide.present)), np.nan)
    for state in wide.states.tolist():
        here = wide.configuration(state)
        source = space.find({knob.name: here[knob.name] for knob in space.knobs})
        if source is not None:
            values[:, state] = truth[0][source], truth[1][source]
    return values[0], values[1]


@few
@given(seeds, st.permutations([0, 1, 2]))
def test_the_order_of_knobs_changes_no_run(seed, order):
    knobs = [CPU, GPU, MEM]
    shuffled = KnobSpace([knobs[at] for at in order])
    truth = plant(SPACE, seed)
    one, _ = play(SPACE, truth)
    other, _ = play(shuffled, spread(SPACE, truth, shuffled))
    assert configurations(SPACE, one)[:3] == configurations(shuffled, other)[:3]
    energy = truth[0] * truth[1]  # rounding may turn a near tie later on; then both choices are equally good
    there = SPACE.find(shuffled.configuration(committed(other)))
    assert energy[there] == pytest.approx(energy[committed(one)], rel=0.01)


@few
@given(seeds, st.permutations(WORDS), st.sampled_from([(), (GPU,), (CPU, GPU, MEM)]))
def test_the_order_of_levels_of_a_knob_without_order_changes_no_run(seed, order, others):
    """Words that nothing was measured of are all alike: they are tried by name, not by place."""
    one, other = (KnobSpace([*others, replace(FLAG, levels=tuple(words))]) for words in (WORDS, order))
    truth = plant(one, seed)
    off = np.random.default_rng(seed).normal(0.0, 0.1, (2, len(WORDS)))
    truth = truth * np.exp(off)[:, one.places(one.states)[:, -1]]
    runs = play(one, truth)[0], play(other, spread(one, truth, other))[0]
    assert configurations(one, runs[0]) == configurations(other, runs[1])


@few
@given(seeds, st.sampled_from(["gpu2_hz", "dla_hz", "a_hz"]), st.floats(0.1, 10.0))
def test_a_twin_of_a_knob_changes_no_run(seed, name, times):
    """Whatever it is called, but for another known device, and for what follows the rest by name (see `in_order`)."""
    product = KnobSpace([CPU, GPU, MEM, Knob(name=name, levels=tuple(times * level for level in GPU.levels))])
    places = product.places(product.states)
    wide = KnobSpace(product.knobs, places[:, 1] == places[:, 3])
    truth = plant(SPACE, seed)
    one, other = play(SPACE, truth)[0], play(wide, spread(SPACE, truth, wide))[0]
    assert same_run(one, other, SPACE, wide)


@few
@given(seeds)
def test_a_knob_with_one_level_changes_no_run(seed):
    wide = KnobSpace([Knob(name="dla_hz", levels=(1e9,)), CPU, GPU, MEM])
    truth = plant(SPACE, seed)
    assert same_run(play(SPACE, truth)[0], play(wide, spread(SPACE, truth, wide))[0], SPACE, wide)


@few
@given(seeds)
def test_a_knob_without_effect_costs_little(seed):
    wide = KnobSpace([CPU, GPU, MEM, Knob(name="vic_hz", levels=(0.1e9, 0.6e9))])
    truth = spread(SPACE, plant(SPACE, seed), wide)
    energy = truth[0] * truth[1]
    stays, _ = play(wide, truth)
    assert energy[committed(stays)] <= 1.25 * np.nanmin(energy)


@few
@given(seeds)
def test_two_knobs_with_the_same_effect_are_no_trouble(seed):
    """Time and watts follow the mean of the two clocks: neither can be told from the other along the diagonal."""
    twins = KnobSpace([GPU, Knob(name="dla_hz", levels=GPU.levels), MEM])
    single = KnobSpace([GPU, MEM])
    seconds, watts = plant(single, seed)
    gpu, dla, mem = np.transpose(twins.places(twins.states))
    at = np.ravel_multi_index(((gpu + dla) // 2, mem), single.shape)
    energy = seconds[at] * watts[at]
    stays, _ = play(twins, (seconds[at], watts[at]))
    assert energy[committed(stays)] <= 1.25 * energy.min()


class WithABan:
    """Energy per step, infinite where the state is forbidden; told apart by position, so in whole spaces only."""

    constraints = ()

    def __init__(self, forbidden):
        self.forbidden = forbidden

    def cost(self, predicted, now):
        cost = predicted.power_w / predicted.rate_hz
        return np.where(self.forbidden, np.inf, cost) if len(cost) == len(self.forbidden) else cost


@settings(few, max_examples=10)
@given(seeds, st.lists(st.integers(0, len(SPACE) - 1), min_size=1, max_size=3, unique=True))
def test_adding_states_that_are_infinitely_bad_changes_no_run(seed, banned):
    """Not even how much is tried elsewhere: what can never be chosen hides nothing and need not be known."""
    truth = plant(SPACE, seed)
    without, _ = play(SPACE.without(banned), truth)
    forbidden, _ = play(SPACE, truth, objective=WithABan(np.isin(SPACE.states, banned)))
    assert [stay.state for stay in forbidden] == [stay.state for stay in without]


@few
@given(seeds, st.floats(0.3, 0.9))
def test_under_a_cap_it_climbs_to_the_edge(seed, share):
    seconds, watts = plant(SPACE, seed)
    cap_w = watts.min() + share * (watts.max() - watts.min())
    stays, _ = play(SPACE, (seconds, watts), objective=StepTime(), constraints=(AtMost(cap_w),), steps=2000.0)
    assert watts[committed(stays)] <= 1.02 * cap_w
    assert seconds[committed(stays)] <= 1.2 * seconds[watts <= cap_w].min()


@few
@given(seeds, st.floats(0.3, 0.9))
def test_a_state_believed_to_break_a_cap_is_not_tried(seed, share):
    seconds, watts = plant(SPACE, seed)
    cap_w = watts.min() + share * (watts.max() - watts.min())
    stays, windows = play(SPACE, (seconds, watts), objective=StepTime(), constraints=(AtMost(cap_w),))
    model = overlap()
    for at, stay in enumerate(stays[1:], 1):
        believed = model.fit(SPACE, windows[:at]).predict(np.array([stay.state])).power_w[0]
        assert believed <= 1.02 * cap_w


@few
@given(seeds, st.floats(0.0, 0.2), st.floats(0.0, 0.2))
def test_more_noise_never_makes_it_surer_of_what_it_measured(seed, cv, more):
    truth = plant(SPACE, seed)
    states = np.random.default_rng(seed).choice(SPACE.states, 5, replace=False)

    def doubt(noise):
        windows = [
            Observation(
                configuration=SPACE.configuration(int(state)),
                start_s=0.0,
                end_s=1.0,
                beats=10,
                steps=10.0,
                rate_hz=1.0 / truth[0][state],
                power_w=truth[1][state],
                power_samples=10,
                step_cv=noise,
                power_cv=noise,
            )
            for state in states.tolist()
        ]
        return overlap().fit(SPACE, windows).predict(states).covariance[:, [0, 1], [0, 1]]

    assert (doubt(cv + more) >= (1.0 - 1e-9) * doubt(cv)).all()


@pytest.mark.parametrize("seen", [lambda _: 0.0, lambda _: -1.0, lambda _: float("nan"), lambda _: float("inf")])
def test_a_sensor_that_talks_nonsense_hands_over_or_optimises_time(seen):
    truth = plant(SPACE, 8)
    windows = play_until_it_hands_over(SPACE, truth, seen)
    assert len(windows) <= 3
    stays, _ = play(SPACE, truth, objective=StepTime(), seen=seen)
    assert truth[0][committed(stays)] <= 1.1 * truth[0].min()


def play_until_it_hands_over(space, truth, seen):
    """Windows of one run for energy, up to where the sampler has no more to say."""
    model, sampler, windows = overlap(), improvement(), []
    for _ in range(20):
        fit = model.fit(space, windows)
        stay = sampler.next(space, fit, Score(fit, EnergyOf(), (), Situation()), windows, 600.0, 600.0)
        if stay is None:
            break
        windows.append(
            Observation(
                configuration=space.configuration(stay.state),
                start_s=0.0,
                end_s=1.0,
                beats=10,
                steps=10.0,
                rate_hz=1.0 / truth[0][stay.state],
                power_w=seen(truth[1][stay.state]),
                power_samples=10,
            )
        )
    return windows


class EnergyOf:
    constraints = ()

    def cost(self, predicted, now):
        return predicted.power_w / predicted.rate_hz


def test_a_sensor_that_reads_a_constant_makes_the_fastest_state_the_best():
    seconds, watts = plant(SPACE, 8)
    stays, _ = play(SPACE, (seconds, watts), seen=lambda _: 5.0)
    assert seconds[committed(stays)] <= 1.1 * seconds.min()


@few
@given(seeds, st.booleans())
def test_two_beats_and_no_scatter_are_enough_for_a_next_state(seed, capped):
    seconds, watts = plant(SPACE, seed)
    state = int(SPACE.states[seed % len(SPACE)])
    window = Observation(
        configuration=SPACE.configuration(state),
        start_s=0.0,
        end_s=seconds[state],
        beats=1,
        steps=1.0,
        rate_hz=1.0 / seconds[state],
        power_w=watts[state],
        power_samples=1,
    )
    fit = overlap().fit(SPACE, [window])
    constraints = (AtMost(watts[state] * 1.1),) if capped else ()
    stay = improvement().next(SPACE, fit, Score(fit, EnergyOf(), constraints, Situation()), [window], 100.0, 100.0)
    assert stay is not None
    assert SPACE.present[stay.state]


@few
@given(seeds)
def test_where_time_rises_with_every_clock_it_leaves_the_high_clocks(seed):
    places = SPACE.places(SPACE.states)
    rng = np.random.default_rng(seed)
    seconds = 0.1 * np.exp(places @ rng.uniform(0.02, 0.1, 3))
    watts = 5.0 * np.exp(places @ rng.uniform(0.02, 0.1, 3))
    stays, _ = play(SPACE, (seconds, watts))
    energy = seconds * watts
    assert energy[committed(stays)] <= 0.5 * (energy.min() + energy[SPACE.max_state])


@few
@given(seeds, st.floats(0.5, 1.5))
def test_what_is_safe_is_fair_and_what_is_not_fair_is_not_sure(seed, share):
    seconds, watts = plant(SPACE, seed)
    _, windows = play(SPACE, (seconds, watts), steps=60.0)
    fit = overlap().fit(SPACE, windows)
    score = Score(fit, EnergyOf(), (AtMost(share * float(np.median(watts))),), Situation())
    tried = np.array(sorted({SPACE.find(window.configuration) for window in windows}))
    outlook = look(SPACE, fit, score, tried, 100.0)
    assert outlook.fair[outlook.safe].all()
    assert (outlook.margin[outlook.safe] > 1.0).all()
    assert (outlook.margin[outlook.fair] >= 0.0).all()
    assert (outlook.waste >= 0.0).all()


@few
@given(seeds, st.floats(0.3, 0.9))
def test_no_state_is_committed_to_under_a_cap_on_fewer_samples_than_make_sure(seed, share):
    seconds, watts = plant(SPACE, seed)
    cap_w = watts.min() + share * (watts.max() - watts.min())
    stays, windows = play(SPACE, (seconds, watts), objective=StepTime(), constraints=(AtMost(cap_w),))
    first = next(at for at, stay in enumerate(stays) if stay.commits)
    there = [window for window in windows[:first] if SPACE.find(window.configuration) == stays[first].state]
    assert sum(window.power_samples for window in there) >= 6 or len(there) > 2


@few
@given(seeds, st.floats(0.1, 0.9))
def test_a_power_sensor_that_gets_lost_under_a_cap_holds_nobody_up(seed, share):
    """The model knows power from before; since then no sample has come."""
    seconds, watts = plant(SPACE, seed)
    cap_w = watts.min() + share * (watts.max() - watts.min())
    _, windows = play(SPACE, (seconds, watts), objective=StepTime(), constraints=(AtMost(cap_w),), steps=24.0)
    model, sampler = overlap(), improvement()
    for _ in range(60):
        fit = model.fit(SPACE, windows)
        score = Score(fit, StepTime(), (AtMost(cap_w),), Situation())
        stay = sampler.next(SPACE, fit, score, windows, 500.0, 600.0)
        if stay.commits:
            break
        windows.append(
            Observation(
                configuration=SPACE.configuration(stay.state),
                start_s=0.0,
                end_s=1.0,
                beats=10,
                steps=10.0,
                rate_hz=1.0 / seconds[stay.state],
            )
        )
    assert stay.commits
