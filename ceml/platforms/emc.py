"""The clock of the external memory (EMC) of a Jetson, by whichever interface this kernel has. Hz.

- BPMP in debugfs (TX2, Xavier, Orin): 1 to `mrq_rate_locked`, the rate to `rate`. No list of rates exists; candidates
  come from the firmware's `dvfs_table` or, where that is missing, from the board's profile, and each is believed only
  once it was read back. Firmware may clamp (Orin) or round up (AGX Xavier).
- Clock override in debugfs (TX1, Nano): 1 to `clk_state`, the rate to `clk_update_rate`.
- Limits in debugfs (mainline): `available_rates`, `min_rate`, `max_rate`.

The cap that nvpmodel sets (`emc_iso_cap`) is the user's: it is respected and never written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ceml.errors import CemlError
from ceml.platforms import sysfs
from ceml.platforms.levers import nearest, settled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ceml.domain.knobs import Knob, Level
    from ceml.saved import Item

BPMP = "/sys/kernel/debug/bpmp/debug/clk/emc"
OVERRIDE = "/sys/kernel/debug/clk/override.emc"
BWMGR = "/sys/kernel/debug/tegra_bwmgr"
MAINLINE = "/sys/kernel/debug/emc"
CAP = "/sys/kernel/nvpmodel_emc_cap/emc_iso_cap"
WAIT_S = 0.06  # 8 ms on an Orin Nano (arXiv 2606.16106)

FREE = "free"  # nobody holds the clock: the firmware moves it

_ROW = re.compile(r"^\s*vdd_core\S*\s+(\d+)", re.MULTILINE)


def kind(root: str) -> str | None:
    """Which interface the tree at `root` has: `bpmp`, `override`, `limits`, or None."""
    for name, path in (
        ("bpmp", f"{BPMP}/rate"),
        ("override", f"{OVERRIDE}/clk_state"),
        ("limits", f"{MAINLINE}/available_rates"),
    ):
        if sysfs.exists(sysfs.under(root, path)):
            return name
    return None


def rates_hz(root: str, candidates_hz: Sequence[float]) -> tuple[float, ...]:
    """Rates worth trying, ascending: the kernel's list, else the candidates, within the limits of now.

    Raises:
        CemlError: The limits cannot be read.
    """
    which = kind(root)
    if which is None:
        return ()
    if which == "limits":
        return tuple(sorted({float(hz) for hz in sysfs.numbers(sysfs.under(root, f"{MAINLINE}/available_rates"))}))
    low, high = range_hz(root)
    listed = _listed(sysfs.under(root, f"{BPMP}/dvfs_table")) if which == "bpmp" else ()
    wanted = [hz for hz in candidates_hz if not listed or hz in listed] or listed
    return tuple(sorted({float(hz) for hz in wanted if low <= hz <= high}))


def range_hz(root: str, prior: Mapping[str, str] | None = None) -> tuple[float, float]:
    """The lowest and the highest rate that may be asked for now: of the kernel or the firmware, and nvpmodel's cap.

    Args:
        root: Where /sys is.
        prior: What stood in files before we wrote there, by path.

    Raises:
        CemlError: It cannot be read.
    """
    pattern = {"bpmp": f"{BPMP}/{{}}_rate", "override": f"{BWMGR}/emc_{{}}_rate"}.get(
        kind(root) or "", f"{MAINLINE}/{{}}_rate"
    )
    paths = [sysfs.under(root, pattern.format(end)) for end in ("min", "max")]
    low, high = (float(sysfs.known_number(path, prior or {})) for path in paths)
    cap = cap_hz(root)
    return low, min(high, cap) if cap else high


def _listed(path: str) -> tuple[float, ...]:
    try:
        return tuple(float(hz) for hz in _ROW.findall(sysfs.text(path)))
    except CemlError:
        return ()


def cap_hz(root: str) -> int:
    """The cap that nvpmodel set, 0 for none."""
    try:
        return sysfs.number(sysfs.under(root, CAP))
    except CemlError:
        return 0


def lever(root: str, knob: Knob) -> BpmpLever | OverrideLever | LimitsLever | None:
    """The lever for the interface that is there."""
    match kind(root):
        case "bpmp":
            return BpmpLever(knob, root)
        case "override":
            return OverrideLever(knob, root)
        case "limits":
            return LimitsLever(knob, root)
        case _:
            return None


def read_rate_hz(root: str) -> float:
    """The clock now, whoever moves it.

    Raises:
        CemlError: It cannot be read.
    """
    path = {"bpmp": f"{BPMP}/rate", "override": f"{OVERRIDE}/clk_rate"}.get(kind(root) or "", f"{MAINLINE}/rate")
    return float(sysfs.number(sysfs.under(root, path)))


class _Emc:
    """What all three interfaces share."""

    def __init__(self, knob: Knob, root: str) -> None:
        self.knob = knob
        self._root = root

    def bounds(self, prior: Mapping[str, str]) -> tuple[float, float]:
        """See `range_hz`."""
        return range_hz(self._root, prior)

    unit = 1.0

    def limits(self) -> tuple[Item, ...]:
        """None of what is written is a limit."""
        return ()


class BpmpLever(_Emc):
    """The rate held by a lock in the firmware."""

    def __init__(self, knob: Knob, root: str) -> None:
        """Nothing is written."""
        super().__init__(knob, root)
        path = sysfs.under(root, BPMP)
        self._lock, self._rate = f"{path}/mrq_rate_locked", f"{path}/rate"

    def look(self) -> Level:
        """The rate where it is locked."""
        return self._rate_hz() if sysfs.number(self._lock) else FREE

    def order(self) -> Level:
        """The same: the firmware tells only the rate that came of it."""
        return self.look()

    def put(self, level: float) -> float:
        """Lock, set the rate, and read it back.

        Raises:
            Refused: The firmware would not take it.
            Temporary: It does not answer now.
        """
        if not sysfs.number(self._lock):
            sysfs.order(self._lock, 1, knob=self.knob.name)
        sysfs.order(self._rate, round(level), knob=self.knob.name)
        return settled(self._rate_hz, level, WAIT_S)

    def _rate_hz(self) -> float:
        return nearest(self.knob.levels, float(sysfs.number(self._rate)))

    def items(self) -> tuple[Item, ...]:
        """The lock; and the rate below it, where somebody holds it already."""
        items = sysfs.kept([self._rate, self._lock])
        return items if items and items[-1].value == "1" else items[1:]


class OverrideLever(_Emc):
    """The rate held by overriding the clock."""

    def __init__(self, knob: Knob, root: str) -> None:
        """Nothing is written."""
        super().__init__(knob, root)
        path = sysfs.under(root, OVERRIDE)
        self._state, self._rate, self._set = f"{path}/clk_state", f"{path}/clk_rate", f"{path}/clk_update_rate"

    def look(self) -> Level:
        """The rate where it is overridden."""
        return self._rate_hz() if sysfs.number(self._state) else FREE

    def order(self) -> Level:
        """The same: reading it disturbs nothing."""
        return self.look()

    def put(self, level: float) -> float:
        """Set the rate, override, and read it back.

        Raises:
            Refused: The kernel would not take it.
            Temporary: It does not answer now.
        """
        if not sysfs.number(self._state):
            sysfs.order(self._state, 1, knob=self.knob.name)
        sysfs.order(self._set, round(level), knob=self.knob.name)
        return settled(self._rate_hz, level, WAIT_S)

    def _rate_hz(self) -> float:
        return nearest(self.knob.levels, float(sysfs.number(self._rate)))

    def items(self) -> tuple[Item, ...]:
        """The override; and the rate to set, where somebody overrides already."""
        state, rate = sysfs.kept([self._state]), sysfs.kept([self._rate])
        if state and state[0].value == "1" and rate:
            return (rate[0]._replace(target=self._set), *state)
        return state


class LimitsLever(_Emc):
    """The rate held by equal limits."""

    def __init__(self, knob: Knob, root: str) -> None:
        """Nothing is written."""
        super().__init__(knob, root)
        path = sysfs.under(root, MAINLINE)
        self._low, self._high = f"{path}/min_rate", f"{path}/max_rate"

    def look(self) -> Level:
        """The rate where both limits are the same."""
        low, high = sysfs.number(self._low), sysfs.number(self._high)
        return nearest(self.knob.levels, float(high)) if low == high else FREE

    def order(self) -> Level:
        """The same: the limits are the order."""
        return self.look()

    def put(self, level: float) -> float:
        """Move both limits, in an order in which they never cross.

        Raises:
            Refused: The kernel would not take it.
            Temporary: It does not answer now.
        """
        hz = round(level)
        ends = (self._high, self._low) if hz >= sysfs.number(self._high) else (self._low, self._high)
        for path in ends:
            sysfs.order(path, hz, knob=self.knob.name)
        found = self.look()
        return found if isinstance(found, float) else float(sysfs.number(self._high))

    def limits(self) -> tuple[Item, ...]:
        """The higher one."""
        return sysfs.kept([self._high])

    def items(self) -> tuple[Item, ...]:
        """Both limits."""
        return sysfs.kept([self._high, self._low])
