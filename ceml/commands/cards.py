"""What `ceml doctor` says of discrete GPUs: those that a library answers for, and those that it would take one for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ceml.errors import CemlError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ceml.platforms.levers import Lever

Card = dict[str, Any]

VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD"}  # PCI ids
VENDOR_FILES = "/sys/class/drm/card[0-9]*/device/vendor"


def cards(root: str) -> tuple[list[Card], list[str]]:
    """The GPUs, and what is missing; nothing is changed. Libraries know of this machine only."""
    found: list[Card] = []
    missing: list[str] = []
    seen = _vendors(root)
    for maker, look in {"NVIDIA": _nvidia, "AMD": _amd}.items() if root == "/" else ():
        try:
            found += look()
        except CemlError as error:
            if maker in seen:
                missing.append(f"there is an {maker} GPU, which cannot be asked: {error}")
    return found, missing


def _vendors(root: str) -> set[str]:
    from ceml.platforms import sysfs

    makers: set[str] = set()
    for path in sysfs.find(root, VENDOR_FILES):
        try:
            makers.add(VENDORS.get(sysfs.text(path).strip(), ""))
        except CemlError:
            continue
    return makers


def _nvidia() -> list[Card]:
    from ceml.platforms import nvidia, nvml
    from ceml.platforms.card import Card as Nvidia

    library = nvidia.started()
    return _each("nvml", lambda index: (card := Nvidia(library, index), *nvml.look(card, nvml.KNOBS)))


def _amd() -> list[Card]:
    from ceml.platforms import amd, radeon
    from ceml.platforms.radeoncard import RadeonCard

    library = radeon.started()
    return _each("amd", lambda index: (card := RadeonCard(library, index), *amd.look(card)))


def _each(platform: str, look: Callable[[int], tuple[Any, Sequence[Lever], Sequence[str]]]) -> list[Card]:
    listed: list[Card] = []
    while True:
        try:
            card, levers, problems = look(len(listed))
        except CemlError:
            return listed
        which = f":gpu={len(listed)}" if listed else ""
        knobs = {lever.knob.name: list(lever.knob.levels) for lever in levers}
        listed.append({"name": card.name, "platform": f"{platform}{which}", "knobs": knobs, "missing": list(problems)})
