"""What is kept to put a machine back: ordered items, and what could not be put back. Standard library only.

`ceml restore` needs nothing else of the house, so this file stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

VOLATILE = frozenset({"affinity"})  # kinds of values that change by themselves, as threads come and go


class Item(NamedTuple):
    """One value to put back.

    Attributes:
        kind: Who knows how (`board_file`, later `sysfs`).
        target: Where, e.g. the path of a file, or `path#key`.
        value: The prior value as text; None: reset to the driver's default.
    """

    kind: str
    target: str
    value: str | None


class Saved(NamedTuple):
    """Items in the order in which they must be put back."""

    items: tuple[Item, ...] = ()

    def with_values(self, items: Iterable[Item]) -> Saved:
        """The same targets in the same order, of those named with these values."""
        new = {(item.kind, item.target): item for item in items}
        return Saved(tuple(new.get((item.kind, item.target), item) for item in self.items))

    @property
    def values(self) -> dict[str, str]:
        """Value by target; what is reset to a driver's default has none."""
        return {item.target: item.value for item in self.items if item.value is not None}


class Unrestored(NamedTuple):
    """One value that could not be put back, and why."""

    target: str
    reason: str
