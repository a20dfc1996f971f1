"""Quantities as a person writes them. Not covered: which settings take which (tests/test_settings.py)."""

from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml import units

PARSERS = [units.power_w, units.energy_j, units.duration_s, units.moment_s, units.rate_hz, units.share]
GOOD = [
    (units.power_w, "8W", 8), (units.power_w, "7500mW", 7.5), (units.power_w, ".5kW", 500), (units.power_w, 8, 8),
    (units.energy_j, "2kJ", 2000), (units.energy_j, "5 Wh", 18000), (units.energy_j, "1kWh", 3.6e6),
    (units.duration_s, "300s", 300), (units.duration_s, "5min", 300), (units.duration_s, "1.5h", 5400),
    (units.moment_s, "600.1s", 600.1), (units.moment_s, 0, 0), (units.moment_s, "0s", 0),
    (units.rate_hz, "2.5/s", 2.5), (units.rate_hz, "150/min", 2.5), (units.rate_hz, "2.5 steps/s", 2.5),
    (units.share, "10%", 0.1), (units.share, 0.1, 0.1), (units.share, "150 %", 1.5), (units.share, "0", 0),
    (units.temperature_c, "80C", 80), (units.temperature_c, "80 °C", 80), (units.temperature_c, 80.5, 80.5),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "text", "wanted"), GOOD)
def test_a_quantity_with_its_unit_is_si(parse, text: object, wanted: float) -> None:
    assert parse(text) == pytest.approx(wanted)


@pytest.mark.parametrize("parse", [*PARSERS, units.temperature_c])
@pytest.mark.parametrize(
    "bad", ["nan", "inf", -1, "-1", "1e999", True, None, [8], "", "W", "s8", "8 8", "8 x/y", "٣", "8\n\x00", "9" * 400]
)
def test_what_is_no_quantity_says_what_is(parse, bad: object) -> None:
    with pytest.raises(ValueError, match=r"^must be .* such as "):
        parse(bad)


@pytest.mark.parametrize("parse", [units.power_w, units.energy_j, units.duration_s, units.rate_hz])
def test_nothing_is_not_above_0(parse) -> None:
    with pytest.raises(ValueError, match="above 0"):
        parse(0)


@pytest.mark.parametrize("ambiguous", [1, 1.1, "1.1"])
def test_a_share_of_one_or_more_may_mean_two_things(ambiguous: object) -> None:
    with pytest.raises(ValueError, match="from 1 on only as percentage"):
        units.share(ambiguous)


@given(st.sampled_from(PARSERS), st.text() | st.floats() | st.integers() | st.from_regex(r"[0-9.e+-]+ ?[a-zA-Z/%]*"))
def test_whatever_is_written_is_a_finite_number_or_refused_in_words(parse, written: object) -> None:
    try:
        number = parse(written)
    except ValueError as error:
        number, said = 0.0, str(error)
    else:
        said = "must be good"
    assert said.startswith("must be ")
    assert isfinite(number)
    assert number >= 0


@given(st.floats(0.0) | st.just(float("inf")))
def test_an_excess_is_told_in_few_characters_and_large_ones_as_a_factor(excess: float) -> None:
    said = units.excess_text(excess)
    assert len(said) <= len("over 1000 times the bound")
    assert said.endswith("%") == (excess < 10.0)


def test_an_excess_as_it_is_read() -> None:
    said = [units.excess_text(excess) for excess in (0.0, 0.125, 9.99, 47.04, 467981932.78, float("inf"))]
    far = "over 1000 times the bound"
    assert said == ["0.0%", "12.5%", "999.0%", "47 times the bound", far, far]


@given(st.floats(1e-3, 1e9))
def test_units_of_a_kind_agree(number: float) -> None:
    assert units.power_w(f"{number!r}kW") == pytest.approx(units.power_w(number * 1000))
    assert units.energy_j(f"{number!r} Wh") == pytest.approx(units.energy_j(f"{number * 3600!r}J"))
    assert units.rate_hz(f"{number!r}/min") == pytest.approx(units.rate_hz(f"{number / 60!r}/s"))
