"""`ceml status`: how the running server stands."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from ceml.commands.asking import add_verb, ask, knobs, measured, number, table
from ceml.units import between_text, excess_text

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs

_EPILOG = """\
examples:
  ceml status
  ceml status --json | jq .rails_w
  ceml status --watch              anew every second, until Ctrl-C; with --json one object a line
"""

BEFORE = " (before the pause)"


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs,
        "status",
        help="how the running server stands",
        description="Tell power, frequencies, rate, phase, energy per step, limits and headroom, what was decided and "
        "what was saved so far. Whoever may connect to the control socket may ask.",
        epilog=_EPILOG,
    )
    verb.add_argument("--json", action="store_true", help="one JSON object; null where something is not known")
    verb.add_argument("--watch", action="store_true", help="again every second")


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    while True:
        status = ask(args, "status")
        text = json.dumps(status, allow_nan=False) if args.json else for_people(status)
        clear = "\x1b[H\x1b[2J" if args.watch and not args.json and sys.stdout.isatty() else ""
        print(f"{clear}{text}", flush=True)
        if not args.watch:
            return 0
        if not args.json and not clear:
            print(flush=True)
        time.sleep(1.0)


def for_people(status: dict[str, Any]) -> str:
    """The same as a table, with units."""
    from ceml.domain.values import spoken

    paused, saved = status["phase"] == "paused", _saving(status)
    left_alone = " (as they were found: control is paused, ceml resume takes it again)" if paused else ""
    return table(
        [
            ("phase", spoken(status["phase"]) + (f", program {status['app']}" if status["app"] else "")),
            ("platform", ", ".join([status["platform"], *status["labels"]])),
            ("objective", status["objective"]),
            ("running at", knobs(status["configuration"]) + left_alone),
            ("because", status["why"]),
            ("power", "  ".join(f"{rail} {number(watts, '.2f', ' W')}" for rail, watts in status["rails_w"].items())),
            ("hottest", number(status["temperature_c"], ".1f", " C") if status["temperature_c"] is not None else ""),
            ("measured", _latest(status)),
            *[("limit", limit(each) + _when(status)) for each in status["limits"]],
            ("decided", _decided(status)),
            ("undecided", _undecided(status)),
            ("tried", _tried(status)),
            ("saving", saved + (BEFORE if paused and saved else "")),
            ("beware", f"another program, {status['others']}, was here: power is of all" if status["others"] else ""),
            (
                "so far",
                f"{status['seconds']:.1f} s, {status['steps']:.0f} steps, {number(status['energy_j'], '.0f', ' J')}",
            ),
        ]
    )


def limit(told: dict[str, Any]) -> str:
    """A limit and what is left of it."""
    left: float | None = told["headroom"]
    if left is None:
        return f"{told['name']} (headroom not known)"
    return f"{told['name']}, " + (f"{left:.1%} headroom" if left >= 0 else f"exceeded by {excess_text(-left)}")


def _when(status: dict[str, Any]) -> str:
    """Of when headroom is told: where another state is in force than was measured last, of its power now."""
    if status["phase"] != "paused":
        return ""
    latest = status["latest"]
    return BEFORE if latest and latest["configuration"] == status["configuration"] else " (now, while paused)"


def _latest(status: dict[str, Any]) -> str:
    latest = status["latest"]
    if not latest:
        return ""
    paused, here = status["phase"] == "paused", latest["configuration"] == status["configuration"]
    at = f" at {knobs(latest['configuration'])}" if paused or not here else ""
    return f"{measured(latest)}{at}{BEFORE if paused else ''}"


def _decided(status: dict[str, Any]) -> str:
    decided = status["decided"]
    times = f"{status['decisions']} times in this run"
    if decided is None:
        return times if status["decisions"] else "nothing yet"
    holds = "" if decided["feasible"] else "; THE LIMITS CANNOT ALL HOLD"
    return f"{knobs(decided['configuration'])} ({decided['why']}){holds}; {times}"


def _undecided(status: dict[str, Any]) -> str:
    """Why nothing was decided lately, where that was the last word on it."""
    said = [each for each in status["happened"] if each["what"] in ("decided", "undecided", "joined", "objective")]
    return said[-1]["text"] if said and said[-1]["what"] == "undecided" else ""


def _tried(status: dict[str, Any]) -> str:
    if status["app"] is None:
        return ""
    profiling = f"{status['profiling_s']:.1f} s of profiling in this run"
    return f"{status['states_tried']} states since {status['app']} came or last changed; {profiling}"


def _saving(status: dict[str, Any]) -> str:
    if status["saving"] is None:
        between = between_text(status["saving_between"])
        return f"{between} of the energy per step against {status['baseline']}" if between else ""
    whole = status["saving_so_far"]
    over = f"; {whole:.1%} over all steps so far" if whole is not None else ""
    return f"{status['saving']:.1%} of the energy per step against {status['baseline']}{over}"
