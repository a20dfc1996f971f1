"""Knobs, configurations and spaces. Not covered: what a device does with a level (platforms)."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Configuration, Knob, KnobKind, KnobSpace, level_text


@st.composite
def spaces(draw: st.DrawFn) -> KnobSpace:
    knobs: list[Knob] = []
    for number in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 4))
        if draw(st.booleans()):
            levels = sorted(draw(st.lists(st.integers(1, 99), min_size=count, max_size=count, unique=True)))
            knobs.append(Knob(name=f"d{number}_hz", levels=tuple(float(level) * 1e6 for level in levels)))
        else:
            knobs.append(Knob(name=f"d{number}_mode", levels=tuple("abcd"[:count]), kind=KnobKind.CATEGORY))
    size = int(np.prod([len(knob.levels) for knob in knobs]))
    mask = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return KnobSpace(knobs, np.array(mask))


@given(spaces())
def test_every_present_state_has_a_configuration_that_leads_back_to_it(space: KnobSpace) -> None:
    for state in space.states:
        assert space.find(space.configuration(state)) == state
    absent = np.flatnonzero(~space.present)
    assert all(space.find(space.configuration(state)) is None for state in absent)


@given(spaces())
def test_states_are_the_product_of_levels_in_c_order_last_knob_fastest(space: KnobSpace) -> None:
    names = [knob.name for knob in space.knobs]
    everything = [dict(zip(names, levels, strict=True)) for levels in product(*(knob.levels for knob in space.knobs))]
    assert len(everything) == space.present.size
    assert [dict(space.configuration(state)) for state in range(len(everything))] == everything


@given(spaces())
def test_neighbours_are_present_differ_in_one_knob_and_see_each_other(space: KnobSpace) -> None:
    for state in space.states.tolist():
        found = space.neighbours(state).tolist()
        assert len(set(found)) == len(found)
        for other in found:
            assert space.present[other]
            here, there = space.configuration(state), space.configuration(other)
            assert sum(here[name] != there[name] for name in here) == 1
            assert state in space.neighbours(other)


@given(spaces())
def test_shares_are_levels_over_the_highest_level(space: KnobSpace) -> None:
    shares = space.shares(space.states)
    assert shares.shape == (len(space), len(space.knobs))
    assert ((shares >= 0) & (shares <= 1)).all()
    if len(space):
        assert np.array_equal(shares, space.all_shares)


@given(spaces())
def test_each_state_is_the_nearest_to_its_own_shares(space: KnobSpace) -> None:
    for state, shares in zip(space.states.tolist(), space.all_shares, strict=True):
        assert space.nearest(shares) == state


@given(spaces(), st.data())
def test_states_taken_away_are_gone_and_the_rest_stays(space: KnobSpace, data: st.DataObject) -> None:
    if not len(space):
        return
    gone = data.draw(st.sets(st.sampled_from(space.states.tolist())))
    left = space.without(gone)
    assert set(left.states.tolist()) == set(space.states.tolist()) - gone
    assert space.present[list(gone)].all()  # the old space did not change


def test_neighbours_skip_holes_and_a_category_has_no_order() -> None:
    clock = Knob(name="gpu_hz", levels=(1.0, 2.0, 3.0, 4.0))
    assert KnobSpace([clock], np.array([1, 0, 1, 1], dtype=bool)).neighbours(0).tolist() == [2]
    mode = Knob(name="run_mode", levels=("a", "b", "c"), kind=KnobKind.CATEGORY)
    assert sorted(KnobSpace([mode]).neighbours(0).tolist()) == [1, 2]


def test_the_maximum_is_the_top_corner_or_the_present_state_nearest_to_it() -> None:
    knobs = [Knob(name="cpu_hz", levels=(1e9, 2e9)), Knob(name="gpu_hz", levels=(1e8, 9e8))]
    assert KnobSpace(knobs).max_state == 3
    assert KnobSpace(knobs).min_state == 0
    assert KnobSpace(knobs).without([3]).max_state == 1  # half the CPU is nearer than a ninth of the GPU
    with pytest.raises(ValueError, match="no state left"):
        KnobSpace(knobs).without([0, 1, 2, 3]).nearest([1, 1])


def test_a_configuration_is_equal_and_hashes_equal_whatever_the_order_of_its_knobs() -> None:
    one, other = Configuration({"a_hz": 1.0, "b_hz": 2.0}), Configuration({"b_hz": 2.0, "a_hz": 1.0})
    assert one == other
    assert len({one, other}) == 1
    assert one != Configuration({"a_hz": 1.0})
    assert one != {"a_hz": 1.0, "b_hz": 2.0}
    assert str(Configuration({"cpu_hz": 2035200000.0, "cap_w": 8.0})) == "cap_w=8W cpu_hz=2035.2MHz"


def test_levels_read_as_people_write_them() -> None:
    assert level_text("gpu_hz", 420.75e6) == "420.75MHz"
    assert level_text("gpu_limit_w", 250.0) == "250W"
    assert level_text("cpu_cores", 4.0) == "4"
    assert level_text("run_mode", "MAXN") == "MAXN"


@pytest.mark.parametrize("levels", [(), (1.0, 1.0), (2.0, 1.0)])
def test_levels_must_be_there_once_and_ascend(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"knob cpu_hz"):
        Knob(name="cpu_hz", levels=levels)


def test_a_space_refuses_no_knobs_the_same_name_twice_and_a_mask_of_another_size() -> None:
    knob = Knob(name="cpu_hz", levels=(1.0, 2.0))
    for knobs, mask in (([], None), ([knob, knob], None), ([knob], np.ones(3, dtype=bool))):
        with pytest.raises(ValueError, match=r"different names|mask of shape"):
            KnobSpace(knobs, mask)


def test_a_device_is_the_name_without_its_unit() -> None:
    assert Knob(name="gpu1_hz", levels=(1.0,)).device == "gpu1"
    assert Knob(name="mode", levels=("a",), kind=KnobKind.CATEGORY).device == "mode"


def test_settling_takes_as_long_as_the_slowest_knob_that_changes() -> None:
    space = KnobSpace(
        [Knob(name="cpu_hz", levels=(1.0, 2.0), settle_s=0.001), Knob(name="mem_hz", levels=(1.0, 2.0), settle_s=0.008)]
    )
    low, mixed, high = ({"cpu_hz": a, "mem_hz": b} for a, b in ((1.0, 1.0), (2.0, 1.0), (2.0, 2.0)))
    assert space.settle_s(low, low) == 0
    assert space.settle_s(low, mixed) == 0.001
    assert space.settle_s(low, high) == 0.008
    assert space.settle_s(None, low) == 0.008


@given(spaces(), st.data())
def test_levels_present_are_those_of_the_present_states(space: KnobSpace, data: st.DataObject) -> None:
    axes = data.draw(
        st.permutations(range(len(space.knobs))).flatmap(lambda p: st.integers(1, len(p)).map(lambda n: p[:n]))
    )
    found = {tuple(places) for places in space.places(space.states)[:, axes].tolist()} if len(space) else set()
    marks = space.levels_present(*axes)
    assert marks.shape == tuple(space.shape[axis] for axis in axes)
    assert set(zip(*(at.tolist() for at in np.nonzero(marks)), strict=True)) == found


@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_the_nearest_state_of_a_large_space_is_the_nearest_of_all(holes: float) -> None:
    rng = np.random.default_rng(0)
    shape = (70, 60, 50)
    knobs = [Knob(name=f"d{n}_hz", levels=tuple(np.linspace(1e8, 2e9, n).tolist())) for n in shape]
    space = KnobSpace(knobs, rng.random(70 * 60 * 50) >= holes)
    every = space.shares(space.states)
    for _ in range(20):
        shares = rng.random(3) * 1.1
        distance = np.abs(every - shares).sum(axis=1)
        here = np.abs(space.shares(np.array([space.nearest(shares)]))[0] - shares).sum()
        assert space.present[space.nearest(shares)]
        assert here == pytest.approx(distance.min(), abs=1e-12)


@given(spaces(), st.data())
def test_states_that_have_some_levels_are_those_whose_configuration_says_so(space: KnobSpace, data) -> None:
    some = data.draw(st.lists(st.sampled_from(space.knobs), unique_by=lambda knob: knob.name, max_size=3))
    levels = {knob.name: data.draw(st.sampled_from(knob.levels)) for knob in some}
    said = [state for state in space.states if levels.items() <= dict(space.configuration(state)).items()]
    assert space.having(levels).tolist() == said
    assert space.having({**levels, "no such knob": 1.0}).size == 0


def test_states_that_anybody_is_given_cannot_be_written_not_even_after_setting_the_flag():
    states = KnobSpace([Knob(name="cpu_hz", levels=(1e9, 2e9))]).states
    with pytest.raises(ValueError, match="read-only"):
        states[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        states.flags.writeable = True
