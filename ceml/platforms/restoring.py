"""Putting back what a journal holds, of whatever kind, without the platform that saved it. Standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.platforms import affinity, nvidia, radeon, sysfs
from ceml.saved import Unrestored
from ceml.store import board_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ceml.saved import Item

PUT_BACK: dict[str, Callable[[Sequence[Item]], tuple[Unrestored, ...]]] = {
    board_file.KIND: board_file.put_back,
    sysfs.KIND: sysfs.put_back,
    affinity.KIND: affinity.put_back,
    nvidia.KIND: nvidia.put_back,
    radeon.KIND: radeon.put_back,
}


def put_back(items: Sequence[Item]) -> tuple[Unrestored, ...]:
    """Put every item back, each on its own; returns what could not be, and why."""
    failed = [
        Unrestored(item.target, f"{item.kind} is nothing this ceml knows")
        for item in items
        if item.kind not in PUT_BACK
    ]
    for kind, put in PUT_BACK.items():
        failed += put([item for item in items if item.kind == kind])
    return tuple(failed)
