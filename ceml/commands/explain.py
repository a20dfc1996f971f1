"""`ceml explain`: why the running server chose this configuration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ceml.commands.asking import add_verb, ask, knobs, measured, number, table
from ceml.units import excess_text

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs,
        "explain",
        help="why this configuration",
        description="Tell the best candidates as the fitted model sees them now: rate, power and cost expected, how "
        "sure that is, the margin to each limit, and what was measured there; then the model's numbers with their "
        "units. The configuration in force is marked with *, and told also where it is not among the best.",
    )
    verb.add_argument("--json", action="store_true", help="one JSON object; null where something is not known")
    verb.add_argument("--top", type=int, default=5, metavar="N", help="how many candidates, 1 to 50 (default: 5)")


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    told = ask(args, "explain", top=args.top)
    print(json.dumps(told, allow_nan=False) if args.json else for_people(told))
    return 0


def for_people(told: dict[str, Any]) -> str:
    """The same as text, with units."""
    head = table(
        [
            ("program", told["app"] or "none"),
            ("objective", told["objective"]),
            ("because", told["why"]),
            ("model", f"{told['model']}: {told['sentence']}"),
            ("states", f"{told['states']}, {told['measured_states']} of them measured"),
            ("beware", told["unjudged"]),
        ]
    )
    candidates = [line for place, each in enumerate(told["candidates"], start=1) for line in _candidate(place, each)]
    numbers = [
        f"  {each['name']} = {number(each['value'], '.6g', '')} {each['unit']}".rstrip() for each in told["parameters"]
    ]
    parts = [head]
    if not told["measured_states"]:
        parts.append("nothing was measured yet: what the model expects of the states is a guess, and is not ranked")
    elif candidates:
        parts.append("\n".join(["candidates, the best first (expected; +- is one standard deviation)", *candidates]))
    if told["measured"]:
        rows = [f"  {knobs(each['configuration'])}: {measured(each)}" for each in told["measured"]]
        parts.append("\n".join(["measured, the latest first", *rows]))
    if numbers:
        parts.append("\n".join(["the model's numbers", *numbers]))
    return "\n\n".join(parts)


def _candidate(place: int, each: dict[str, Any]) -> list[str]:
    rate = number(each["rate_hz"], ".4g", " steps/s") + _spread(each["rate_sd"])
    power = number(each["power_w"], ".2f", " W") + _spread(each["power_sd"])
    energy, cost = number(each["energy_j"], ".4g", " J/step"), number(each["cost"], ".6g", "")
    lines = [
        f"{'*' if each['in_force'] else ' '} {place}. {knobs(each['configuration'])}",
        f"     {rate}, {power}, {energy}, cost {cost}",
    ]
    for name, left in each["margins"].items():
        lines.append(f"     {name}: {_left(left)}")
    if each["violation"] == 0.0 and each["violation_surely"] != 0.0:
        lines.append("     keeps the limits as expected, but not with 95 % certainty: searched only if none does")
    seen = each["measured"]
    if seen is not None:
        lines.append(f"     measured: {measured(seen)}")
    return lines


def _left(margin: float | None) -> str:
    if margin is None:
        return "margin not known"
    return f"{margin:.1%} left" if margin >= 0.0 else f"exceeded by {excess_text(-margin)}"


def _spread(sd: float | None) -> str:
    return f" +-{sd:.1%}" if sd is not None else ""
