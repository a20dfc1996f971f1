"""What is kept to put a machine back: ordered items, and what could not be put back. Standard library only.

`ceml restore` needs nothing else of the house, so this file stays light.
"""

from __future__ import annotations

from typing import NamedTuple

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


class Unrestored(NamedTuple):
    """One value that could not be put back, and why."""

    target: str
    reason: str
