"""The figures of a run for metrics: names, units and help, from the status that the control socket tells. Pure.

Names and units follow the conventions of Prometheus: base units in the name, `_total` on what only grows, ratios from
0 to 1. What is not known is left out. Nothing is counted here: the status is added up already, so that a figure costs
the same at ten heartbeats a second as at ten thousand.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    Status = Mapping[str, Any]
    Labelled = dict[tuple[tuple[str, str], ...], float]

TRIED = "Configurations measured since the program came or last changed."
_BOUND = re.compile(r" -?\d[^ ]* (W|steps/s|%|s|J|C)(?= |$)")  # in a limit's name: a new bound is no new series
PHASES = ("waiting", "profiling", "idle", "paused")


class Figure(NamedTuple):
    """One metric.

    Attributes:
        name: Without `_total`.
        help: What it is.
        unit: Of UCUM, as OpenTelemetry wants it; the name holds Prometheus' own.
        values: Labels -> value; a figure without any is not known.
        grows: Whether it only ever grows.
    """

    name: str
    help: str
    unit: str
    values: Labelled
    grows: bool = False


def figures_of(status: Status, version: str) -> tuple[Figure, ...]:
    """All figures, known or not.

    Args:
        status: As in `protocol.schema.json`.
        version: Of ceml.
    """
    latest: Status = status["latest"] or {}
    decided: Status = status["decided"] or {}
    return (
        _one("ceml_info", "What runs on what.", "1", 1.0, version=version, platform=status["platform"]),
        *_power(status),
        _grows("ceml_energy_joules", "Energy of the board since the run began.", "J", status["energy_j"]),
        _grows("ceml_steps", "Steps of the programs in control.", "{step}", status["steps"]),
        _grows("ceml_run_seconds", "Seconds of the run's clock.", "s", status["seconds"]),
        _grows("ceml_profiling_seconds", "Seconds spent profiling.", "s", status["profiling_s"]),
        _grows("ceml_decisions", "Configurations chosen.", "{decision}", status["decisions"]),
        _grows("ceml_guard_steps", "Broken limits stepped away from.", "{step}", status["guard_steps"]),
        _grows("ceml_phase_changes", "Changes of the program noticed.", "{change}", status["phase_changes"]),
        _grows("ceml_refused_lines", "Lines on the pipe that were no good.", "{line}", status["refused_lines"]),
        _one("ceml_step_rate_hertz", "Steps per second in the latest window.", "Hz", latest.get("rate_hz")),
        _one("ceml_step_energy_joules", "Energy per step in the latest window.", "J", latest.get("energy_j")),
        _one("ceml_states_tried", TRIED, "{state}", status["states_tried"]),
        _one("ceml_saving_ratio", "Of the energy per step, since the latest decision.", "1", status["saving"]),
        _one("ceml_saving_so_far_ratio", "The same over all steps, profiling included.", "1", status["saving_so_far"]),
        _one("ceml_temperature_celsius", "The hottest zone of the board.", "Cel", status["temperature_c"]),
        _one("ceml_feasible", "Whether all limits can hold, by the latest decision.", "1", decided.get("feasible")),
        Figure(
            "ceml_phase", "What the run is doing: 1 for the phase it is in.", "1",
            {(("phase", name),): float(name == status["phase"]) for name in PHASES},
        ),
        *_knobs(status),
    )  # fmt: skip


def _power(status: Status) -> tuple[Figure, ...]:
    rails = _by("rail", status["rails_w"])
    caps = _by("rail", status["rail_budgets_w"])
    headrooms = {_BOUND.sub("", each["name"]): each["headroom"] for each in status["limits"]}
    return (
        _one("ceml_board_power_watts", "Power of the whole board, last readings.", "W", status["power_w"]),
        _one("ceml_board_power_cap_watts", "Cap on it in force.", "W", status["budget_w"]),
        Figure("ceml_power_watts", "Power of each rail, last reading; a total may be among them.", "W", rails),
        Figure("ceml_power_cap_watts", "Caps on single rails in force.", "W", caps),
        Figure(
            "ceml_limit_headroom_ratio",
            "Share of a limit's bound that is left, as measured last; negative where broken.",
            "1",
            _by("limit", headrooms),
        ),
    )


def _knobs(status: Status) -> tuple[Figure, ...]:
    """Frequencies in Hz, other numbers as they are, words as labels."""
    levels: Mapping[str, float | str] = status["configuration"] or {}
    hertz = {name.removesuffix("_hz"): level for name, level in levels.items() if name.endswith("_hz")}
    highest = {name.removesuffix("_hz"): top for name, top in status["highest"].items() if name.endswith("_hz")}
    rest = {name: level for name, level in levels.items() if not name.endswith("_hz")}
    words = {(("knob", name), ("level", level)): 1.0 for name, level in rest.items() if isinstance(level, str)}
    return (
        Figure("ceml_frequency_hertz", "In force now, as read back.", "Hz", _by("device", hertz)),
        Figure("ceml_frequency_highest_hertz", "The highest that can be set.", "Hz", _by("device", highest)),
        Figure("ceml_knob_level", "Other knobs in force, in the unit that the name ends with.", "1", _by("knob", rest)),
        Figure("ceml_knob_word", "Knobs whose levels are words: 1 for the one in force.", "1", words),
    )


def _by(label: str, values: Mapping[str, object]) -> Labelled:
    return {((label, name),): float(value) for name, value in values.items() if isinstance(value, int | float)}


def _one(name: str, help: str, unit: str, value: float | None, **labels: str) -> Figure:
    return Figure(name, help, unit, {} if value is None else {tuple(labels.items()): float(value)})


def _grows(name: str, help: str, unit: str, value: float | None) -> Figure:
    return _one(name, help, unit, value)._replace(grows=True)
