"""Upper limits that others set on what is turned: told from our own, and from what the kernel's cooling does.

Where a limit is the very file that we write (a power limit, `scaling_max_freq`, a devfreq maximum), only what it read
when we wrote it tells whose it is. From kernel 5.x on such a file shows the lower of what was asked for and what
cooling leaves: while the kernel cools, nobody can tell who lowered it, so it is no value to put back, and nothing above
it is written.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ceml.control.ports import NewLimit
from ceml.domain.knobs import KnobKind
from ceml.errors import CemlError, Temporary
from ceml.saved import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ceml.domain.knobs import Knob
    from ceml.saved import Saved

SHOWN = 1e-6  # relative: limits are shown in whole kHz


@runtime_checkable
class Ranged(Protocol):
    """A lever within limits that somebody else sets."""

    @property
    def knob(self) -> Knob:
        """What it turns."""
        ...

    def bounds(self, prior: Mapping[str, str]) -> tuple[float, float]:
        """The lowest and the highest level that may be asked for.

        Args:
            prior: What others set where we write, by target (of `items`); what is not among them is read.

        Raises:
            CemlError: It cannot be read now.
        """
        ...

    @property
    def unit(self) -> float:
        """Of the number in a limit: levels are this many times as large."""
        ...

    def limits(self) -> tuple[Item, ...]:
        """Upper limits that others may set, as they are now: who else lowers one of them means it."""
        ...

    def items(self) -> tuple[Item, ...]:
        """Everything that it writes, as it is now."""
        ...


@runtime_checkable
class Wrote(Protocol):
    """A lever over several devices, each of which it may have written another limit to."""

    def wrote(self) -> Mapping[str, str]:
        """What it wrote last, by target."""
        ...


@runtime_checkable
class HeldDown(Protocol):
    """A lever that can tell of itself whether firmware holds it down, with no cooling device to say so."""

    def held_down(self) -> bool:
        """Whether its limits read lower for that now than anybody set."""
        ...

    def raised(self) -> tuple[Item, ...]:
        """Limits that were the hardware's own, where that can do more now: as they would read without us."""
        ...


class Fences:
    """What the limits of each lever read when they were last ours, or were seen to be somebody else's."""

    def __init__(self, cools: Callable[[str], bool]) -> None:
        """Nothing stands yet.

        Args:
            cools: Whether the kernel itself holds clocks of a device (`cpu`, `gpu`, `mem`) down now.
        """
        self._cools = cools
        self._stood: dict[str, dict[str, str]] = {}  # knob -> target -> value

    def stand(self, lever: Ranged, put: float | None = None) -> None:
        """As they read now they are right; where the kernel cools, those that were `put` read as that afterwards."""
        stood = {item.target: item.value for item in lever.limits() if item.value is not None}
        if put is not None and lever.knob.kind is not KnobKind.POWER_LIMIT:
            same = f"{round(put / lever.unit)}"
            ours = lever.wrote() if isinstance(lever, Wrote) else dict.fromkeys(stood, same)
            if any(value != ours.get(target, value) for target, value in stood.items()) and self._held(lever):
                written = {item.target for item in lever.items()}
                stood |= {target: value for target, value in ours.items() if target in written}
        self._stood[lever.knob.name] = stood

    def _held(self, lever: Ranged) -> bool:
        """Whether the kernel or firmware holds it down now, which ends by itself and is nobody's limit."""
        return self._cools(lever.knob.device) or (isinstance(lever, HeldDown) and lever.held_down())

    def changed(self, lever: Ranged) -> list[tuple[Item, bool]]:
        """Those that read otherwise, and whether lower."""
        stood = self._stood.get(lever.knob.name, {})
        return [
            (item, _number(item.value) < _number(ours))
            for item in lever.limits()
            if item.value is not None and (ours := stood.get(item.target)) is not None and item.value != ours
        ]

    def cooled(self, lever: Ranged) -> bool:
        """Whether one reads lower while the kernel cools: a power limit never is, cooling leaves those alone."""
        lower = lever.knob.kind is not KnobKind.POWER_LIMIT and any(lower for _, lower in self.changed(lever))
        return lower and self._held(lever)

    def may_put(self, lever: Ranged, level: float | str) -> bool:
        """Whether a level may be put: not where that raised what the kernel's cooling left of the limit that we write.

        Raises:
            Temporary: Somebody lowered a limit since it was last looked at: look first.
        """
        changed = self.changed(lever)
        if not any(lower for _, lower in changed):
            return True
        if lever.knob.kind is KnobKind.POWER_LIMIT or not self._held(lever):
            raise Temporary(f"somebody lowered the limit of {lever.knob.name} just now; it is looked at again")
        written = {item.target for item in lever.items()}
        left = [_number(item.value) * lever.unit for item, _ in changed if item.target in written]
        return isinstance(level, str) or level < min(left, default=inf) * (1.0 - SHOWN)

    def new(self, levers: Sequence[object], knobs: Collection[str]) -> tuple[NewLimit, ...]:
        """Limits of these knobs that somebody else set; each is told once."""
        found: list[NewLimit] = []
        for lever in levers:
            if not isinstance(lever, Ranged) or lever.knob.name not in knobs:
                continue
            changed = self.changed(lever)
            if changed and not (lever.knob.kind is not KnobKind.POWER_LIMIT and self._held(lever)):
                found += [NewLimit(lever.knob.name, item, lower) for item, lower in changed]
                self.stand(lever)
            if isinstance(lever, HeldDown):
                found += [NewLimit(lever.knob.name, item, lowers=False) for item in lever.raised()]
        return tuple(found)

    def uncooled(self, levers: Sequence[object], now: Saved, before: Saved) -> Saved:
        """What stands there now, but limits of clocks that are held down as they were before: that goes by itself."""
        known, kept = before.values, list[Item]()
        for lever in levers:
            if isinstance(lever, Ranged) and lever.knob.kind is not KnobKind.POWER_LIMIT and self._held(lever):
                for item in lever.limits():
                    old = known.get(item.target)
                    if old is not None:
                        kept.append(item._replace(value=old))
                        self._stood.setdefault(lever.knob.name, {})[item.target] = old
        return now.with_values(kept)

    def cools(self, levers: Sequence[object]) -> bool:
        """Whether the kernel holds clocks of these down now."""
        try:
            return any(
                self._cools(lever.knob.device)
                for lever in levers
                if isinstance(lever, Ranged) and lever.knob.kind is not KnobKind.POWER_LIMIT
            )
        except CemlError:
            return False


def _number(value: str | None) -> float:
    """Of a limit as its driver words it; `max` and what is no number are no limit at all."""
    try:
        number = float((value or "").split()[0])
    except (ValueError, IndexError):
        return inf
    return number if number > 0.0 else inf
