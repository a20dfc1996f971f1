"""Options that the benches share, checked before anything is played."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ceml.errors import SettingsError

SEEDS = re.compile(r"(?:(?P<low>\d{1,18})\.\.)?(?P<high>\d{1,18})", re.ASCII)


def seeds_of(text: str) -> range:
    """`0..9`, or `10` for the first ten.

    Raises:
        SettingsError: No such form, or no seed in it.
    """
    match = SEEDS.fullmatch(text.strip())
    seeds = range(int(match["low"] or 0), int(match["high"]) + (1 if match["low"] else 0)) if match else range(0)
    if not seeds:
        raise SettingsError(f"--seeds {text}: write LOW..HIGH, e.g. 0..9, or how many, e.g. 10")
    return seeds


def whole(name: str, number: int) -> int:
    """A number that counts something.

    Raises:
        SettingsError: It is below 1.
    """
    if number < 1:
        raise SettingsError(f"--{name} {number}: give 1 or more")
    return number


def processes(jobs: int | None) -> int:
    """How many to use at once; by default one for each processor that may be used.

    Raises:
        SettingsError: It is below 1.
    """
    return len(os.sched_getaffinity(0)) if jobs is None else whole("jobs", jobs)


def check_target(target: str | None) -> None:
    """Better now than after minutes of playing.

    Raises:
        SettingsError: The file cannot be written.
    """
    if target in (None, "-"):
        return
    try:
        with Path(target).open("a", encoding="utf-8"):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"--json {target} cannot be written: {reason}; give the path of a file, or -") from None
