"""Other programs that turn the same knobs, found by their processes and by what they leave behind. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ceml.errors import CemlError
from ceml.platforms import sysfs

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Rival:
    """A program that turns what we turn.

    Attributes:
        name: What it is called.
        seen: How it was noticed.
        does: What it changes.
        remedy: How to keep it out of the way.
    """

    name: str
    seen: str
    does: str
    remedy: str


# name of the program: (what it changes, what to do about it while CEML runs)
_DAEMONS = {
    "power-profiles-daemon": (
        "it sets governors and energy preferences when a profile is chosen",
        "sudo systemctl stop power-profiles-daemon",
    ),
    "tuned": ("it sets governors and limits of its profile", "sudo systemctl stop tuned"),
    "auto-cpufreq": ("it sets governors every few seconds", "sudo systemctl stop auto-cpufreq"),
    "thermald": (
        "it lowers limits when the machine is hot; that is protection",
        "leave it; where it fights with ceml, give ceml a lower power budget",
    ),
    "cpufreqd": ("it sets governors by its rules", "sudo systemctl stop cpufreqd"),
    "nvpmodel": ("it sets limits of all clocks when its mode is changed", "do not change the mode while ceml runs"),
}
_LEFT = {
    "/run/tlp/last_pwr": (
        "TLP",
        "it sets governors and limits when the power supply changes",
        "sudo systemctl mask --now tlp",
    ),
    "/etc/nvpmodel.conf": (
        "nvpmodel",
        "it sets limits of all clocks at boot and when its mode is changed; ceml stays within those it finds",
        "for all frequencies choose the mode without limits before starting ceml: sudo nvpmodel -m 0",
    ),
}
_LONGEST_NAME = 15  # of /proc/PID/comm


def rivals(root: str) -> list[Rival]:
    """Those that can be seen on the machine at `root`."""
    running = set(_programs(root))
    found = [
        Rival(name, "it is running", does, remedy)
        for name, (does, remedy) in _DAEMONS.items()
        if name in running or (len(name) > _LONGEST_NAME and name[:_LONGEST_NAME] in running)
    ]
    for path, (name, does, remedy) in _LEFT.items():
        where = sysfs.under(root, path)
        if sysfs.exists(where) and all(rival.name != name for rival in found):
            found.append(Rival(name, f"{where} is there", does, remedy))
    hot = list(_cooling(root))
    if hot:
        found.append(
            Rival(
                "cooling",
                f"at work now: {', '.join(hot)}",
                "it lowers limits while the machine is hot; a limit that is found now may be its own, and would be "
                "kept to and put back as if somebody had set it",
                "let the machine cool down before starting ceml",
            )
        )
    held = list(_held(root))
    if held:
        found.append(
            Rival(
                "jetson_clocks, or somebody who does the same",
                f"minimum and maximum are the same in {', '.join(held)}",
                "it holds clocks at one frequency; where a CPU's limits leave one level, ceml has nothing to turn",
                "sudo jetson_clocks --restore, before starting ceml",
            )
        )
    return found


def warn(root: str) -> None:
    """Name them in the log, at start: whoever reads it later sees who else could have turned a knob."""
    for rival in rivals(root):
        structlog.get_logger().warning("rival", name=rival.name, seen=rival.seen, does=rival.does, remedy=rival.remedy)


def _programs(root: str) -> Iterator[str]:
    """Names of running programs; a script counts by its own name, too."""
    for path in sysfs.find(root, "/proc/[0-9]*/comm"):
        try:
            yield sysfs.text(path)
            words = sysfs.text(f"{path[: -len('comm')]}cmdline").split("\0")
        except CemlError:  # it ended meanwhile
            continue
        yield from (word.rpartition("/")[2] for word in words[:2])


def _cooling(root: str) -> Iterator[str]:
    """Clocks that are being held down because of heat; fans are no rivals."""
    for path in sysfs.find(root, "/sys/class/thermal/cooling_device[0-9]*"):
        try:
            name, level = sysfs.text(f"{path}/type"), sysfs.number(f"{path}/cur_state")
        except CemlError:
            continue
        if level > 0 and any(word in name.lower() for word in ("freq", "cpu", "gpu", "processor", "emc")):
            yield f"{name} at {level}"


def _held(root: str) -> Iterator[str]:
    """Clocks whose limits somebody set to one value."""
    places = (
        ("/sys/devices/system/cpu/cpufreq/policy[0-9]*", "scaling_min_freq", "scaling_max_freq"),
        ("/sys/class/devfreq/*", "min_freq", "max_freq"),
    )
    for pattern, low, high in places:
        for path in sysfs.find(root, pattern):
            try:
                if sysfs.number(f"{path}/{low}") == sysfs.number(f"{path}/{high}"):
                    yield path
            except CemlError:
                continue
