"""Values that do arithmetic: joules per step, durations, choices. Plain fields are not tested."""

from __future__ import annotations

from math import isnan

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Configuration
from ceml.domain.values import NAN, Choice, Observation, Prediction

positive = st.floats(1e-6, 1e6)


def seen(rate_hz: float, power_w: float) -> Observation:
    where = Configuration({"cpu_hz": 1e9})
    rails = {"cpu": power_w / 2}
    return Observation(
        configuration=where, start_s=2, end_s=5, beats=3, steps=6, rate_hz=rate_hz, power_w=power_w, rail_w=rails
    )


@given(positive, positive, st.sampled_from([0.25, 2.0, 1024.0]))
def test_scaling_the_watts_scales_the_joules(rate_hz: float, power_w: float, factor: float) -> None:
    assert seen(rate_hz, power_w * factor).energy_j == seen(rate_hz, power_w).energy_j * factor


@given(positive, positive)
def test_an_observation_in_the_shape_of_a_prediction_says_the_same(rate_hz: float, power_w: float) -> None:
    observation = seen(rate_hz, power_w)
    predicted = Prediction.measured(observation)
    assert predicted.rate_hz.tolist() == [rate_hz]
    assert predicted.energy_j.tolist() == [observation.energy_j]
    assert predicted.rail_w["cpu"].tolist() == [power_w / 2]


def test_without_power_or_without_progress_joules_per_step_are_not_a_number() -> None:
    assert isnan(seen(10, NAN).energy_j)
    assert isnan(seen(0, 5).energy_j)


def test_an_observation_lasts_from_its_first_to_its_last_beat() -> None:
    assert seen(1, 1).duration_s == 3


def test_a_choice_is_feasible_only_without_violation() -> None:
    for violation, feasible in ((0.0, True), (1e-12, False), (np.inf, False), (NAN, False)):
        assert Choice(state=0, cost=1.0, violation=violation, evaluated=1).feasible is feasible
