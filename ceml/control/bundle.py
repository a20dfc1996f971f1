"""Several platforms as one: `--platform linux+nvml` turns and measures what each of them does. Settings, not code."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from ceml.control.ports import Platform
from ceml.domain.knobs import KnobSpace
from ceml.domain.values import Knowledge
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ceml.domain.values import DevicePower

_AND = re.compile(r"\+(?=[A-Za-z]\w*(?::|\+|$))")  # before a name; not the plus of 1e+3, nor one inside of a path
_ONLY = re.compile(r"power of (.+) only")
TOTAL, ESTIMATED = "total", "estimated"


def members(reference: str) -> list[str]:
    """The references of the platforms in `NAME[:OPTIONS]+NAME[:OPTIONS]`."""
    return _AND.split(reference)


def bundled(platforms: Sequence[Platform]) -> Platform:
    """All of them as one machine; one alone stays as it is.

    Its power is the rail `total` where one of them measures the whole machine, else the sum of what each counts. An
    estimate does not count where the processors are measured.

    Raises:
        SettingsError: Two have a knob, rail or sensor of the same name, or two bring a program or a stage of their own.
    """
    if len(platforms) == 1:
        return platforms[0]
    name = "+".join(platform.name for platform in platforms)
    _apart(name, "knob", [[knob.name for knob in platform.space.knobs] for platform in platforms])
    _apart(name, "rail", [platform.rails for platform in platforms])
    _apart(name, "sensor", [[sensor.name for sensor in platform.sensors] for platform in platforms])
    beats = [platform.beats for platform in platforms if platform.beats is not None]
    stages = [platform.stage for platform in platforms if platform.stage is not None]
    if len(beats) > 1 or len(stages) > 1:
        raise SettingsError(f"platform {name}: at most one of them can be a simulated board")
    counted, labels = _power([_honest(platform, platforms) for platform in platforms])
    return Platform(
        name=name,
        machine="+".join(platform.machine or platform.name for platform in platforms),
        space=_product([platform.space for platform in platforms]),
        sensors=tuple(sensor for platform in platforms for sensor in platform.sensors),
        actuators=tuple(actuator for platform in platforms for actuator in platform.actuators),
        total_rails=counted,
        rails=tuple(rail for platform in platforms for rail in platform.rails),
        zones=tuple(dict.fromkeys(zone for platform in platforms for zone in platform.zones)),
        beats=next(iter(beats), None),
        stage=next(iter(stages), None),
        labels=labels,
        knowledge=_knowledge(platforms),
        claims=tuple(claim for platform in platforms for claim in platform.claims),
        board={f"{each.name} {key}": value for each in platforms for key, value in each.board.items()},
    )


def _apart(name: str, what: str, names: Iterable[Sequence[str]]) -> None:
    seen: set[str] = set()
    for those in names:
        if twice := sorted(seen & set(those)):
            raise SettingsError(f"platform {name}: more than one of them has a {what} {twice[0]}; leave one out")
        seen |= set(those)


def _product(spaces: Sequence[KnobSpace]) -> KnobSpace:
    """Every state of one with every state of the others."""
    knobs = [knob for space in spaces for knob in space.knobs]
    whole = KnobSpace(knobs)  # says it where they are too many, before a mask of that size is made
    if all(space.present.all() for space in spaces):
        return whole
    present = spaces[0].present
    for space in spaces[1:]:
        present = (present[:, None] & space.present[None, :]).ravel()
    return KnobSpace(knobs, present)


def _honest(platform: Platform, all_of_them: Sequence[Platform]) -> Platform:
    """Without its estimate, where another measures what is estimated: it would count twice."""
    measured = {rail for other in all_of_them for rail in other.total_rails}
    if ESTIMATED not in platform.total_rails or not measured & {"cpu", TOTAL}:
        return platform
    return replace(platform, total_rails=(), labels=())


def _power(platforms: Sequence[Platform]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Rails that count, and what must be said; several `power of X only` are one."""
    measuring = [platform for platform in platforms if platform.total_rails]
    whole = [platform for platform in measuring if TOTAL in platform.total_rails]
    counted = whole[:1] or measuring
    labels = [
        label for platform in (*counted, *(p for p in platforms if not p.total_rails)) for label in platform.labels
    ]
    only = [match[1] for label in labels if (match := _ONLY.fullmatch(label))]
    others = [label for label in dict.fromkeys(labels) if not _ONLY.fullmatch(label)]
    said = [f"power of {' and '.join(dict.fromkeys(only))} only"] if only else []
    return tuple(rail for platform in counted for rail in platform.total_rails), (*said, *others)


def _knowledge(platforms: Sequence[Platform]) -> Knowledge | None:
    board: dict[str, DevicePower] = {}
    for platform in platforms:
        if platform.knowledge is not None:
            board |= platform.knowledge.board
    return Knowledge(board=board) if board else None
