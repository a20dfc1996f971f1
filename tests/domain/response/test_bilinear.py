"""The seven-term form and its least squares. Not covered: what the paper's model makes of them (test_paper)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ceml.domain.knobs import Configuration, Knob, KnobKind, KnobSpace
from ceml.domain.response.bilinear import BilinearForm, solve
from ceml.domain.values import FitStatus

SPACE = KnobSpace([Knob(name=f"{d}_hz", levels=(0.5e9, 1.5e9, 2e9)) for d in ("cpu", "gpu", "mem")])


def test_the_terms_are_those_of_equation_1_in_its_order() -> None:
    form = BilinearForm(SPACE)
    assert form.terms == (("cpu",), ("gpu",), ("mem",), ("cpu", "gpu"), ("gpu", "mem"), ("mem", "cpu"), ())
    assert form.scale.tolist() == [2, 2, 2, 4, 4, 4, 1]
    c, g, m = 0.25, 1.0, 0.75  # shares of the maximum
    one = Configuration({"cpu_hz": 0.5e9, "gpu_hz": 2e9, "mem_hz": 1.5e9})
    assert form.seen([one])[:, 0].tolist() == [c, g, m, c * g, g * m, m * c, 1]


def test_columns_of_states_are_those_of_their_configurations() -> None:
    holes = SPACE.without([0, 5, 13])
    form = BilinearForm(holes)
    expected = form.seen([holes.configuration(state) for state in holes.states])
    assert np.array_equal(form.columns.at(holes.states), expected)
    assert np.array_equal(form.columns.at(holes.states[[7, 3]]), expected[:, [7, 3]])


@pytest.mark.parametrize(("names", "unknowns"), [(["cpu", "gpu"], 4), (["mem"], 2), (["gpu1"], 1)])
def test_fewer_clocks_take_their_terms_with_them(names: list[str], unknowns: int) -> None:
    form = BilinearForm(KnobSpace([Knob(name=f"{name}_hz", levels=(1e9, 2e9)) for name in names]))
    assert len(form.terms) == unknowns
    assert set(form.devices) | set(form.fixed) == {"cpu", "gpu", "mem"}


def test_a_clock_with_one_present_level_is_fixed() -> None:
    low_memory = SPACE.without(state for state in SPACE.states if SPACE.configuration(state)["mem_hz"] > 0.5e9)
    form = BilinearForm(low_memory)
    assert form.devices == ("cpu", "gpu")
    assert form.fixed == ("mem",)
    assert form.clocks_ghz["mem"][low_memory.states].tolist() == [0.5] * 9


def test_where_another_knob_is_below_its_maximum_nothing_is_said() -> None:
    cores = Knob(name="cpu_cores", levels=(2, 4), kind=KnobKind.COUNT)
    space = KnobSpace([cores, Knob(name="cpu_hz", levels=(1e9, 2e9))])
    assert np.isnan(BilinearForm(space).columns.at(space.states)).any(axis=0).tolist() == [True, True, False, False]
    without_all_cores = space.without([2, 3])
    assert not np.isnan(BilinearForm(without_all_cores).columns.at(without_all_cores.states)).any()


def test_a_configuration_without_a_clock_has_no_numbers() -> None:
    columns = BilinearForm(SPACE).seen([Configuration({"cpu_hz": 1e9, "gpu_hz": "fast"})])
    assert np.isnan(columns[:, 0]).tolist() == [False, True, True, True, True, True, False]


@given(arrays.arrays(np.float64, (2, 7), elements=st.floats(-1e3, 1e3)))
def test_the_solve_finds_the_coefficients_that_made_the_targets(truth) -> None:
    columns = BilinearForm(SPACE).columns.at(SPACE.states)
    status, found = solve(columns, truth @ columns)
    assert status is FitStatus.GOOD
    assert np.allclose(found, truth, atol=1e-9)


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        (np.ones((2, 1)), FitStatus.TOO_FEW),
        (np.ones((2, 5)), FitStatus.SINGULAR),
        (np.full((2, 5), np.nan), FitStatus.NOT_FINITE),
        (np.ones((2, 0)), FitStatus.TOO_FEW),
    ],
)
def test_what_cannot_be_solved_has_a_status_and_no_numbers(columns, status: FitStatus) -> None:
    found, coefficients = solve(columns, np.ones((3, columns.shape[1])))
    assert found is status
    assert coefficients.shape == (3, 2)
    assert np.isnan(coefficients).all()
