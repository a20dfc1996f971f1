"""Limits as constraints. Not covered: where they come from, and guarding them while running (control)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.budget import (
    Deadline,
    EnergyAllowance,
    MaxSlowdown,
    PowerCap,
    RailCap,
    Target,
    TemperatureCap,
    cannot_hold,
    constraints_of,
    named,
    runs_short,
    unjudged,
)
from ceml.domain.contracts import Constraint
from ceml.domain.knobs import Configuration
from ceml.domain.values import Limits, Observation, Prediction, Situation
from ceml.errors import SettingsError


def violation(cap_w: float, power_w: list[float]) -> list[float]:
    watts = np.array(power_w)
    predicted = Prediction(rate_hz=np.ones(len(watts)), power_w=watts)
    found = PowerCap(cap_w).violation(predicted, Situation()).tolist()
    assert watts.tolist() == power_w or np.isnan(power_w).any()  # the prediction is left as it was
    return found


@given(st.floats(0.01, 1e4), st.lists(st.floats(0.01, 1e4), min_size=1, max_size=5))
def test_up_to_the_cap_nothing_is_violated_and_above_it_the_excess_counts(cap_w: float, power_w: list[float]) -> None:
    for watts, excess in zip(power_w, violation(cap_w, power_w), strict=True):
        assert (excess == 0) == (watts / cap_w <= 1)
        assert excess == pytest.approx(max(watts / cap_w - 1, 0))


def test_power_that_is_not_known_breaks_every_cap() -> None:
    assert violation(8, [np.nan, np.inf, 8.0, -1.0]) == [np.inf, np.inf, 0, 0]


def test_the_name_says_the_bound_with_its_unit() -> None:
    assert PowerCap(8.0).name == "power cap 8 W"
    assert PowerCap(7.25).name == "power cap 7.25 W"


@pytest.mark.parametrize("cap_w", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cap_must_be_a_positive_number_of_watts(cap_w: float) -> None:
    with pytest.raises(SettingsError, match=r"cap_w = .* positive number of watts"):
        PowerCap(cap_w)


# All kinds ------------------------------------------------------------------------------------------------------------

EVERY = Limits(
    power_cap_w=8.0,
    rail_caps_w={"gpu": 3.0},
    target_hz=2.5,
    max_slowdown=0.1,
    deadline_s=300.0,
    energy_allowance_j=2000.0,
    max_temperature_c=80.0,
)
KNOWN = Situation(remaining_work=100.0, spent_s=10.0, spent_j=50.0, rate_at_max_hz=4.0, power_w=5.0, temperature_c=60.0)
numbers = st.lists(st.floats(0.01, 1e4) | st.sampled_from([np.nan, np.inf, 0.0, -1.0]), min_size=3, max_size=3)


def of(rate_hz: list[float], power_w: list[float], **rails: list[float]) -> Prediction:
    rail_w = {name: np.array(watts) for name, watts in rails.items()}
    return Prediction(rate_hz=np.array(rate_hz), power_w=np.array(power_w), rail_w=rail_w)


def test_every_limit_becomes_a_constraint_that_names_its_bound_and_unit() -> None:
    assert [constraint.name for constraint in constraints_of(EVERY)] == [
        "power cap 8 W",
        "target 2.5 steps/s",
        "max slowdown 10 %",
        "deadline 300 s",
        "energy allowance 2000 J",
        "temperature cap 80 C",
        "power cap 3 W of rail gpu",
    ]
    assert constraints_of(Limits()) == ()
    assert all(isinstance(constraint, Constraint) for constraint in constraints_of(EVERY))


@pytest.mark.parametrize("constraint", constraints_of(EVERY), ids=lambda constraint: constraint.name)
@given(numbers, numbers)
def test_a_violation_is_elementwise_and_never_below_zero_or_nan(constraint: Constraint, rate_hz, power_w) -> None:
    found = constraint.violation(of(rate_hz, power_w), KNOWN)
    assert (found >= 0.0).all()
    alone = [constraint.violation(of([r], [p]), KNOWN)[0] for r, p in zip(rate_hz, power_w, strict=True)]
    assert found.tolist() == alone


@pytest.mark.parametrize("constraint", constraints_of(EVERY), ids=lambda constraint: constraint.name)
@given(st.floats(0.01, 1e4), st.floats(0.01, 1e4), st.floats(1.0, 10.0))
def test_faster_at_less_power_never_breaks_more(constraint: Constraint, rate_hz, power_w, factor) -> None:
    worse, better = constraint.violation(of([rate_hz, rate_hz * factor], [power_w, power_w / factor]), KNOWN)
    assert better <= worse


@pytest.mark.parametrize("name", Limits.__annotations__)
@pytest.mark.parametrize("bound", [-1.0, float("nan"), float("inf")])
def test_a_bound_that_is_none_is_refused(name: str, bound: float) -> None:
    with pytest.raises(SettingsError, match=r"is no |give "):
        constraints_of(Limits(**{name: {"gpu": bound} if name == "rail_caps_w" else bound}))


def test_each_is_its_formula() -> None:
    state = of([2.0], [10.0], gpu=[6.0])
    assert Target(2.5).violation(state, KNOWN).tolist() == [pytest.approx(0.25)]
    assert Target(2.0).violation(state, KNOWN).tolist() == [0.0]
    assert MaxSlowdown(0.6).violation(state, KNOWN).tolist() == [pytest.approx(0.25)]
    assert Deadline(30.0).violation(state, KNOWN).tolist() == [pytest.approx((10 + 50) / 30 - 1)]
    assert EnergyAllowance(500.0).violation(state, KNOWN).tolist() == [pytest.approx((50 + 500) / 500 - 1)]
    assert TemperatureCap(60.0).violation(state, KNOWN).tolist() == [pytest.approx(70 / 35 - 1)]
    assert RailCap("gpu", 4.0).violation(state, KNOWN).tolist() == [pytest.approx(0.5)]


@given(st.floats(0.01, 1e4))
def test_the_maximum_itself_is_never_too_slow(rate_hz: float) -> None:
    at_max = Situation(rate_at_max_hz=rate_hz * (1 + 1e-12))
    assert MaxSlowdown(0.0).violation(of([rate_hz], [1.0]), at_max).tolist() == [0.0]


def test_a_rail_that_is_not_predicted_draws_at_most_the_share_it_was_seen_to_draw() -> None:
    state, cap = of([1.0], [10.0]), RailCap("gpu", 4.0)
    assert cap.violation(state, Situation()).tolist() == [pytest.approx(1.5)]
    assert cap.violation(state, Situation(rail_shares={"gpu": 0.6})).tolist() == [pytest.approx(0.5)]
    assert cap.violation(state, Situation(rail_shares={"gpu": 0.4})).tolist() == [0.0]


def test_what_the_situation_does_not_tell_is_not_judged_and_said() -> None:
    state, nothing, all_of_them = of([1e-3], [1e3]), Situation(), constraints_of(EVERY)
    broken = [constraint.name.split()[0] for constraint in all_of_them if constraint.violation(state, nothing)[0] > 0]
    assert broken == ["power", "target", "power"]
    said = unjudged(all_of_them, nothing)
    for name in ("max slowdown 10 %", "deadline 300 s", "energy allowance 2000 J", "temperature cap 80 C"):
        assert f"{name} is not judged" in said
    assert unjudged(all_of_them, KNOWN) == ""


def test_a_constraint_that_no_state_keeps_is_named_alone() -> None:
    everywhere = of([1.0, 2.0], [4.0, 9.0])
    caps = (PowerCap(2.0), Target(0.5))
    assert cannot_hold(caps, everywhere, of([1.0], [4.0]), KNOWN) == "power cap 2 W cannot hold"


def test_constraints_that_only_together_cannot_hold_are_both_named() -> None:
    everywhere = of([1.0, 2.0], [4.0, 9.0])
    limits = (PowerCap(5.0), Target(2.0), PowerCap(100.0))
    said = cannot_hold(limits, everywhere, of([2.0], [9.0]), KNOWN)
    assert said == "power cap 5 W cannot hold together with target 2 steps/s"
    said = cannot_hold(limits, everywhere, of([1.0], [4.0]), KNOWN)
    assert said == "target 2 steps/s cannot hold together with power cap 5 W"
    assert cannot_hold((Target(1.0),), everywhere, of([1.0], [4.0]), KNOWN) is None


def test_only_what_it_cannot_hold_together_with_is_named() -> None:
    """The cap on the memory breaks one fast state of two; the cap on the GPU both."""
    rails = {"mem": np.array([0.5, 1.0, 2.0]), "gpu": np.array([1.0, 5.0, 6.0])}
    everywhere = replace(of([1.0, 2.0, 3.0], [4.0, 9.0, 10.0]), rail_w=rails)
    limits = (Target(2.0), RailCap("mem", 1.5), RailCap("gpu", 4.0), PowerCap(9.5))
    chosen = replace(of([1.0], [4.0]), rail_w={"mem": np.array([0.5]), "gpu": np.array([1.0])})
    assert cannot_hold(limits, everywhere, chosen, KNOWN) == (
        "target 2 steps/s cannot hold together with power cap 4 W of rail gpu"
    )


def test_what_cannot_hold_at_all_is_named_before_what_it_keeps_from_holding() -> None:
    everywhere = of([1.0, 2.0], [4.0, 9.0])
    limits = (PowerCap(2.0), Target(2.0), Target(50.0))
    said = cannot_hold(limits, everywhere, of([1.0], [4.0]), KNOWN)
    assert said == (
        "power cap 2 W and target 50 steps/s cannot hold, and target 2 steps/s cannot hold together with power cap 2 W"
    )


def test_limits_are_named_for_people_and_none_is_said_too() -> None:
    assert named(Limits()) == "no limits"
    assert named(Limits(power_cap_w=8.0, rail_caps_w={"gpu": 3.0})) == "power cap 8 W, power cap 3 W of rail gpu"
    assert "no power cap" in named(Limits(power_cap_w=-1.0))


def test_the_rest_of_a_run_is_short_where_it_would_break_a_limit_on_the_whole_beyond_doubt() -> None:
    run = Situation(remaining_work=100.0, spent_s=10.0, spent_j=50.0)
    window = Observation(
        configuration=Configuration({"gpu_hz": 1e9}),
        start_s=0.0,
        end_s=5.0,
        beats=10,
        steps=10.0,
        rate_hz=2.0,
        power_w=5.0,
    )  # 50 s and 250 J to go
    limits = (PowerCap(1.0), Deadline(61.0), EnergyAllowance(301.0))
    assert runs_short(limits, window, run) is None
    assert runs_short((EnergyAllowance(298.0),), window, run) is None
    assert runs_short((*limits, EnergyAllowance(294.0)), window, run) == "energy allowance 294 J"
    assert runs_short((*limits, Deadline(58.0)), window, run) == "deadline 58 s"
    assert runs_short((EnergyAllowance(1.0), Deadline(1.0)), window, Situation()) is None


@given(st.floats(0.01, 1e3), st.floats(0.1, 0.97) | st.floats(1.0, 10.0))
def test_nothing_is_short_that_the_constraint_itself_allows(rest: float, pace: float) -> None:
    run = Situation(remaining_work=rest, spent_j=50.0)
    window = Observation(
        configuration=Configuration({"gpu_hz": 1e9}),
        start_s=0.0,
        end_s=5.0,
        beats=10,
        steps=10.0,
        rate_hz=1.0,
        power_w=1.0,
    )
    allowance = EnergyAllowance(50.0 + pace * rest)
    assert bool(runs_short((allowance,), window, run)) == (pace < 0.98)
