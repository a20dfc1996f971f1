"""Arrays that are made when asked for. Laws: they are the arrays of a plain dictionary, and each is made once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.ondemand import OnDemand, changed

names = st.lists(st.text(max_size=3), max_size=5)


@given(names)
def test_it_is_the_mapping_of_what_is_made(rails: list[str]) -> None:
    lazy = OnDemand(rails, lambda rail: np.array([len(rail)]))
    assert dict(lazy) == {rail: np.array([len(rail)]) for rail in rails}
    assert len(lazy) == len(set(rails))
    assert all(rail in lazy for rail in rails)


def test_each_is_made_once_and_only_when_asked_for() -> None:
    asked: list[str] = []

    def make(rail: str) -> np.ndarray:
        asked.append(rail)
        return np.ones(2)

    lazy = OnDemand(["gpu", "cpu"], make)
    other = changed(lazy, lambda _, watts: 2.0 * watts)
    assert list(other) == ["gpu", "cpu"]
    assert not asked
    assert other["gpu"] is other["gpu"]
    assert other["gpu"].tolist() == [2.0, 2.0]
    assert asked == ["gpu"]


def test_a_name_that_is_not_there_is_asked_of_nobody() -> None:
    lazy = OnDemand(["gpu"], lambda rail: 1 / 0)
    assert lazy.get("cpu") is None
    with pytest.raises(KeyError):
        lazy["cpu"]
