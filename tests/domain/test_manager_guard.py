"""The manager under guard: limits that are broken in fact, whatever the models said.

Not covered: when the guard fires (test_guard.py), figures of whole runs in noise (tests/bench/test_caps.py).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import exp

import pytest
from test_manager import SPACE, Script, World, mind, power_w, rate_hz, trial

from ceml.domain.events import (
    AppJoined,
    BudgetChanged,
    Decided,
    GuardStepped,
    Heartbeat,
    KnobOverwritten,
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

AMBIENT_C = 25.0
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


@dataclass
class Warm(Hot):
    """A world that power warms: one thermal resistance, one time constant."""

    rise_per_watt: float = 5.0  # C/W
    tau_s: float = 20.0
    degrees: float = AMBIENT_C
    hottest: float = AMBIENT_C
    sampled_s: float = 0.0
    outside: float = 0.0  # C, of what stands beside the board
    heated: int = 0  # changes to more power while it was too hot
    cap_c: float = 60.0

    def _apply(self, wanted: Configuration) -> None:
        self.heated += self.degrees > self.cap_c and power_w(wanted) > power_w(self.effective)
        super()._apply(wanted)

    def give(self, event) -> None:
        if isinstance(event, Sampled):
            steady = AMBIENT_C + self.outside + self.rise_per_watt * event.rails_w["total"]
            past_s = event.at_s - self.sampled_s
            self.degrees = steady + (self.degrees - steady) * exp(-past_s / self.tau_s)
            self.sampled_s, self.hottest = event.at_s, max(self.hottest, self.degrees)
            event = replace(event, temperatures_c={"gpu": self.degrees, "cpu": 30.0})
        super().give(event)

    def steady(self, configuration: Configuration) -> float:
        """Where the temperature goes there."""
        return AMBIENT_C + self.rise_per_watt * self.draws(configuration)


@dataclass
class Meddled(Hot):
    """A world in which somebody else turns knobs: the machine is looked at before the next change."""

    theirs: Configuration | None = None

    def draws(self, configuration: Configuration) -> float:
        return super().draws(self.theirs or configuration)

    def _apply(self, wanted: Configuration) -> None:
        theirs, self.theirs = self.theirs, None
        answers: list = []
        for knob in () if theirs is None else ("cpu_hz", "gpu_hz"):
            at_s, ours, found = self.at_s, self.effective[knob], theirs[knob]
            seen = KnobOverwritten(at_s=at_s, knob=knob, wanted=ours, found=found, since_s=at_s - 0.9, times=1)
            answers += self.manager.on(seen)
        super()._apply(wanted)
        for part in answers:
            self.said.append(part)
            if isinstance(part, Try | Use):
                super()._apply(part.configuration)


@dataclass
class Rough(Hot):
    """A world whose sensor scatters by the usual 2.5 %."""

    noise: float = 0.025

    def draws(self, configuration: Configuration) -> float:
        self.noise = -self.noise
        return (1.0 + self.noise) * super().draws(configuration)


def hot(limits: Limits, *, total: float | None = 2000, kind: type[Hot] = Hot, **changes) -> Hot:
    joined = AppJoined(at_s=0.0, app="a", total_work=total)
    parts = {"objective": performance(), "model": overlap(), "sampler": improvement(), "exploration_budget": 0.05}
    own = {field.name: changes.pop(field.name) for field in fields(kind) if field.name in changes}
    world = kind(RuntimeManager(joined, SPACE, mind(**{**parts, **changes}), limits), **own)
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


@pytest.mark.parametrize("cap_w", [3.4, 7.0])
def test_a_state_is_not_blamed_for_what_somebody_else_turned(cap_w: float):
    world = settled(Limits(power_cap_w=cap_w), kind=Meddled)
    world.run(30)
    here, known = world.effective, list(world.manager.reasoning.observations)
    assert power_w(here) <= cap_w
    world.theirs = SPACE.configuration(SPACE.max_state)
    for _ in range(4):
        world.at_s += 0.1
        world.give(Sampled(at_s=world.at_s, sensor="ina", rails_w={"total": world.draws(here), "gpu": 1.0}))
    assert world.theirs is None, "the guard stepped, or asked for the lowest state again"
    assert world.effective == here == world.manager.decided.configuration
    assert world.manager.decided.feasible
    assert not len(world.manager.reasoning.violators)
    assert not world.heard(PhaseChanged)
    assert {seen.configuration for seen in known} <= {
        seen.configuration for seen in world.manager.reasoning.observations
    }
    world.hotter = 1.3
    world.run(10)
    assert len(world.manager.reasoning.violators), "this time nobody turned anything"


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


def test_trials_that_break_a_cap_are_counted_until_the_cap_is_another():
    world = hot(Limits(power_cap_w=6.0), sampler=Script(trial(0), trial(SPACE.max_state), trial(0), trial(1)))
    counts = []
    for _ in range(12):
        world.run(1)
        counts.append(world.manager.reasoning.situation(world.at_s).excesses)
    assert (counts[0], counts[-1]) == (0, 1)
    assert power_w(SPACE.configuration(SPACE.max_state)) > 6.6
    world.give(BudgetChanged(at_s=world.at_s, limits=Limits(power_cap_w=5.9)))
    assert world.manager.reasoning.situation(world.at_s).excesses == 0


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


@pytest.mark.parametrize(("share", "samples"), [(1.015, 1), (1.003, 2)])
def test_a_first_look_that_seems_to_be_above_the_cap_is_over_at_once_and_no_proof(share: float, samples: int):
    world = hot(Limits(power_cap_w=7.0))
    while len(world.heard(Try)) < 3 or world.effective == LOWEST:
        world.run(1)
    here, tries = world.effective, len(world.heard(Try))
    world.hotter = share * 7.0 / power_w(here)  # within the noise of one sample, so the guard cannot be sure
    world.run(1)
    assert world.heard(GuardStepped) == []
    assert len(world.heard(Try)) + len(world.heard(Use)) > tries
    assert world.manager.reasoning.observations[-1].configuration == here
    assert world.manager.reasoning.observations[-1].power_samples == samples


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


def baked(cap_c: float = 60.0, **changes) -> Warm:
    world = settled(Limits(max_temperature_c=cap_c), total=None, kind=Warm)
    for name, value in changes.items():
        setattr(world, name, value)
    world.run(600)
    return world


@pytest.mark.parametrize("tau_s", [5.0, pytest.param(20.0, marks=pytest.mark.fuzz), 60.0])
@pytest.mark.parametrize("worse", [1.0, pytest.param(1.3, marks=pytest.mark.fuzz), 2.0])
def test_a_board_that_gets_too_hot_is_kept_below_its_cap_by_few_steps(tau_s: float, worse: float):
    world = baked(tau_s=tau_s)
    world.rise_per_watt *= worse  # somebody covers the fan
    world.run(1500)
    steps = world.heard(GuardStepped)
    assert 0 < len(steps) <= 10
    assert {each.limit for each in steps} == {"temperature cap 60 C"}
    assert "C" in steps[-1].why
    world.hottest = 0.0
    world.run(1000)
    assert world.hottest <= 60.5
    best = max(rate_hz(each) for each in map(SPACE.configuration, SPACE.states) if world.steady(each) <= 60.0)
    assert rate_hz(world.effective) >= 0.93 * best


def test_a_board_in_an_oven_is_tried_no_hotter_until_it_has_cooled():
    world = hot(Limits(max_temperature_c=60.0), total=None, kind=Warm, outside=50.0, degrees=AMBIENT_C + 50.0)
    world.run(300)
    assert world.degrees > 60.0
    assert world.heated == 0
    assert world.effective == LOWEST
    assert "C now, above its temperature cap 60 C" in world.heard(Decided)[0].why
    assert "temperature cap 60 C cannot hold" in world.heard(Decided)[-1].why
    world.outside = 0.0
    world.run(1500)
    best = max(rate_hz(each) for each in map(SPACE.configuration, SPACE.states) if world.steady(each) <= 60.0)
    assert rate_hz(world.effective) >= 0.93 * best
    world.outside = 50.0
    world.run(300)
    assert world.degrees > 60.0
    assert world.heated == 0
    assert world.effective == LOWEST


def test_it_is_left_within_two_readings_between_decisions():
    world = baked()
    world.rise_per_watt, before = 2.0 * world.rise_per_watt, len(world.heard(GuardStepped))
    decided, over = world.manager.decided, 0
    while len(world.heard(GuardStepped)) == before:
        here, watts = world.effective, world.draws(world.effective)
        world.at_s += 0.1
        world.give(Sampled(at_s=world.at_s, sensor="ina", rails_w={"total": watts, "gpu": watts / 2}))
        over += world.degrees > 60.0
    stepped = world.heard(GuardStepped)[-1]
    assert over == 2
    assert stepped.found == here == decided.configuration
    assert stepped.measured == pytest.approx(world.degrees, abs=1.0)
    assert power_w(stepped.configuration) < power_w(here)
    assert here in world.manager.reasoning.caution.forbidden


def test_what_was_too_hot_comes_back_by_evidence():
    world = baked()
    cool, before = world.effective, world.rise_per_watt
    world.rise_per_watt = 2.0 * before
    world.run(300)
    assert power_w(world.effective) < 0.7 * power_w(cool)
    world.rise_per_watt = before
    world.run(2500)
    assert world.degrees <= 60.5
    assert rate_hz(world.effective) >= 0.9 * rate_hz(cool)


def test_a_temperature_that_cannot_hold_is_said_and_does_not_flap():
    world = settled(Limits(max_temperature_c=60.0), total=None, kind=Warm)
    world.rise_per_watt = 40.0
    world.run(600)
    assert world.effective == LOWEST
    assert not world.heard(Decided)[-1].feasible
    assert "temperature cap 60 C cannot hold" in world.heard(Decided)[-1].why
    uses = len(world.heard(Use))
    world.run(300)
    assert len(world.heard(Use)) - uses <= 2


def test_without_power_the_lowest_state_is_the_refuge_from_heat():
    world = baked()
    world.give(SensorLost(at_s=world.at_s, sensor="ina", reason="gone"))
    world.manager.reasoning.spent.power_w = float("nan")
    for _ in range(3):
        world.at_s += 1.0
        zones = Sampled(at_s=world.at_s, sensor="zones", rails_w={}, temperatures_c={"gpu": 75.0})
        world.manager.on(replace(zones, temperatures_c={"gpu": 59.0}))
        answer = [*world.manager.on(zones), *world.manager.on(replace(zones, at_s=world.at_s + 0.5))]
        if any(isinstance(part, GuardStepped) for part in answer):
            break
    assert [part.configuration for part in answer if isinstance(part, Use | Try)] == [LOWEST]


# Limits on the run as a whole -----------------------------------------------------------------------------------------


def under_way(limits: Limits, **changes) -> Hot:
    """At step 300 of 2000, in a commitment, and nothing is running short."""
    world = settled(limits, **changes)
    world.run(int(300 - world.manager.reasoning.work_done))
    assert world.manager.phase is Phase.IDLE
    assert not any("will not last" in each.why for each in world.heard(Decided))
    return world


def to_the_end(world: Hot) -> list[Decided]:
    """The decisions on the way to step 2000."""
    before = len(world.heard(Decided))
    world.run(int(2000 - world.manager.reasoning.work_done))
    return world.heard(Decided)[before:]


@pytest.mark.parametrize("turns", [True, False])
@pytest.mark.parametrize("allowance_j", [6400.0, 6800.0])
def test_an_energy_allowance_that_will_not_last_is_planned_for_at_the_next_window(allowance_j: float, turns: bool):
    world = under_way(Limits(energy_allowance_j=allowance_j), turns=turns)
    steps = world.manager._stay.steps
    world.hotter = 1.05
    world.run(10)
    said = world.heard(Decided)[-1].why
    assert said.startswith(f"energy allowance {allowance_j:g} J will not last")
    assert steps > 10  # the commitment alone would have gone on
    assert len(to_the_end(world)) < 25
    assert world.manager.reasoning.spent.energy_j <= 1.001 * allowance_j


def test_a_deadline_that_will_not_be_met_is_planned_for_at_the_next_window():
    world = under_way(Limits(deadline_s=1040.0), objective=mind().objective)
    world.slower = 1.15
    world.run(10)
    assert world.heard(Decided)[-1].why.startswith("deadline 1040 s will not last")
    to_the_end(world)
    assert world.at_s <= 1.005 * 1040.0


def test_an_allowance_that_cannot_last_is_said_and_not_at_each_window_also_by_turns_shorter_than_a_step():
    world = under_way(Limits(energy_allowance_j=6400.0))
    world.hotter = 2.0
    decided = to_the_end(world)
    assert not decided[-1].feasible
    assert len(decided) < 40


def test_a_budget_that_flaps_a_hundred_times_a_second_turns_hardly_anything_and_is_obeyed_when_it_rests():
    world = settled(Limits(power_cap_w=9.0))
    world.run(100)
    turned = len(world.tried)
    for number in range(400):
        world.at_s += 0.01
        world.give(BudgetChanged(at_s=world.at_s, limits=Limits(power_cap_w=5.0 if number % 2 else 9.0)))
        if number % 10 == 9:
            watts = world.draws(world.effective)
            world.give(Sampled(at_s=world.at_s, sensor="ina", rails_w={"total": watts, "gpu": watts / 2}))
            assert watts <= 5.0 * 1.02 or number < 20
    assert len(world.tried) - turned <= 8
    world.give(BudgetChanged(at_s=world.at_s, limits=Limits(power_cap_w=9.0)))
    world.run(200)
    assert 6.0 < world.draws(world.effective) <= 9.0 * 1.02


def test_a_budget_that_flaps_restarts_no_first_trial():
    world = hot(Limits(power_cap_w=7.0))
    for at in range(40):
        world.run(1)
        world.give(BudgetChanged(at_s=world.at_s, limits=Limits(power_cap_w=7.0 + 0.1 * (at % 2))))
    assert world.manager.decided is not None or len({str(part.configuration) for part in world.heard(Try)}) > 3


def test_a_budget_raised_is_searched_at_once_and_soon_after_what_was_never_allowed_before_is_tried():
    world = settled(Limits(power_cap_w=4.5), exploration_budget=0.01)
    world.run(300)
    tries, uses = len(world.heard(Try)), len(world.heard(Use))
    world.give(BudgetChanged(at_s=world.at_s, limits=Limits(power_cap_w=9.0)))
    assert len(world.heard(Try)) == tries, "no profiling"
    assert len(world.heard(Use)) == uses + 1
    world.run(120)
    assert len(world.heard(Try)) > tries
    assert 8.0 < power_w(world.effective) <= 9.0


def test_without_power_no_model_says_what_a_raised_budget_allows():
    world = settled(Limits(power_cap_w=4.5))
    world.run(100)
    measured = {seen.configuration for seen in world.manager.reasoning.observations}
    world.samples = False
    world.give(SensorLost(at_s=world.at_s, sensor="ina", reason="gone"))
    world.give(BudgetChanged(at_s=world.at_s, limits=Limits(power_cap_w=9.0)))
    world.run(100)
    assert world.effective in measured
    assert "power is not measured" in world.manager.decided.why
    world.samples = True
    world.give(SensorRecovered(at_s=world.at_s, sensor="ina"))
    world.run(300)
    assert 6.0 < power_w(world.effective) <= 9.0


def test_without_power_a_cap_below_all_that_was_measured_is_kept_by_the_lowest_state():
    world = settled(Limits())
    world.run(100)
    least_w = min(seen.power_w for seen in world.manager.reasoning.observations)
    assert power_w(LOWEST) < 0.9 * least_w
    world.samples = False
    world.give(SensorLost(at_s=world.at_s, sensor="ina", reason="gone"))
    world.give(BudgetChanged(at_s=world.at_s, limits=Limits(power_cap_w=0.9 * least_w)))
    assert world.effective == LOWEST
    assert "power is not measured any more, so the lowest state" in world.manager.decided.why
    assert world.manager.decided.feasible


@pytest.mark.parametrize("share", [1.015, 1.025])
def test_a_state_that_a_model_alone_chose_and_that_seems_above_the_cap_is_left_at_once_and_chosen_again(share: float):
    world = settled(Limits(power_cap_w=4.5), kind=Rough)
    world.run(300)
    world.give(BudgetChanged(at_s=world.at_s, limits=Limits(power_cap_w=9.0)))
    chosen, uses, world.noise = world.effective, len(world.heard(Use)), 0.0
    assert world.manager.reasoning.belief.samples(chosen) == 0
    world.hotter = share * 9.0 / power_w(chosen)  # the models could not know; within the noise of a sample
    world.run(1)
    assert world.heard(GuardStepped) == []
    assert len(world.heard(Use)) == uses + 1
    assert world.effective != chosen
    assert power_w(world.effective) < power_w(chosen)
    assert world.manager.phase is Phase.IDLE


def test_with_the_temperature_lost_under_its_cap_a_trial_is_broken_off_and_nothing_new_is_tried():
    world = hot(Limits(max_temperature_c=60.0), kind=Warm)
    while len(world.heard(Try)) < 3:
        world.run(1)
    world.give(SensorLost(at_s=world.at_s, sensor="ina", reason="gone"))
    tried = len(world.heard(Try))
    assert "is not measured any more" in world.heard(GuardStepped)[-1].why
    world.run(300)
    assert len(world.heard(Try)) == tried
    assert world.effective in {seen.configuration for seen in world.manager.reasoning.observations} | {LOWEST}
