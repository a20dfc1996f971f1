"""Limits that change too fast. Not covered: what a mind makes of them (test_manager_guard.py)."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.restless import MOST, REST_S, Restless, tightest
from ceml.domain.values import NO_LIMITS, Limits

caps = st.none() | st.floats(1.0, 100.0)
limits = st.builds(
    Limits,
    power_cap_w=caps,
    rail_caps_w=st.dictionaries(st.sampled_from(["cpu", "gpu"]), st.floats(1.0, 100.0)),
    target_hz=caps,
    max_temperature_c=caps,
)


def all_caps(one: Limits) -> dict[str, float]:
    named = {"total": one.power_cap_w, "heat": one.max_temperature_c, **one.rail_caps_w}
    return {name: cap for name, cap in named.items() if cap is not None}


@given(limits, limits)
def test_the_tightest_breaks_neither_and_is_no_tighter(one: Limits, other: Limits):
    kept, both = all_caps(tightest(one, other)), (all_caps(one), all_caps(other))
    assert kept == {name: min(caps[name] for caps in both if name in caps) for name in both[0] | both[1]}
    assert tightest(one, other).target_hz == one.target_hz
    assert tightest(one, one) == one


@given(st.lists(st.tuples(st.floats(0.0, 0.5), limits), min_size=1, max_size=40))
def test_what_is_kept_to_never_breaks_what_was_told_last_and_becomes_it_when_it_rests(told: list):
    restless, in_force, at_s = Restless(), NO_LIMITS, 0.0
    for past_s, wanted in told:
        at_s += past_s
        if (rested := restless.rested(at_s)) is not None:
            in_force = rested
        in_force = restless.told(at_s, wanted, in_force)
        assert tightest(in_force, wanted) == in_force
        assert restless.waits == (in_force != wanted)
    assert (restless.rested(at_s + REST_S) or in_force) == told[-1][1]
    assert restless.rested(at_s + 2 * REST_S) is None


@given(st.lists(limits, max_size=20))
def test_who_takes_his_time_has_his_way_at_once(told: list[Limits]):
    restless = Restless()
    for number, (before, wanted) in enumerate(pairwise([NO_LIMITS, *told])):
        assert restless.told(number * 1.01 * REST_S / (MOST - 1), wanted, before) == wanted
