"""Thinning of signals. Not covered: how they are drawn (test_page.py)."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ceml.telemetry.report.trace import Trace, thinned

values = st.floats(-1e9, 1e9) | st.just(math.nan)
signals = st.lists(st.tuples(st.floats(0, 1e5), values), min_size=1, max_size=300).map(sorted)


def traced(signal: list[tuple[float, float]], bins: int) -> Trace:
    trace = Trace(bins=bins, room=8 * bins)
    for at_s, value in signal:
        trace.add(at_s, value)
    return trace


@given(signals, st.integers(1, 12))
def test_extremes_and_ends_survive_however_often_it_is_thinned(signal: list[tuple[float, float]], bins: int):
    at, kept = traced(signal, bins).points()
    known = [value for _, value in signal if value == value]
    if known:
        assert (np.nanmin(kept), np.nanmax(kept)) == (min(known), max(known))
    assert (at[0], at[-1]) == (signal[0][0], signal[-1][0])
    assert np.isnan(kept).any() == any(value != value for _, value in signal)


@given(signals, st.integers(1, 12))
def test_it_keeps_only_points_that_were_there_and_few_of_them(signal: list[tuple[float, float]], bins: int):
    at, kept = traced(signal, bins).points()
    there = {(at_s, repr(value)) for at_s, value in signal}
    assert {(a, repr(v)) for a, v in zip(at.tolist(), kept.tolist(), strict=True)} <= there
    assert len(at) <= 5 * bins
    assert (np.diff(at) >= 0).all()


@given(signals)
def test_every_stretch_keeps_its_own_extremes(signal: list[tuple[float, float]]):
    at, values = np.array(signal, dtype=float).T
    kept_at, kept = thinned(at, values, 4)
    span = (at[-1] - at[0]) or 1.0

    def place(moments: np.ndarray) -> np.ndarray:
        return np.minimum(((moments - at[0]) / span * 4).astype(int), 3)

    for stretch in range(4):
        before = values[(place(at) == stretch) & ~np.isnan(values)]
        after = kept[(place(kept_at) == stretch) & ~np.isnan(kept)]
        if len(before):
            assert (after.min(), after.max()) == (before.min(), before.max())


def test_one_spike_in_a_million_points_is_still_there():
    trace = Trace()
    for at in range(1_000_000):
        trace.add(float(at), 99.0 if at == 654_321 else 5.0)
    at, values = trace.points()
    assert len(at) <= 5 * 1024
    assert at[int(np.argmax(values))] == 654_321


def test_what_holds_until_the_next_change_is_a_line_of_steps():
    trace = Trace()
    for at_s, level in ((0.0, 1.0), (2.0, 1.0), (3.0, 2.0)):
        trace.change(at_s, level)
    at, values = trace.steps(until_s=5.0)
    assert (at.tolist(), values.tolist()) == ([0, 3, 3, 5], [1, 1, 2, 2])


def test_a_gap_is_kept_once_and_an_empty_trace_is_empty():
    trace = Trace()
    trace.gap(1.0)
    assert not trace
    assert len(trace.steps(9.0)[0]) == 0
    trace.add(2.0, 1.0)
    trace.gap(3.0)
    trace.gap(4.0)
    assert len(trace.points()[0]) == 2
