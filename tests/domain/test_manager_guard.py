"""The manager under guard: limits that are broken in fact, whatever the models said.

Not covered: when the guard fires (test_guard.py), figures of whole runs in noise (tests/bench/test_caps.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from test_manager import SPACE, World, mind, power_w, rate_hz

from ceml.domain.events import (
    AppJoined,
    BudgetChanged,
    Decided,
    GuardStepped,
    Heartbeat,
    PhaseChanged,
    Sampled,
    SensorLost,
    SensorRecovered,
    Try,
    Use,
)
from ceml.domain.improvement import improvement
from ceml.domain.knobs import Configuration
from ceml.domain.manager import Phase, RuntimeManager
from ceml.domain.response.overlap import overlap
from ceml.domain.values import Limits
from ceml.plugins.performance import performance

LOWEST = SPACE.configuration(SPACE.min_state)


@dataclass
class Hot(World):
    """A world whose power may turn out other than any model could know."""

    hotter: float = 1.0

    def run(self, beats: int) -> None:
        for _ in range(beats):
            step_s = self.slower / rate_hz(self.effective)
            begun = self.at_s
            for tenth in range(1, 4):
                if self.samples:
                    watts = self.draws(self.effective)
                    rails_w = {"total": watts, "gpu": watts / 2}
                    self.give(Sampled(at_s=begun + step_s * tenth / 4, sensor="ina", rails_w=rails_w))
            self.at_s = begun + step_s
            self.give(Heartbeat(at_s=self.at_s, app="a"))

    def draws(self, configuration: Configuration) -> float:
        return self.hotter * power_w(configuration)


def hot(limits: Limits, *, total: float | None = 2000, **changes) -> Hot:
    joined = AppJoined(at_s=0.0, app="a", total_work=total)
    parts = {"objective": performance(), "model": overlap(), "sampler": improvement(), "exploration_budget": 0.05}
    world = Hot(RuntimeManager(joined, SPACE, mind(**{**parts, **changes}), limits))
    world.give(joined)
    return world


def settled(limits: Limits, **changes) -> Hot:
    world = hot(limits, **changes)
    for _ in range(200):
        world.run(1)
        if world.heard(Decided) and world.manager.phase is Phase.IDLE:
            return world
    raise AssertionError("never decided")


def until_stepped(world: Hot) -> int:
    """Samples until the guard stepped."""
    before, taken = len(world.heard(GuardStepped)), 0
    for _ in range(100):
        for _ in range(3):
            world.at_s += 0.1
            world.give(
                Sampled(at_s=world.at_s, sensor="ina", rails_w={"total": world.draws(world.effective), "gpu": 1.0})
            )
            taken += 1
            if len(world.heard(GuardStepped)) > before:
                return taken
    raise AssertionError("the guard never stepped")


def test_an_excess_is_left_within_two_samples_for_a_state_measured_below_the_cap():
    world = settled(Limits(power_cap_w=7.0))
    world.run(30)
    here = world.effective
    world.hotter = 1.3
    assert until_stepped(world) <= 2
    stepped = world.heard(GuardStepped)[-1]
    assert (stepped.found, stepped.configuration) == (here, world.effective)
    assert stepped.measured == pytest.approx(world.hotter * power_w(here), rel=0.3)
    assert (stepped.limit, stepped.bound) == ("power cap 7 W", 7.0)
    assert world.draws(world.effective) <= 7.0
    assert world.effective in world.tried[:-1] or world.effective == LOWEST


def test_the_step_comes_before_any_model_is_asked():
    class Unasked:
        def __init__(self) -> None:
            self.inside, self.allowed = overlap(), True

        def fit(self, *args, **options):
            assert self.allowed
            return self.inside.fit(*args, **options)

    model = Unasked()
    world = settled(Limits(power_cap_w=7.0), model=model)
    world.run(30)
    world.hotter, at_s = 1.5, world.at_s
    answer: tuple = ()
    while not any(isinstance(part, GuardStepped) for part in answer):
        at_s += 0.1
        model.allowed = False
        answer = world.manager.on(Sampled(at_s=at_s, sensor="ina", rails_w={"total": 12.0}))
    assert any(isinstance(part, Use) for part in answer)


def test_what_was_left_stays_left_under_this_cap_and_tighter_ones_and_the_model_has_learnt():
    world = settled(Limits(power_cap_w=7.0))
    world.run(30)
    here = world.effective
    world.hotter = 1.3
    until_stepped(world)
    world.run(150)
    assert here not in world.tried[world.tried.index(world.effective) :]
    for cap_w in (6.5, 7.0):
        world.give(BudgetChanged(at_s=world.at_s, limits=Limits(power_cap_w=cap_w)))
        world.run(20)
        assert world.effective != here
        assert world.draws(world.effective) <= cap_w
    assert any(seen.configuration == here and seen.power_w > 7.0 for seen in world.manager.reasoning.observations)
    world.give(BudgetChanged(at_s=world.at_s, limits=Limits(power_cap_w=100.0)))
    assert here in {SPACE.configuration(int(state)) for state in world.manager.reasoning.allowed.states}


@pytest.mark.parametrize("hotter", [1.05, 1.2, 1.4, 2.0])
def test_steps_are_few_and_the_cap_is_kept_in_the_end(hotter: float):
    world = settled(Limits(power_cap_w=7.0))
    world.run(30)
    world.hotter = hotter
    world.run(400)
    assert world.draws(world.effective) <= 7.0 * 1.02
    assert [each.steps for each in world.heard(GuardStepped)] == list(range(1, len(world.heard(GuardStepped)) + 1))
    assert len(world.heard(GuardStepped)) <= 8


def test_a_cap_that_even_the_lowest_state_breaks_is_said_and_does_not_flap():
    world = settled(Limits(power_cap_w=7.0))
    world.run(30)
    world.hotter = 10.0
    world.run(300)
    assert world.effective == LOWEST
    assert not world.heard(Decided)[-1].feasible
    assert "cannot hold" in world.heard(Decided)[-1].why
    assert len(world.heard(GuardStepped)) <= 2
    uses = len(world.heard(Use))
    world.run(200)
    assert len(world.heard(Use)) - uses <= 2


def test_a_trial_over_the_cap_is_broken_off_and_profiling_goes_on():
    world = hot(Limits(power_cap_w=7.0))
    while len(world.heard(Try)) < 3 or world.effective == LOWEST:
        world.run(1)
    assert world.manager.phase is Phase.PROFILING
    world.hotter = 3.0
    assert until_stepped(world) <= 2
    assert isinstance([part for part in world.said if isinstance(part, Try | Use)][-1], Try)
    world.hotter = 1.0
    world.run(100)
    assert world.manager.phase is Phase.IDLE


def test_a_cap_on_a_rail_is_guarded_too():
    world = settled(Limits(rail_caps_w={"gpu": 3.5}))
    world.run(30)
    world.hotter = 1.4
    world.run(60)
    assert world.heard(GuardStepped)[0].limit == "power cap 3.5 W of rail gpu"
    assert world.draws(world.effective) / 2 <= 3.5 * 1.02


def test_without_limits_the_guard_never_steps():
    world = settled(Limits())
    world.hotter = 5.0
    world.run(100)
    assert world.heard(GuardStepped) == []


def test_a_target_that_windows_miss_is_met_again():
    target_hz = 2.0
    world = settled(Limits(target_hz=target_hz), objective=mind().objective)
    world.run(100)
    assert rate_hz(world.effective) >= target_hz * 0.99
    world.slower = 1.1
    world.run(600)
    assert rate_hz(world.effective) / world.slower >= target_hz * 0.99
    assert len(world.heard(GuardStepped)) <= 6


def test_with_the_power_sensor_lost_under_a_cap_a_trial_is_broken_off_and_nothing_new_is_tried():
    world = hot(Limits(power_cap_w=7.0))
    while len(world.heard(Try)) < 4:
        world.run(1)
    known = set(world.tried[:-1]) | {LOWEST}
    world.samples = False
    world.give(SensorLost(at_s=world.at_s, sensor="ina", reason="gone"))
    assert world.effective in known
    assert world.draws(world.effective) <= 7.0
    tried = len(world.heard(Try))
    world.run(300)
    assert len(world.heard(Try)) == tried
    world.samples = True
    world.give(SensorRecovered(at_s=world.at_s, sensor="ina"))
    world.run(300)
    assert world.draws(world.effective) <= 7.0 * 1.02


def test_a_wrong_model_is_corrected_and_nothing_is_forgotten():
    world = settled(Limits(power_cap_w=9.0))
    world.run(60)
    known = len(world.manager.reasoning.observations)
    changed = PhaseChanged(at_s=world.at_s, app="a", signal="rate", before=1.0, after=0.5)
    world.give(replace(changed, cause="model"))
    assert len(world.manager.reasoning.observations) >= known
    while world.manager.phase is not Phase.IDLE:  # what was learnt may be worth another trial
        world.run(1)
    world.give(changed)
    assert world.manager.phase is Phase.PROFILING
    assert world.manager.reasoning.observations == []


def test_what_was_cut_short_before_a_beat_is_not_remembered_for_the_next_run():
    world = settled(Limits(power_cap_w=7.0))
    world.run(30)
    world.hotter = 1.3
    until_stepped(world)
    reasoning = world.manager.reasoning
    assert any(seen.beats == 0 for seen in reasoning.observations)
    remembered = [seen for phase in reasoning.remembered() for seen in phase.observations]
    assert remembered
    assert all(seen.beats > 0 and seen.rate_hz > 0 for seen in remembered)
