"""What each figure of a run means. Not covered: a whole replay with a controller (tests/commands)."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.bench.score import Figures, captured, failed, pooled, score, truth_of
from ceml.domain.budget import PowerCap
from ceml.domain.knobs import Knob, KnobSpace
from ceml.domain.values import Prediction
from ceml.plant.board import jetson_tx2
from ceml.plant.machine import Machine, Plant

# Hand-made: energy per step 6, 4, 5, absent, 8, 3 J; the max state is the last but for a hole at the corner's left.
SPACE = KnobSpace(
    (Knob(name="cpu_hz", levels=(1e9, 2e9)), Knob(name="gpu_hz", levels=(1e9, 2e9, 3e9))),
    np.array([True, True, True, False, True, True]),
)
STEP_S = np.array([3.0, 1.0, 1.0, math.nan, 1.0, 0.25])
POWER_W = np.array([2.0, 4.0, 5.0, math.nan, 8.0, 12.0])
PLANT = Plant(space=SPACE, workload="x", machine="m", step_s=STEP_S, power_w=POWER_W, rail_w={"total": POWER_W})


@dataclass(frozen=True)
class Formula:
    """An objective by name."""

    name: str
    constraints: tuple = ()

    def cost(self, predicted, now):
        return {
            "energy": predicted.power_w / predicted.rate_hz,
            "rate": -predicted.rate_hz,
        }[self.name]


ENERGY, RATE = Formula("energy"), Formula("rate")


def ran(plant: Plant, *stays: tuple[int, float]) -> Machine:
    """A run that did so many steps in each state, one after the other."""
    machine, now_s = Machine(plant, state=stays[0][0]), 0.0
    for state, steps in stays:
        begin_s = machine.put(state, now_s)
        now_s = begin_s + steps * float(plant.step_s[state])
        machine.work(state, steps, begin_s, now_s)
    return machine


def figures(machine: Machine, *, objective=ENERGY, **options) -> Figures:
    return score(machine, objective=objective, objective_is_energy=objective is ENERGY, **options)


def test_a_run_by_hand():
    got = figures(ran(PLANT, (5, 4.0), (1, 6.0)), commitments=[2, 1])
    assert (got.states, got.states_tried) == (5, 2)
    assert got.chosen == {"cpu_hz": 1e9, "gpu_hz": 2e9}
    assert got.chosen_energy_j == 4.0
    assert got.feasible is True
    assert got.best == {"cpu_hz": 2e9, "gpu_hz": 3e9}
    assert got.best_energy_j == 3.0
    assert got.regret == pytest.approx(4 / 3 - 1)
    assert got.max_state_energy_j == 3.0
    assert got.run_energy_j == pytest.approx(4 * 3 + 6 * 4)
    assert got.saving == pytest.approx(1 - 36 / 30)
    assert got.possible_saving == 0.0
    assert got.run_excess == pytest.approx(36 / 30 - 1)
    assert got.run_s == pytest.approx(7.0)
    assert (got.seconds_above_cap, got.max_over_cap_w, got.energy_above_cap) == (0.0, 0.0, 0.0)
    assert (got.rate_error, got.power_error) == (None, None)


def test_under_a_cap_the_best_is_among_the_allowed_and_a_broken_cap_is_no_success():
    run = ran(PLANT, (1, 1.0))
    got = figures(run, constraints=[PowerCap(5.0)], commitments=[1])
    assert (got.best_energy_j, got.regret, got.feasible) == (4.0, 0.0, True)
    assert figures(run, constraints=[PowerCap(4.95)], commitments=[2]).feasible is True  # by 1 %
    assert figures(run, constraints=[PowerCap(4.8)], commitments=[2]).feasible is False  # by 4 %
    nothing = figures(run, constraints=[PowerCap(1.0)], commitments=[0])
    assert (nothing.best, nothing.best_energy_j, nothing.regret, nothing.possible_saving) == (None, None, None, None)
    assert nothing.feasible is False


def test_a_negative_cost_has_its_regret_the_other_way_round():
    got = figures(ran(PLANT, (1, 1.0)), objective=RATE, constraints=[PowerCap(13.0)], commitments=[1])
    assert got.regret == pytest.approx(4.0 / 1.0 - 1)  # rate(best) / rate(chosen) - 1
    assert got.run_excess is None
    over = figures(ran(PLANT, (1, 1.0)), objective=RATE, constraints=[PowerCap(4.0)], commitments=[5])
    assert (over.regret, over.feasible) == (0.0, False)  # faster than allowed is no merit


def test_without_a_commitment_nothing_was_chosen():
    got = figures(ran(PLANT, (5, 1.0)))
    assert (got.chosen, got.chosen_energy_j, got.feasible, got.regret) == (None, None, None, None)


def test_without_power_every_figure_of_power_is_none_and_the_rest_stands():
    plant = replace(PLANT, power_w=np.full(6, math.nan), rail_w={})
    got = figures(ran(plant, (1, 2.0)), objective=RATE, commitments=[5], caps=[(0.0, 5.0)])
    assert got.regret == 0.0
    assert got.run_s == 2.0
    for name in ("chosen_energy_j", "best_energy_j", "run_energy_j", "saving", "possible_saving", "max_state_energy_j"):
        assert getattr(got, name) is None
    assert (got.seconds_above_cap, got.max_over_cap_w, got.energy_above_cap) == (None, None, None)


def test_time_above_a_cap_counts_while_the_cap_is_in_force_and_beyond_two_percent():
    run = ran(PLANT, (5, 40.0), (1, 10.0))  # 12 W for 10 s, then 4 W for 10 s
    always = figures(run, caps=[(0.0, 5.0)])
    assert always.seconds_above_cap == pytest.approx(10.0)
    assert always.max_over_cap_w == pytest.approx(7.0)
    assert always.energy_above_cap == pytest.approx(7 * 10 / 160)
    changed = figures(run, caps=[(0.0, None), (4.0, 5.0), (6.0, 11.9), (8.0, None)])
    assert changed.seconds_above_cap == pytest.approx(2.0)  # 12 W is above 11.9 W, but not by 2 %
    assert changed.max_over_cap_w == pytest.approx(7.0)
    assert figures(run, caps=[(0.0, 12.0)]).seconds_above_cap == 0.0


class Foretold:
    """A fit that says the truth, times something, and how sure it is."""

    def __init__(self, rate: float, power: float, sd: float | None = None):
        self._rate, self._power, self._sd = rate, power, sd

    def predict(self, states):
        truth = PLANT.truth(states)
        covariance = None if self._sd is None else np.broadcast_to(np.eye(2) * self._sd**2, (len(states), 2, 2))
        return Prediction(
            rate_hz=truth.rate_hz * self._rate, power_w=truth.power_w * self._power, covariance=covariance
        )


def test_errors_are_of_the_model_at_its_first_commitment_over_all_states():
    got = figures(ran(PLANT, (1, 1.0)), fit=Foretold(1.1, 0.8))
    assert (got.rate_error, got.power_error) == (pytest.approx(0.1), pytest.approx(0.2))
    assert figures(ran(PLANT, (1, 1.0)), fit=Foretold(1.0, math.nan)).power_error is None


@pytest.mark.parametrize(("sd", "inside"), [(0.05, (0.0, 0.0)), (0.08, (1.0, 0.0)), (0.2, (1.0, 1.0))])
def test_an_interval_holds_the_truth_within_1645_standard_deviations(sd: float, inside: tuple[float, float]):
    got = figures(ran(PLANT, (1, 1.0)), fit=Foretold(1.1, 0.8, sd))
    assert (got.rate_coverage, got.power_coverage) == inside


def test_who_states_no_doubt_and_what_was_never_measured_has_no_coverage():
    assert figures(ran(PLANT, (1, 1.0)), fit=Foretold(1.1, 0.8)).rate_coverage is None
    got = figures(ran(PLANT, (1, 1.0)), fit=Foretold(1.0, math.nan, 0.1))
    assert (got.rate_coverage, got.power_coverage) == (1.0, None)


PRESENT = [0, 1, 2, 4, 5]
runs = st.lists(st.tuples(st.sampled_from(PRESENT), st.floats(0.1, 50.0)), min_size=1, max_size=8)
watts = st.lists(st.floats(0.5, 50.0), min_size=6, max_size=6)
seconds = st.lists(st.floats(0.01, 5.0), min_size=6, max_size=6)


def plant_of(power_w, step_s) -> Plant:
    hole = SPACE.present
    power, step = np.where(hole, power_w, math.nan), np.where(hole, step_s, math.nan)
    return Plant(space=SPACE, workload="x", machine="m", step_s=step, power_w=power, rail_w={"total": power})


@given(runs, watts, seconds, st.floats(0.01, 100.0))
def test_scaling_watts_scales_joules_and_no_ratio(stays, power_w, step_s, factor):
    one = figures(ran(plant_of(power_w, step_s), *stays), commitments=[stays[-1][0]])
    other = figures(ran(plant_of(np.array(power_w) * factor, step_s), *stays), commitments=[stays[-1][0]])
    for name in ("run_energy_j", "best_energy_j", "chosen_energy_j", "max_state_energy_j"):
        assert getattr(other, name) == pytest.approx(getattr(one, name) * factor)
    for name in ("regret", "run_excess", "saving", "possible_saving"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), abs=1e-9)


@given(runs, watts, seconds)
def test_the_energy_of_a_run_is_the_sum_over_its_parts(stays, power_w, step_s):
    plant = plant_of(power_w, step_s)
    whole = figures(ran(plant, *stays)).run_energy_j
    assert whole == pytest.approx(sum(figures(ran(plant, stay)).run_energy_j for stay in stays))


@given(runs, watts, seconds, st.sampled_from(["energy", "rate"]), st.floats(0.5, 60.0))
def test_regret_is_never_negative_and_none_is_better_than_the_best(stays, power_w, step_s, name, cap_w):
    machine = ran(plant_of(power_w, step_s), *stays)
    options = {"objective": Formula(name), "objective_is_energy": name == "energy", "constraints": [PowerCap(cap_w)]}
    got = score(machine, commitments=[stays[-1][0]], **options)
    assert got.regret is None or got.regret >= 0.0
    if got.best is not None:
        assert score(machine, commitments=[SPACE.find(got.best)], **options).regret == 0.0
        assert score(machine, commitments=[SPACE.find(got.best)], **options).feasible is True


@given(watts, seconds, st.floats(1.0, 1000.0))
def test_a_run_in_the_best_state_from_start_to_end_has_no_excess(power_w, step_s, steps):
    plant = plant_of(power_w, step_s)
    best = int(np.nanargmin(plant.power_w * plant.step_s))
    got = figures(ran(plant, (best, steps)), commitments=[best])
    assert got.run_excess == pytest.approx(0.0, abs=1e-12)
    assert got.saving == pytest.approx(got.possible_saving)
    assert got.states_tried == 1


@given(runs, watts, seconds)
def test_no_whole_run_beats_the_best_state(stays, power_w, step_s):
    assert figures(ran(plant_of(power_w, step_s), *stays)).run_excess >= -1e-12


def test_the_best_state_is_nothing_above_itself_and_saves_what_can_be_saved():
    plant = jetson_tx2("lstm")
    truth = truth_of(plant, plant.space.configuration(plant.space.max_state))
    assert truth is not None
    assert truth.saving == 0.0
    assert truth.excess == pytest.approx(truth.max_state_energy_j / truth.best_energy_j - 1.0)
    best = truth_of(plant, truth.best)
    assert best is not None
    assert best.excess == 0.0
    assert best.saving == pytest.approx(1.0 - best.best_energy_j / best.max_state_energy_j)
    assert truth_of(plant, {"cpu_hz": 1.0}) is None


ratios = st.lists(st.none() | st.floats(0, 1e3), max_size=30)


@given(ratios, st.integers(1, 4))
def test_pooling_knows_no_order_and_a_grid_counted_again_changes_no_median(numbers, times):
    got = pooled(numbers)
    known = sorted(number for number in numbers if number is not None)
    if not known:
        assert got is None
        return
    assert got == pooled(reversed(numbers))
    assert got.runs == len(known)
    assert known[0] <= got.median <= got.p95 <= known[-1]
    assert pooled(numbers * (2 * times - 1)).median == pytest.approx(got.median)


def test_pooled_figures_by_hand():
    assert pooled([0.0, 1.0, 2.0, 3.0, None]) == (4, 1.5, pytest.approx(2.85))


def test_the_share_captured_is_over_all_runs_and_counts_what_each_could_save():
    plant = plant_of([2.0, 4.0, 5.0, 1.0, 8.0, 12.0], [3.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # J: 6, 4, 5, absent, 8, max 12
    best, fair, none = (figures(ran(plant, (1, 1.0)), commitments=commits) for commits in ([1], [4], []))
    assert captured([best]) == pytest.approx(1.0)
    assert captured([best, fair]) == pytest.approx((8 / 12 + 4 / 12) / (8 / 12 + 8 / 12))
    assert captured([best, none]) == captured([best])
    assert captured([none]) is None
    assert (
        captured([figures(ran(PLANT, (1, 1.0)), commitments=[5])]) is None
    )  # the maximum is the best: nothing to save
    assert [failed(run) for run in (best, none)] == [False, True]
