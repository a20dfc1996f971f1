"""What `ceml calibrate` measured of a machine (C9): beside what runs learnt of it, plain JSON, safe to delete.

DIRECTORY/<machine>/power.json
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ceml.domain.values import DevicePower
from ceml.store.knowledge_file import VERSION, KeptFile, Name, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ceml.store.knowledge import KnowledgeStore

FILE = "power.json"
Watts = Annotated[float, Field(ge=0.0, le=100_000.0, allow_inf_nan=False)]
Hertz = Annotated[float, Field(gt=0.0, le=1e12, allow_inf_nan=False)]


class _Level(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    level_hz: Hertz
    slope_w: Watts
    idle_w: Watts


class PowerFile(KeptFile):
    """Lines of Eq. 2, ascending by level, per device."""

    made_by: ClassVar[str] = "`ceml calibrate` makes it anew"
    format: Literal["ceml-power"] = "ceml-power"
    version: Literal[1] = VERSION
    machine: Name
    devices: dict[Name, Annotated[tuple[_Level, ...], Field(min_length=1, max_length=4096)]]

    @model_validator(mode="after")
    def _ascend(self) -> PowerFile:
        for device, levels in self.devices.items():
            if any(before.level_hz >= after.level_hz for before, after in pairwise(levels)):
                raise ValueError(f"devices.{device}: levels must ascend")
        return self


def path_of(store: KnowledgeStore) -> Path:
    """Where it lies."""
    return store.directory / FILE


def write(store: KnowledgeStore, board: Mapping[str, DevicePower]) -> Path:
    """Keep it; returns where.

    Raises:
        OSError: It cannot be written.
    """
    devices = {
        device: tuple(
            _Level(level_hz=hz, slope_w=slope, idle_w=idle)
            for hz, slope, idle in zip(power.levels_hz, power.slope_w, power.idle_w, strict=True)
        )
        for device, power in board.items()
    }
    store.write(path_of(store), PowerFile(machine=store.machine, devices=devices))
    return path_of(store)


def read(store: KnowledgeStore) -> dict[str, DevicePower]:
    """What was kept of this machine; empty: nothing.

    Raises:
        SettingsError: The file cannot be understood, or is another machine's.
    """
    path = path_of(store)
    if not path.exists():
        return {}
    return {
        device: DevicePower(
            levels_hz=tuple(level.level_hz for level in levels),
            slope_w=tuple(level.slope_w for level in levels),
            idle_w=tuple(level.idle_w for level in levels),
        )
        for device, levels in parsed(path, PowerFile, store.machine).devices.items()
    }
