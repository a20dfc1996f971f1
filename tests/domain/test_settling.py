"""Settle times as runs see them. Not covered: what is kept of them (tests/store/test_knowledge.py)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.events import ConfigurationApplied
from ceml.domain.knobs import Configuration
from ceml.domain.settling import SettleTimes

times = st.floats(1e-4, 1.0)


def applied(took_s: float, effective: dict, requested: dict | None = None) -> ConfigurationApplied:
    wanted = Configuration(effective if requested is None else requested)
    there = Configuration(effective)
    return ConfigurationApplied(at_s=0.0, requested=wanted, effective=there, in_force_s=0.0, took_s=took_s, why="")


@given(st.lists(times, min_size=2, max_size=50))
def test_an_estimate_lies_between_the_least_and_the_most_or_a_tenth_beside(took_s: list[float]) -> None:
    seen = SettleTimes()
    for number, each in enumerate([0.0, *took_s]):
        seen.on(applied(each, {"a": float(number), "b": 1.0}))
    (known,) = seen.seen.values()
    assert known.changes == len(took_s)
    assert 0.99 * min(took_s) <= known.settle_s <= 1.1 * max(took_s)


def test_it_follows_the_slow_ones() -> None:
    seen = SettleTimes()
    for number in range(2000):
        seen.on(applied(0.030 if number % 10 == 0 else 0.002, {"a": float(number)}))
    assert 0.02 < seen.seen["a"].settle_s < 0.05


def test_changes_of_two_knobs_and_those_that_failed_say_nothing_of_one() -> None:
    seen = SettleTimes()
    seen.on(applied(0.1, {"a": 1.0, "b": 1.0}))  # from where is not known
    seen.on(applied(0.1, {"a": 2.0, "b": 2.0}))
    seen.on(applied(0.1, {"a": 2.0, "b": 2.0}))  # nothing moved
    seen.on(applied(0.1, {"a": 3.0, "b": 2.0}, {"a": 4.0, "b": 2.0}))
    assert seen.seen == {}
    seen.on(applied(0.1, {"a": 3.0, "b": 5.0}))
    assert list(seen.seen) == ["b"]
