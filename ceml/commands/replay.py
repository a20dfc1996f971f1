"""`ceml replay`: the same runtime in virtual time on a measured table, scored against the table's true best."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ceml.commands.flags import LIVE_ONLY, add_settings_flags, given_flags

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs

_EPILOG = """\
examples:
  ceml replay TABLE.csv --workload NAME
  ceml replay TABLE.csv --workload NAME --objective performance --budget 8W --search local
  ceml replay TABLE.csv --workload NAME --fix cpu_cores=12 --limit gpu_hz=420MHz..1.3GHz --seed 3 --json
  ceml replay jetson-tx2 --workload vit      the simulated Jetson TX2 instead of a table
"""

_SKIPPED = (
    "platform",
    "table",
    "board",
    "speed",
    "dry_run",
    "pipe",
    "runtime_dir",
    "group",
    "verbose",
    "quiet",
    "budget_file",
    *LIVE_ONLY,
)


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    import argparse

    verb = verbs.add_parser(
        "replay",
        help="play a measured table in virtual time and score the choice",
        description="Play a measured table (CSV: one row per state; see the README) as a board on which a program "
        "runs, let the runtime tune it, and score what it did against the true best state of the table. Thousands of "
        "steps take about a second; the same seed gives the same run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_argument("table", metavar="TABLE.csv", help="a measured table, or jetson-tx2 for the simulated board")
    verb.add_argument("--steps", type=int, default=2000, metavar="N", help="length of the run (default: 2000)")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    verb.add_argument("--config", type=Path, metavar="CONFIG.toml", help="settings from a file")
    add_settings_flags(verb, skip=(*_SKIPPED, "log_format"))


def run(args: argparse.Namespace) -> int:
    """Play and score."""
    from ceml.bench.play import Played, play
    from ceml.sources import load

    flags: dict[str, object] = given_flags(args) | {"platform": "replay"}
    if args.table == "jetson-tx2":
        del flags["table"]
        flags["platform"] = "simulated"
    played: Played = play(load(args.config, flags, os.environ), steps=args.steps)
    print(json.dumps(played.as_json(), allow_nan=False) if args.json else _for_people(played.as_json()))
    return 0


def _for_people(figures: dict[str, Any]) -> str:
    """The figures as a table, with units and in the order in which one asks."""

    def percent(name: str) -> str:
        return "unknown" if figures[name] is None else f"{round(figures[name], 3) + 0.0:.1%}"  # -0.0 is 0.0

    def joules(name: str) -> str:
        return "unknown" if figures[name] is None else f"{figures[name]:.4g} J"

    levels: dict[str, float | str] = figures["chosen"] or {}
    chosen = _levels(levels)
    if figures["schedule"]:
        (_, share), (other, rest) = figures["schedule"]
        chosen = f"{chosen} for {share:.0%} of the time, in turns with {_levels(other)} for {rest:.0%}"
    most = f"best state {joules('best_energy_j')}, maximum frequencies {joules('max_state_energy_j')}"
    # the best state by another objective may need more energy, and of several phases there is no one best
    excess = "" if figures["run_excess"] is None else f", {percent('run_excess')} above the best state's"
    rows = [
        ("table", f"{figures['table']}, {figures['workload']}"),
        ("asked for", _asked(figures)),
        *_changed(figures),
        ("states", f"{figures['states']}, tried {figures['states_tried']}"),
        ("chosen", f"{chosen or 'nothing'}  ({figures['why']})"),
        ("energy per step", f"{joules('chosen_energy_j')} there ({most})"),
        ("regret", f"{percent('regret')} above the best state, by the objective" if chosen else "nothing was chosen"),
        ("constraints", _FEASIBLE[figures["feasible"]]),
        ("energy of the run", f"{joules('run_energy_j')} in {figures['run_s']:.1f} s{excess}"),
        ("saving", f"{percent('saving')} against maximum frequencies; {percent('possible_saving')} were possible"),
        ("above the cap", _above(figures)),
        (
            "model error",
            f"rate {percent('rate_error')}, power {percent('power_error')} over all states{_inside(figures)}",
        ),
        ("one decision", "none" if figures["decision_s"] is None else f"{figures['decision_s'] * 1e3:.2f} ms here"),
    ]
    if figures["schedule"]:
        rows.append(("note", "two states in turns may beat the best single one, of which best and possible speak"))
    rows += [("note", label) for label in figures["labels"]]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _levels(levels: dict[str, float | str]) -> str:
    from ceml.domain.knobs import level_text

    return " ".join(f"{knob}={level_text(knob, level)}" for knob, level in levels.items())


_FEASIBLE = {
    True: "kept by the chosen state",
    False: "broken by more than 2 % by the chosen state",
    None: "nothing was chosen",
}


def _asked(figures: dict[str, Any]) -> str:
    limits = ", ".join(figures["limits"]) or "no limits"
    asked = f"{figures['objective']} by model {figures['model']}, search {figures['search']}"
    return f"{asked}, sampler {figures['sampler']}, {limits}"


def _changed(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """What a scenario made of limits and objective; a row only where it changed them."""
    times: int = figures["limits_changed"]
    at_end = ", ".join(figures["limits_at_end"]) or "no limits"
    often = "once" if times == 1 else f"{times} times"
    rows = [("limits at the end", f"{at_end}; changed {often}")] if times else []
    if figures["objective_at_end"] != figures["objective"]:
        rows.append(("objective at the end", f"{figures['objective_at_end']}: what the chosen state is held against"))
    return rows


def _inside(figures: dict[str, Any]) -> str:
    rate, power = figures["rate_coverage"], figures["power_coverage"]
    if rate is None or power is None:
        return ""
    return f"; its 90 % intervals hold the truth in {rate:.0%} and {power:.0%} of them"


def _above(figures: dict[str, Any]) -> str:
    if not figures["capped"]:
        return "there is none on the whole board"
    if figures["seconds_above_cap"] is None:
        return "unknown: power was not measured"
    return f"{figures['seconds_above_cap']:.2f} s by more than 2 %, at most {figures['max_over_cap_w']:.2f} W"
