"""Which devices the knobs of a space turn, and what a model may assume of each before it has measured anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.knobs import KnobKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ceml.domain.knobs import Knob, KnobSpace, States

    Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Habit:
    """What is known of a kind of device beforehand: mean and standard deviation of each number of the model.

    Attributes:
        work: ln of its time per step at full clock, as share of a typical step.
        slowing: Exponent of 1/clock in that time; 1 for a device that only computes.
        idle: ln of its watts at full clock when idle, as share of the board's constant watts.
        busy: ln of the watts that its work adds at full clock.
        steepness: Exponent of the clock in its watts (voltage squared times clock: about 2 to 3).
        length: How far apart in ln(clock) two levels are before one tells little of the other.
    """

    work: tuple[float, float]
    slowing: tuple[float, float]
    idle: tuple[float, float]
    busy: tuple[float, float]
    steepness: tuple[float, float]
    voltage: tuple[float, float]
    length: float


HABITS = {
    "cpu": Habit((-1.2, 1.0), (1.0, 0.2), (-2.6, 0.8), (-2.0, 0.9), (1.0, 0.25), (0.0, 1.0), 0.6),
    "gpu": Habit((-0.5, 0.8), (1.0, 0.15), (-2.1, 0.7), (-1.2, 0.8), (1.0, 0.25), (0.5, 1.0), 0.6),
    "mem": Habit((-0.9, 0.9), (1.0, 0.3), (-2.3, 0.8), (-1.6, 1.0), (1.0, 0.4), (-1.0, 1.5), 0.2),
    "limit": Habit((-0.3, 0.8), (1.0, 0.15), (-2.1, 0.7), (-0.5, 1.0), (1.0, 0.1), (0.0, 1.0), 0.25),
    "other": Habit((-1.0, 1.2), (1.0, 0.3), (-2.3, 1.0), (-1.7, 1.0), (1.0, 0.4), (0.0, 1.0), 0.4),
}
COUNT_LENGTH = 0.5  # in ln(share), as for clocks


@dataclass(frozen=True, slots=True)
class Device:
    """One device of the model.

    Attributes:
        name: The knob's device, e.g. `gpu`.
        habit: What is assumed of it.
        clock: Column of its clock, -1 where its clock does not vary.
        cores: Column of its count of cores, -1 where there is none.
        most: The largest count of cores, 1 where there is none.
    """

    name: str
    habit: Habit
    clock: int
    cores: int
    most: float = 1.0

    @property
    def limited(self) -> bool:
        """Whether its clock is what a power limit leaves, and the column is that limit."""
        return self.clock >= 0 and self.habit is HABITS["limit"]


class Devices:
    """The columns of a space that matter to a model: ln(share of the highest level) of every knob that varies.

    Knobs with one level, and knobs that always move together with another one, are left out: they cannot be told
    apart from a constant and from their twin; of twins the one is kept whose kind of device is known, else the first by
    name. The order of knobs does not matter (columns are sorted by name).

    Attributes:
        names: Knob behind each column.
        devices: What the model computes times and watts for.
        extras: Columns of ordered knobs that belong to no device.
        categories: Columns of positions of knobs without order.
        lengths: Correlation length per column, shape (columns,).
    """

    def __init__(self, space: KnobSpace) -> None:
        self._space = space
        levels = [np.flatnonzero(space.levels_present(axis)) for axis in range(len(space.knobs))]
        chosen: list[int] = []
        self._columns: list[Numbers] = []
        for axis in sorted(range(len(space.knobs)), key=lambda at: _familiar(space.knobs[at])):
            column = _column(space.knobs[axis], levels[axis])
            here = column[levels[axis]]
            if np.ptp(here) <= 0 or any(
                _move_together(space, (axis, b), (column, self._columns[a])) for a, b in enumerate(chosen)
            ):
                continue
            chosen.append(axis)
            self._columns.append(column)
        by_name = sorted(range(len(chosen)), key=lambda at: space.knobs[chosen[at]].name)
        self._axes = chosen = [chosen[at] for at in by_name]
        self._columns = [self._columns[at] for at in by_name]
        knobs = [space.knobs[axis] for axis in chosen]
        self.names = tuple(knob.name for knob in knobs)
        self.categories = tuple(at for at, knob in enumerate(knobs) if not knob.ordered)
        clocks = {knob.device: at for at, knob in enumerate(knobs) if _role(knob) is not None}
        cores = {knob.device: at for at, knob in enumerate(knobs) if knob.kind is KnobKind.COUNT and _is_cores(knob)}
        self.devices = tuple(
            Device(
                name,
                HABITS[_role_of_device(name, knobs, clocks)],
                clocks.get(name, -1),
                cores.get(name, -1),
                _most(knobs[cores[name]], levels[chosen[cores[name]]]) if name in cores else 1.0,
            )
            for name in sorted(set(clocks) | set(cores))
        ) or (Device("board", HABITS["other"], -1, -1),)
        used = set(clocks.values()) | set(cores.values()) | set(self.categories)
        self.extras = tuple(at for at in range(len(knobs)) if at not in used)
        self.lengths = np.array([_length(knob) for knob in knobs], dtype=np.float64)
        self.levels = tuple(len(knob.levels) for knob in knobs)

    def columns(self, states: States) -> Numbers:
        """Columns of n states, shape (columns, n)."""
        places = self._space.places(states)
        if not self._axes:
            return np.zeros((0, len(states)))
        return np.stack([c[places[:, axis]] for c, axis in zip(self._columns, self._axes, strict=True)])


def _move_together(space: KnobSpace, axes: tuple[int, int], columns: tuple[Numbers, Numbers]) -> bool:
    """Whether two knobs have the same number in every present state, but for rounding."""
    one, other = np.nonzero(space.levels_present(*axes))
    return np.allclose(columns[0][one], columns[1][other], rtol=0.0, atol=1e-9)


def _column(knob: Knob, places: NDArray[np.intp]) -> Numbers:
    """Number of each level: ln(level / highest present level); from -1 to 0 where a level is not positive."""
    numbers = knob.numbers
    if not knob.ordered:
        return numbers
    if numbers.min() <= 0:
        return (np.arange(len(numbers)) + 1.0) / len(numbers) - 1.0
    return np.log(numbers / numbers[places.max()]) if len(places) else np.log(numbers)


def _most(knob: Knob, places: NDArray[np.intp]) -> float:
    """The largest present count, at least 1."""
    return max(float(knob.numbers[places.max()]), 1.0)


def _is_cores(knob: Knob) -> bool:
    return knob.name.endswith("_cores")


def _role(knob: Knob) -> str | None:
    """The habit of a knob's device, or None for a knob that is no clock."""
    if knob.kind is KnobKind.POWER_LIMIT:
        return "limit"
    if knob.kind is not KnobKind.FREQUENCY:
        return None
    device = knob.device.rstrip("0123456789")
    return {"emc": "mem", "ddr": "mem", "dram": "mem"}.get(device, device if device in HABITS else "other")


def _familiar(knob: Knob) -> tuple[bool, str]:
    """What sorts knobs of known devices first, then by name."""
    return _role(knob) in (None, "other"), knob.name


def _role_of_device(name: str, knobs: list[Knob], clocks: dict[str, int]) -> str:
    role = _role(knobs[clocks[name]]) if name in clocks else None
    return role or ("cpu" if name.startswith("cpu") else "other")


def _length(knob: Knob) -> float:
    role = _role(knob)
    return HABITS[role].length if role else COUNT_LENGTH
