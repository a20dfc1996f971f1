"""RuntimeManager: the paper's loop as a state machine, driven by a little world that answers every intent.

Not covered here: models, searches and samplers themselves (their own tests), real time and devices (tests/control).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest

from ceml.domain.events import (
    AppJoined,
    AppLeft,
    BudgetChanged,
    ConfigurationApplied,
    ConfigurationRefused,
    ConfigurationWithheld,
    Decided,
    Heartbeat,
    ModelFitted,
    PhaseChanged,
    Release,
    Sampled,
    SensorLost,
    Throttled,
    Try,
    Use,
    WindowClosed,
)
from ceml.domain.improvement import improvement
from ceml.domain.knobs import Configuration, Knob, KnobSpace
from ceml.domain.manager import Phase, RuntimeManager
from ceml.domain.mind import Mind
from ceml.domain.response.overlap import overlap
from ceml.domain.response.paper import paper as paper_model
from ceml.domain.sampling import paper as paper_sampler
from ceml.domain.sampling import seven_states
from ceml.domain.search import exhaustive
from ceml.domain.values import FitStatus, Limits, Observation, Stay
from ceml.errors import SettingsError
from ceml.plugins.energy import energy
from ceml.plugins.performance import performance

CPU = tuple(806.4e6 + 153.6e6 * i for i in range(9))
GPU = tuple(mhz * 1e6 for mhz in (420.75, 522.75, 624.75, 726.75, 854.25, 930.75, 1032.75, 1122, 1236.75, 1300.5))
MEM = tuple(mhz * 1e6 for mhz in (665.6, 800, 1062.4, 1331.2, 1600, 1866))
SPACE = KnobSpace(Knob(name=n, levels=v) for n, v in (("cpu_hz", CPU), ("gpu_hz", GPU), ("mem_hz", MEM)))


def ghz(configuration: Configuration) -> tuple[float, float, float]:
    return tuple(float(configuration[k]) / 1e9 for k in ("cpu_hz", "gpu_hz", "mem_hz"))  # type: ignore[return-value]


def rate_hz(configuration: Configuration) -> float:
    """Of the paper's own form, so that its model is exact."""
    c, g, m = ghz(configuration)
    return 0.2 + 0.1 * c + 1.1 * g + 0.2 * m + 0.4 * g * m


def power_w(configuration: Configuration) -> float:
    c, g, m = ghz(configuration)
    return 1.0 + 0.8 * c + 2.0 * g + 0.5 * m + 1.5 * g * m + 0.3 * c * g


@dataclass
class World:
    """Applies what the manager wants, lets the program beat and the sensor read, and keeps what was said."""

    manager: RuntimeManager
    at_s: float = 0.0
    effective: Configuration = field(default_factory=lambda: SPACE.configuration(SPACE.max_state))
    said: list = field(default_factory=list)
    tried: list[Configuration] = field(default_factory=list)
    unreachable: set[Configuration] = field(default_factory=set)
    clamped: dict[Configuration, Configuration] = field(default_factory=dict)
    dry: bool = False
    slower: float = 1.0
    samples: bool = True

    def give(self, event) -> None:
        for part in self.manager.on(event):
            self.said.append(part)
            if isinstance(part, Try | Use):
                self._apply(part.configuration)

    def _apply(self, wanted: Configuration) -> None:
        if self.dry:
            return self.give(ConfigurationWithheld(at_s=self.at_s, requested=wanted, effective=self.effective, why=""))
        if wanted in self.unreachable:
            return self.give(ConfigurationRefused(at_s=self.at_s, requested=wanted, knob="gpu_hz", reason="no"))
        self.effective = self.clamped.get(wanted, wanted)
        self.tried.append(self.effective)
        return self.give(
            ConfigurationApplied(
                at_s=self.at_s,
                requested=wanted,
                effective=self.effective,
                in_force_s=self.at_s + 0.008,
                took_s=0.0,
                why="",
            )
        )

    def run(self, beats: int) -> None:
        for _ in range(beats):
            step_s = self.slower / rate_hz(self.effective)
            for tenth in range(1, 4):
                if self.samples:
                    at_s = self.at_s + step_s * tenth / 4
                    self.give(Sampled(at_s=at_s, sensor="ina", rails_w={"total": power_w(self.effective)}))
            self.at_s += step_s
            self.give(Heartbeat(at_s=self.at_s, app="a"))

    def heard(self, kind: type) -> list:
        return [part for part in self.said if isinstance(part, kind)]


def mind(**changes) -> Mind:
    parts = {
        "objective": energy(),
        "model": paper_model(),
        "sampler": paper_sampler(beats=4, power_samples=2),
        "search": exhaustive(),
        "total_rails": ("total",),
        "power_sensors": frozenset({"ina"}),
    }
    return Mind(**{**parts, **changes})  # type: ignore[arg-type]


def world(*, cap_w: float | None = None, total: float | None = None, **changes) -> World:
    joined = AppJoined(at_s=0.0, app="a", total_work=total)
    w = World(RuntimeManager(joined, SPACE, mind(**changes), Limits(power_cap_w=cap_w)))
    w.give(joined)
    return w


def cheapest(cap_w: float = np.inf, cost=lambda c: power_w(c) / rate_hz(c)) -> Configuration:
    states = [SPACE.configuration(s) for s in SPACE.states]
    return min((c for c in states if power_w(c) <= cap_w), key=cost)


def test_c15_profiles_the_seven_states_in_order_then_goes_idle_in_the_best_state() -> None:
    w = world()
    w.run(60)
    assert w.tried[:7] == [SPACE.configuration(s) for s in seven_states(SPACE)]
    assert len(w.tried) == 8
    assert w.manager.phase is Phase.IDLE
    assert w.effective == cheapest()
    (decided,) = w.heard(Decided)
    assert decided.feasible
    assert decided.rate_hz == pytest.approx(rate_hz(w.effective))
    assert decided.power_w == pytest.approx(power_w(w.effective))
    assert decided.evaluated == 540


def test_c16_each_state_is_held_for_its_share_of_the_total_work() -> None:
    w = world(total=1000, sampler=paper_sampler(share=0.01, power_samples=0))
    w.run(7 * 11 + 20)
    windows = [said.observation for said in w.heard(WindowClosed) if said.phase == "profiling"]
    assert [seen.steps for seen in windows] == [10.0] * 7


def test_observations_hold_exactly_what_was_in_force() -> None:
    w = world()
    w.run(60)
    for said in w.heard(WindowClosed):
        seen = said.observation
        assert seen.rate_hz == pytest.approx(rate_hz(seen.configuration))
        assert seen.power_w == pytest.approx(power_w(seen.configuration))


def test_c22_a_budget_change_searches_at_once_and_never_profiles_again() -> None:
    w = world(objective=performance(), cap_w=100.0)
    w.run(60)
    assert w.effective == SPACE.configuration(SPACE.max_state)
    w.give(BudgetChanged(at_s=w.at_s, limits=Limits(power_cap_w=5.0)))
    assert w.effective == cheapest(5.0, lambda c: -rate_hz(c))
    w.give(BudgetChanged(at_s=w.at_s, limits=Limits()))
    assert w.effective == SPACE.configuration(SPACE.max_state)
    w.run(20)
    assert len(w.heard(Try)) == 7


def test_an_infeasible_budget_is_said_aloud_and_the_least_violation_chosen() -> None:
    w = world(cap_w=0.5)
    w.run(60)
    (decided,) = w.heard(Decided)
    assert not decided.feasible
    assert "power cap 0.5 W cannot hold" in decided.why
    assert w.effective == min((SPACE.configuration(s) for s in SPACE.states), key=power_w)


def test_c21_a_phase_change_profiles_again_from_the_start() -> None:
    w = world()
    w.run(60)
    w.slower = 2.0
    w.give(PhaseChanged(at_s=w.at_s, app="a", signal="rate", before=1.0, after=0.5))
    assert w.manager.phase is Phase.PROFILING
    assert w.manager.reasoning.observations == []
    w.run(60)
    assert len(w.heard(Try)) == 14, "the window that asks whether the old phase goes on is one of the seven"
    assert w.manager.phase is Phase.IDLE


def test_a_phase_that_returns_costs_one_window() -> None:
    w = world()
    w.run(60)
    chosen, tried = w.manager.decided.configuration, len(w.heard(Try))
    w.slower = 2.0
    w.give(PhaseChanged(at_s=w.at_s, app="a", signal="rate", before=1.0, after=0.5))
    w.run(60)
    again = len(w.heard(Try))
    w.slower = 1.0
    w.give(PhaseChanged(at_s=w.at_s, app="a", signal="rate", before=0.5, after=1.0))
    w.run(60)
    assert len(w.heard(Try)) == again + 1
    assert again > tried + 1
    assert w.manager.decided.configuration == chosen


def test_a_false_alarm_costs_one_window() -> None:
    w = world()
    w.run(60)
    chosen, tried = w.manager.decided.configuration, len(w.heard(Try))
    w.give(PhaseChanged(at_s=w.at_s, app="a", signal="rate", before=1.0, after=2.0))
    w.run(60)
    assert len(w.heard(Try)) == tried + 1
    assert w.manager.decided.configuration == chosen


def test_phase_changes_while_profiling_are_nothing_new() -> None:
    w = world()
    w.run(3)
    w.give(PhaseChanged(at_s=w.at_s, app="a", signal="rate", before=1.0, after=2.0))
    w.run(60)
    assert len(w.heard(Try)) == 7


def test_a_refused_state_leaves_the_space_and_its_neighbour_stands_in() -> None:
    w = world()
    second = SPACE.configuration(seven_states(SPACE)[1])
    w.unreachable = {second}
    w.run(80)
    assert w.manager.reasoning.space.find(second) is None
    assert second not in w.tried
    assert len({seen.configuration for seen in w.manager.reasoning.observations}) == 7
    assert w.manager.phase is Phase.IDLE


def test_what_the_machine_says_is_believed_not_what_was_asked() -> None:
    w = world()
    third = SPACE.configuration(seven_states(SPACE)[2])
    instead = Configuration({**third, "mem_hz": MEM[5]})
    w.clamped = {third: instead}
    w.run(90)
    measured = {seen.configuration for seen in w.manager.reasoning.observations}
    assert instead in measured
    assert third not in measured
    assert w.manager.reasoning.space.find(third) is None
    assert w.effective == cheapest()


def test_a_state_off_the_map_is_not_measured() -> None:
    w = world()
    third = SPACE.configuration(seven_states(SPACE)[2])
    w.clamped = {third: Configuration({**third, "mem_hz": 123.0})}
    w.run(90)
    assert all(SPACE.find(seen.configuration) is not None for seen in w.manager.reasoning.observations)
    assert w.manager.phase is Phase.IDLE


def test_when_every_state_is_refused_it_stops_asking() -> None:
    space = KnobSpace([Knob(name="gpu_hz", levels=(1e9, 2e9))])
    joined = AppJoined(at_s=0.0, app="a")
    w = World(RuntimeManager(joined, space, mind()))
    w.unreachable = {space.configuration(s) for s in space.states}
    w.give(joined)
    assert len(w.heard(Try)) == 2
    assert len(w.manager.reasoning.space) == 0
    w.give(BudgetChanged(at_s=1.0, limits=Limits(power_cap_w=3.0)))


def test_leaving_releases_the_machine_and_coming_back_uses_what_is_known() -> None:
    w = world()
    w.run(60)
    chosen = w.effective
    w.give(AppLeft(at_s=w.at_s, app="a", reason="silent"))
    assert isinstance(w.said[-1], Release)
    w.give(Heartbeat(at_s=w.at_s + 1, app="a"))
    w.give(AppJoined(at_s=w.at_s + 2, app="a"))
    assert w.effective == chosen
    assert len(w.heard(Try)) == 7


def test_dying_in_the_middle_of_profiling_waits_for_nothing() -> None:
    w = world()
    w.run(12)
    w.give(AppLeft(at_s=w.at_s, app="a", reason="process gone"))
    before = len(w.said)
    w.run(30)
    assert w.said[before:] == []
    assert w.manager.phase is Phase.RELEASED


def test_a_dry_run_walks_the_plan_then_watches_what_is_in_force_and_decides_nothing() -> None:
    joined = AppJoined(at_s=0.0, app="a")
    w = World(RuntimeManager(joined, SPACE, mind()), dry=True)
    w.give(joined)
    assert len(w.heard(Try)) == 7
    w.run(30)
    assert w.heard(Decided) == w.heard(Use) == w.heard(ModelFitted) == []
    seen = [said.observation for said in w.heard(WindowClosed)]
    assert seen
    assert all(each.configuration == w.effective for each in seen)


def test_where_a_dry_run_decided_nothing_no_prediction_is_held_against_what_is_measured() -> None:
    joined = AppJoined(at_s=0.0, app="a")
    w = World(RuntimeManager(joined, SPACE, mind(model=overlap())), dry=True)  # expects before it measures
    w.give(joined)
    w.run(30)
    windows = w.heard(WindowClosed)
    assert windows
    assert all(np.isnan([said.predicted_rate_hz, said.predicted_power_w]).all() for said in windows)


def test_losing_the_power_sensor_does_not_stop_the_profiling() -> None:
    w = world()
    w.run(6)
    w.samples = False
    w.give(SensorLost(at_s=w.at_s, sensor="ina", reason="gone"))
    w.run(60)
    assert w.manager.phase is Phase.IDLE


def test_models_that_cannot_be_fitted_fall_back_on_the_best_measured_state() -> None:
    w = world(sampler=paper_sampler(beats=2, power_samples=1))
    allowed = {SPACE.configuration(s) for s in seven_states(SPACE)[:3]}
    few = KnobSpace(SPACE.knobs, np.array([SPACE.configuration(s) in allowed for s in range(540)]))
    joined = AppJoined(at_s=0.0, app="a")
    w = World(RuntimeManager(joined, few, mind()))
    w.give(joined)
    w.run(40)
    (decided,) = w.heard(Decided)
    assert w.heard(ModelFitted)[-1].status is not FitStatus.GOOD
    assert decided.configuration == min(allowed, key=lambda c: power_w(c) / rate_hz(c))
    assert "best measured" in decided.why


def test_idle_windows_follow_each_other_without_a_gap_and_carry_the_prediction() -> None:
    w = world()
    w.run(120)
    idle = [said for said in w.heard(WindowClosed) if said.phase == "idle"]
    assert len(idle) > 3
    for one, next_one in itertools.pairwise(idle):
        assert one.observation.end_s == next_one.observation.start_s
    assert idle[0].predicted_rate_hz == pytest.approx(idle[0].observation.rate_hz)
    assert all(said.observation.beats >= 5 and said.observation.power_samples >= 10 for said in idle)


def test_the_same_events_give_the_same_words() -> None:
    one, two = world(), world()
    one.run(80)
    two.run(80)
    for ours, theirs in zip(one.said, two.said, strict=True):
        if not isinstance(ours, ModelFitted):  # it carries the fit itself
            assert repr(ours) == repr(theirs)  # NaN is not equal to itself, but reads the same


class Script:
    """A sampler that does what it is told, and remembers what it was asked with."""

    def __init__(self, *stays: Stay) -> None:
        self.stays = list(stays)
        self.asked: list[list[Observation]] = []

    def next(self, space, fit, score, observations, remaining_work, total_work) -> Stay | None:
        self.asked.append(list(observations))
        return self.stays.pop(0) if len(self.stays) > 1 else self.stays[0]


def trial(state: int) -> Stay:
    return Stay(state=state, steps=3, why="trial")


def commitment(state: int, steps: float) -> Stay:
    return Stay(state=state, steps=steps, commits=True, why="best measured")


def test_a_commitment_is_a_decision_and_the_sampler_is_asked_again_when_it_is_over() -> None:
    sampler = Script(trial(0), commitment(5, 30), trial(9), commitment(9, 1e9))
    w = world(sampler=sampler)
    w.run(120)
    assert [type(said) for said in w.said if isinstance(said, Try | Use)] == [Try, Use, Try, Use]
    assert [said.configuration for said in w.heard(Decided)] == [SPACE.configuration(5), SPACE.configuration(9)]
    assert w.manager.phase is Phase.IDLE
    stayed = sampler.asked[2][-1]
    assert stayed.configuration == SPACE.configuration(5)
    assert stayed.steps >= 30
    assert len(sampler.asked) == 4


def test_going_on_in_the_same_state_is_no_news_and_loses_no_interval() -> None:
    sampler = Script(trial(0), commitment(5, 10), commitment(5, 10), commitment(5, 1e9))
    w = world(sampler=sampler)
    w.run(120)
    assert len(w.heard(Use)) == len(w.heard(Decided)) == 1
    first, second = [seen for seen in sampler.asked[-1] if seen.configuration == SPACE.configuration(5)]
    assert first.end_s == second.start_s
    idle = [said.observation for said in w.heard(WindowClosed) if said.phase == "idle"]
    assert sum(seen.steps for seen in idle) >= first.steps + second.steps


def test_a_budget_change_in_a_commitment_only_searches_and_the_commitment_goes_on_there() -> None:
    sampler = Script(*(trial(state) for state in seven_states(SPACE)), commitment(SPACE.max_state, 40))
    w = world(sampler=sampler, objective=performance(), cap_w=100.0)
    w.run(50)
    tries = len(w.heard(Try))
    assert w.effective == SPACE.configuration(SPACE.max_state)
    w.give(BudgetChanged(at_s=w.at_s, limits=Limits(power_cap_w=5.0)))
    assert w.effective == cheapest(5.0, lambda c: -rate_hz(c))
    asked = len(sampler.asked)
    w.run(20)
    assert len(w.heard(Try)) == tries
    w.run(60)
    assert len(sampler.asked) > asked


def test_a_trial_that_a_new_budget_forbids_is_broken_off_and_another_one_is_not() -> None:
    """Seven states are known, so that the models can tell; then a trial of the hottest state is under way."""
    sampler = Script(*(trial(state) for state in seven_states(SPACE)), trial(SPACE.max_state), trial(SPACE.min_state))
    w = world(sampler=sampler, objective=performance())
    while len(sampler.asked) < 8:
        w.run(1)
    w.manager.reasoning.best(w.at_s, "so that there is a model")
    assert w.effective == SPACE.configuration(SPACE.max_state)
    w.give(BudgetChanged(at_s=w.at_s, limits=Limits(power_cap_w=100.0)))
    assert w.effective == SPACE.configuration(SPACE.max_state)
    w.give(BudgetChanged(at_s=w.at_s, limits=Limits(power_cap_w=5.0)))
    assert w.effective == SPACE.configuration(SPACE.min_state)


def test_what_is_left_of_a_deadline_and_an_allowance_is_known_from_what_was_spent() -> None:
    w = world(total=100.0)
    w.run(20)
    now = w.manager.reasoning.situation(w.at_s)
    assert now.remaining_work == pytest.approx(100.0 - w.manager.reasoning.work_done)
    assert now.spent_s == pytest.approx(w.at_s)
    powers = [said.observation.power_w for said in w.heard(WindowClosed)]
    assert min(powers) * 0.8 < now.spent_j / now.spent_s < max(powers) * 1.2


@pytest.mark.parametrize("below_all", [False, True])
def test_what_cooling_keeps_out_of_reach_is_asked_for_again_when_it_is_over(below_all: bool):
    w = world(objective=performance(), model=overlap(), sampler=improvement(), exploration_budget=0.05)
    cool = SPACE.configuration(SPACE.min_state)
    if below_all:
        cool = Configuration({**cool, "cpu_hz": 1e8})
    states = map(SPACE.configuration, SPACE.states)
    w.clamped = {each: Configuration({**each, "cpu_hz": cool["cpu_hz"]}) for each in states}
    w.give(Throttled(at_s=w.at_s, sensor="heat", reasons=("processors cool",)))
    w.run(100)
    assert w.effective["cpu_hz"] == cool["cpu_hz"]
    assert len(w.tried) < (len(SPACE) if below_all else 30)
    w.clamped = {}
    w.give(Throttled(at_s=w.at_s, sensor="heat", reasons=()))
    w.run(400)
    assert len(w.manager.reasoning.space) == len(SPACE)
    assert w.manager.reasoning.territory.unreachable == set()
    assert rate_hz(w.effective) >= 0.95 * rate_hz(SPACE.configuration(SPACE.max_state))


def test_a_model_whose_fit_is_none_is_told_so():
    model = paper_model()
    fits = iter([model.fit(SPACE, ()), None])

    class Broken:
        def fit(self, *_: object, **__: object) -> object:
            return next(fits)

    w = world(model=Broken())
    with pytest.raises(SettingsError, match="gave None as its fit, which predicts nothing"):
        w.run(30)
