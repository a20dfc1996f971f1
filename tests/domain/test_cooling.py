"""What cooling keeps out of reach. Not covered: what a mind makes of it (test_manager.py)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.cooling import BEFORE_S, Cooling
from ceml.domain.events import Throttled
from ceml.domain.knobs import Configuration, Knob, KnobSpace

SPACE = KnobSpace([Knob(name="a", levels=(1.0, 2.0, 3.0)), Knob(name="b", levels=(1.0, 2.0))])


def told(cooling: Cooling, at_s: float, *reasons: str, sensor: str = "heat") -> tuple[Configuration, ...]:
    return cooling.told(Throttled(at_s=at_s, sensor=sensor, reasons=reasons))


@given(st.lists(st.tuples(st.sampled_from(["heat", "gpu"]), st.booleans()), max_size=20))
def test_it_is_on_while_any_sensor_says_so(says: list[tuple[str, bool]]):
    cooling, on = Cooling(), set[str]()
    for sensor, hot in says:
        told(cooling, 0.0, *(["hot"] if hot else []), sensor=sensor)
        (on.add if hot else on.discard)(sensor)
        assert cooling.on == bool(on)


@given(st.lists(st.floats(0.0, 100.0), max_size=20))
def test_what_was_missed_shortly_before_or_during_it_is_forgiven_once_it_is_over(times: list[float]):
    cooling = Cooling()
    for at_s in sorted(at_s for at_s in times if at_s < 50.0):
        cooling.missed(at_s, Configuration({"a": at_s}))
    assert told(cooling, 50.0, "hot") == ()
    for at_s in sorted(at_s for at_s in times if at_s >= 50.0):
        cooling.missed(at_s, Configuration({"a": at_s}))
    assert told(cooling, 100.0, "hotter") == ()
    forgiven = {state["a"] for state in told(cooling, 101.0)}
    assert forgiven == {at_s for at_s in times if at_s >= 50.0 - BEFORE_S}
    assert told(cooling, 102.0) == ()


def test_only_while_it_cools_are_higher_levels_left_alone():
    cooling = Cooling()
    asked, reached = Configuration({"a": 3.0, "b": 2.0}), Configuration({"a": 1.0, "b": 2.0})
    assert cooling.above(asked, reached, SPACE) == []
    told(cooling, 0.0, "hot")
    assert cooling.above(asked, reached, SPACE) == [Configuration({"a": 2.0}), Configuration({"a": 3.0})]
    assert cooling.above(asked, Configuration({"a": "governor", "b": 2.0}), SPACE) == []
