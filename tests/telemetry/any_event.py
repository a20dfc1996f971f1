"""Random events of every kind, for tests that must hold for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from hypothesis import strategies as st

from ceml.domain import events
from ceml.domain.knobs import Configuration
from ceml.domain.values import FitStatus, Limits, Observation, Parameter

if TYPE_CHECKING:
    from ceml.domain.events import Event

names = st.text(max_size=10)
reals = st.floats()
mapped = st.dictionaries(names, reals, max_size=3)
configurations = st.dictionaries(names, st.floats(0, 1e10) | names, min_size=1, max_size=3).map(Configuration)
observations = st.builds(
    Observation,
    configuration=configurations,
    start_s=reals,
    end_s=reals,
    beats=st.integers(0),
    steps=reals,
    rate_hz=reals,
)
bounds = st.none() | st.floats(allow_nan=False, allow_infinity=False)
limits = st.builds(
    Limits,
    rail_caps_w=st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    **{name: bounds for name in Limits.__annotations__ if name != "rail_caps_w"},
)
of_type: dict[str, st.SearchStrategy[Any]] = {
    "Observation": observations,
    "Configuration": configurations,
    "Configuration | None": st.none() | configurations,
    "Limits": limits,
    "FitStatus": st.sampled_from(FitStatus),
    "Mapping[str, float]": mapped,
    "Mapping[str, int]": st.dictionaries(names, st.integers(), max_size=3),
    "Mapping[str, str]": st.dictionaries(names, names, max_size=3),
    "Mapping[str, tuple[float | str, ...]]": st.dictionaries(
        names, st.lists(st.floats(0, 1e10) | names).map(tuple), max_size=3
    ),
    "tuple[str, ...]": st.lists(names, max_size=3).map(tuple),
    "tuple[Parameter, ...]": st.lists(st.builds(Parameter, name=names, value=reals, unit=names), max_size=3).map(tuple),
    "tuple[int, ...]": st.lists(st.integers(), max_size=3).map(tuple),
    "tuple[float, ...]": st.lists(reals, max_size=3).map(tuple),
    "KnobSpace | None": st.none(),
    "float | str": names | st.floats(allow_nan=False, allow_infinity=False),
    "float": reals,
    "float | None": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "int": st.integers(),
    "int | None": st.none() | st.integers(),
    "str": names,
    "bool": st.booleans(),
    "object": st.none(),
}
any_event: st.SearchStrategy[Event] = st.one_of(
    st.builds(kind, **{name: of_type[hint] for name, hint in kind.__annotations__.items()})
    for kind in get_args(events.Event)
)
