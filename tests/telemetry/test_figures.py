"""The figures that metrics are made of, and Prometheus' text of them. Not covered: a scrape (test_prometheus.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.api.protocol import Happening, Limit, Measurement, Status
from ceml.domain.budget import constraints_of
from ceml.domain.values import Limits
from ceml.telemetry import figures
from ceml.telemetry.figures import figures_of

reals = st.floats()
names = st.text("abcxyz019 _.%-", max_size=8)  # how other letters are written and read is the library's matter
knobs = names | names.map(lambda name: f"{name}_hz")
rails = st.dictionaries(names, reals, max_size=3)
statuses = st.builds(
    Status,
    at_s=st.floats(0, 1e9),
    rails_w=rails,
    rail_budgets_w=rails,
    configuration=st.none() | st.dictionaries(knobs, st.floats(0, 1e10) | names, max_size=3),
    highest=st.dictionaries(knobs, st.floats(0, 1e10), max_size=3),
    latest=st.none() | st.builds(Measurement, configuration=st.just({}), rate_hz=reals, power_w=reals, energy_j=reals),
    limits=st.lists(st.builds(Limit, name=names, headroom=reals), max_size=3),
    decided=st.none(),
    saving_between=st.none() | st.tuples(st.floats(-9, 1), st.floats(-9, 1)),
    happened=st.lists(st.builds(Happening), max_size=1),
    **dict.fromkeys(
        ["power_w", "budget_w", "energy_j", "saving", "saving_so_far", "temperature_c"], reals
    ),
)  # fmt: skip


@given(statuses)
def test_names_are_conventional_and_values_are_numbers_that_are_known(status: Status):
    told = figures_of(status.model_dump(), "1.0")
    assert len({figure.name for figure in told}) == len(told)
    for figure in told:
        assert re.fullmatch(r"ceml_[a-z]+(_[a-z]+)*", figure.name)
        assert not figure.name.endswith(("_total", "_count", "_sum"))
        assert figure.help.endswith(".")
        assert all(value is not None for value in figure.values.values())
        kinds = {tuple(name for name, _ in labels) for labels in figure.values}
        assert len(kinds) <= 1, "the same labels on all values of a figure"


@given(statuses)
def test_prometheus_reads_back_what_it_is_told(status: Status):
    pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.parser import text_string_to_metric_families

    from ceml.telemetry.prometheus import Figures

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(status.model_dump, "1.0"))
    text = generate_latest(registry).decode()
    read = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    for figure in figures_of(status.model_dump(), "1.0"):
        for labels, value in figure.values.items():
            key = (f"{figure.name}_total" if figure.grows else figure.name, tuple(sorted(labels)))
            assert read[key] == value or (read[key] != read[key] and value != value), "no number is none there, too"


def test_another_bound_of_the_same_limit_is_no_other_series():
    def labels(limits: Limits) -> set[object]:
        told = [{"name": each.name, "headroom": 0.1} for each in constraints_of(limits)]
        status = dict.fromkeys(Status.model_fields, 0) | {"latest": None, "decided": None, "configuration": None}
        status |= {"rails_w": {}, "rail_budgets_w": {}, "limits": told, "highest": {}, "phase": "idle", "platform": "x"}
        (figure,) = (each for each in figures_of(status, "1.0") if each.name == "ceml_limit_headroom_ratio")
        return set(figure.values)

    one = Limits(power_cap_w=8.0, rail_caps_w={"gpu": 3.0}, target_hz=2.5, max_slowdown=0.1, max_temperature_c=70.0)
    other = Limits(
        power_cap_w=7.25, rail_caps_w={"gpu": 1e-5}, target_hz=1e9, max_slowdown=0.055, max_temperature_c=80.5
    )
    assert labels(one) == labels(other)
    assert len(labels(one)) == 5
    assert (("limit", "power cap of rail gpu"),) in labels(one)


def test_the_dashboard_asks_for_figures_that_there_are():
    folder = Path(figures.__file__).parent
    dashboard = json.loads((folder / "grafana.json").read_text())
    status = dict.fromkeys(Status.model_fields, 0) | {"latest": None, "decided": None, "configuration": None}
    status |= {"rails_w": {}, "rail_budgets_w": {}, "limits": [], "highest": {}, "phase": "idle", "platform": "x"}
    known = {f"{figure.name}_total" if figure.grows else figure.name for figure in figures_of(status, "1.0")}
    asked = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            asked |= set(re.findall(r"ceml_\w+", target["expr"]))
    assert len(asked) >= 14
    assert asked <= known
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
