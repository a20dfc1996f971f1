"""Lines of Eq. 2 per device and level. Not covered: the sweep that measures them (tests/control)."""

from __future__ import annotations

from math import isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.response.calibrating import Stressed, fit_device

watts = st.floats(0.0, 200.0)
LINES = st.dictionaries(st.floats(1e8, 3e9), st.tuples(watts, watts), min_size=1, max_size=12)


@given(lines=LINES, loads=st.lists(st.floats(0.0, 1.0), max_size=6))
def test_what_lies_on_lines_is_found_exactly(lines: dict[float, tuple[float, float]], loads: list[float]) -> None:
    measured = [
        Stressed(level_hz=hz, utilisation=u, power_w=slope * u + idle)
        for hz, (slope, idle) in lines.items()
        for u in (0.0, 1.0, *loads)
    ]
    fit = fit_device(measured)
    assert fit.power is not None
    assert fit.power.levels_hz == tuple(sorted(lines))
    for hz, slope, idle in zip(fit.power.levels_hz, fit.power.slope_w, fit.power.idle_w, strict=True):
        assert (slope, idle) == pytest.approx(lines[hz], abs=1e-9)
    assert fit.left_out == ()


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.builds(Stressed, level_hz=st.sampled_from([1e9, 2e9, nan]), utilisation=numbers, power_w=numbers)))
def test_whatever_was_measured_no_device_draws_less_when_busy_or_less_than_nothing(measured: list[Stressed]) -> None:
    fit = fit_device([s for s in measured if not abs(s.utilisation) > 1e6 and not abs(s.power_w) > 1e6])
    if fit.power is not None:
        assert all(slope >= 0.0 for slope in fit.power.slope_w)
        assert all(idle >= 0.0 for idle in fit.power.idle_w)
        assert list(fit.power.levels_hz) == sorted(fit.power.levels_hz)


def test_a_level_whose_loads_are_alike_has_no_line_and_is_named() -> None:
    apart = [Stressed(level_hz=1e9, utilisation=u, power_w=1.0 + u) for u in (0.0, 1.0)]
    alike = [Stressed(level_hz=2e9, utilisation=u, power_w=2.0) for u in (0.5, 0.55)]
    fit = fit_device(apart + alike)
    assert fit.power is not None
    assert (fit.power.levels_hz, fit.left_out) == ((1e9,), (2e9,))
    nothing = fit_device(alike)
    assert nothing.power is None
    assert isnan(nothing.error)


def test_the_error_is_what_the_lines_leave_over() -> None:
    bent = [Stressed(level_hz=1e9, utilisation=u, power_w=w) for u, w in ((0.0, 10.0), (0.5, 13.0), (1.0, 10.0))]
    assert fit_device(bent).error == pytest.approx(2**0.5 / 11.0)
