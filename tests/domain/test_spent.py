"""Time, energy and last readings of one application. Not covered: what constraints make of them (test_budget.py)."""

from __future__ import annotations

from math import exp, isnan

import numpy as np
import pytest

from ceml.domain.events import Sampled
from ceml.domain.knobs import Configuration
from ceml.domain.spent import WARMING_S, Spent
from ceml.domain.values import Observation


def sampled(at_s: float, *, covers_s: float = 0.0, degrees: dict[str, float] | None = None, **watts: float) -> Sampled:
    return Sampled(at_s=at_s, sensor="s", rails_w=watts, covers_s=covers_s, temperatures_c=degrees or {})


def test_nothing_is_known_before_anything_was_said() -> None:
    spent = Spent(("total",))
    assert all(map(isnan, (spent.energy_j, spent.power_w, spent.temperature_c)))
    assert spent.seconds(5.0) == 0.0


def test_energy_is_power_over_time_of_all_rails_of_the_board_and_no_others() -> None:
    spent = Spent(("cpu", "gpu"))
    for at_s in range(11):
        spent.sample(sampled(at_s, cpu=1.0, gpu=2.0 * at_s, soc=100.0))
    assert spent.energy_j == pytest.approx(10.0 + 100.0)


def test_power_is_averaged_as_the_heat_that_comes_from_it() -> None:
    spent = Spent(("cpu", "gpu"))
    spent.sample(sampled(0.0, cpu=2.0))
    assert isnan(spent.power_w)
    for at_s in np.arange(0.0, 600.0, 0.1).tolist():
        spent.sample(sampled(at_s, gpu=8.0))  # the rails of a board may be several sensors'
    assert spent.power_w == pytest.approx(10.0)
    for at_s in np.arange(600.0, 600.0 + WARMING_S, 0.1).tolist():
        spent.sample(sampled(at_s, cpu=1.0, gpu=3.0))
    assert spent.power_w == pytest.approx(4.0 + 6.0 * exp(-1.0), rel=0.01)
    spent.sample(sampled(600.0 + WARMING_S, cpu=1.0, gpu=float("nan")))
    assert spent.power_w == pytest.approx(4.0 + 6.0 * exp(-1.0), rel=0.01)


def test_readings_that_cover_a_stretch_count_for_it() -> None:
    spent = Spent(("total",))
    spent.sample(sampled(1.0, covers_s=1.0, total=4.0))
    spent.sample(sampled(2.0, covers_s=1.0, total=6.0))
    assert spent.energy_j == pytest.approx(10.0)


def test_while_it_is_away_nothing_is_charged_but_time_goes_on() -> None:
    spent = Spent(("total",))
    spent.begin(100.0)
    for at_s in (100.0, 110.0):
        spent.sample(sampled(at_s, total=5.0))
    spent.pause()
    spent.begin(500.0)
    for at_s in (500.0, 510.0):
        spent.sample(sampled(at_s, total=5.0))
    assert spent.energy_j == pytest.approx(100.0)
    assert spent.seconds(510.0) == 410.0


def test_the_hottest_zone_counts_and_a_broken_one_does_not() -> None:
    spent = Spent(())
    spent.sample(sampled(0.0, degrees={"cpu": 50.0, "gpu": 61.0, "pll": float("nan")}))
    spent.sample(sampled(1.0))
    assert spent.temperature_c == 61.0
    assert isnan(spent.power_w)


def test_the_largest_share_that_was_seen_is_a_rails_share() -> None:
    def seen(power_w: float, **rails: float) -> Observation:
        here = Configuration({"cpu_hz": 1e9})
        return Observation(
            configuration=here, start_s=0, end_s=1, beats=1, steps=1, rate_hz=1, power_w=power_w, rail_w=rails
        )

    shares = Spent(("total",)).rail_shares([seen(10.0, gpu=4.0), seen(5.0, gpu=1.0), seen(float("nan"), gpu=9.0)])
    assert shares == {"gpu": pytest.approx(0.4)}
