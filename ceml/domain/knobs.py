"""What can be turned: knobs, configurations (the paper's system states) and the space they span (C1, C2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    States = NDArray[np.intp]  # (n,) indices of states, in the space's C order over knobs

Level = float | str

MOST_STATES = 5_000_000  # of a product: its mask and what passes over it stay within tens of megabytes
STRIP = 1 << 17  # states at a time where all of a space must be passed over


class KnobKind(str, Enum):
    """How the levels of a knob relate to each other."""

    FREQUENCY = "frequency"  # Hz, ordered
    COUNT = "count"  # cores, threads, batch size: ordered
    POWER_LIMIT = "power_limit"  # W, ordered
    CATEGORY = "category"  # placement, mode: no order


class Owner(str, Enum):
    """Who a knob belongs to; machine knobs are shared between applications."""

    MACHINE = "machine"
    APPLICATION = "application"


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One thing that can be turned, with its finite levels (C1).

    Attributes:
        name: `<device>[index]_<unit>`, e.g. `gpu_hz`, `cpu_cores`.
        levels: What it can be set to; ascending where ordered (SI units), as given for categories.
        kind: How the levels relate.
        settle_s: Seconds after a write until the new level is in force.
        owner: Whether the machine or the application owns it.

    Raises:
        ValueError: No level, a level twice, or ordered levels that do not ascend.
    """

    name: str
    levels: tuple[Level, ...]
    kind: KnobKind = KnobKind.FREQUENCY
    settle_s: float = 0.0
    owner: Owner = Owner.MACHINE

    def __post_init__(self) -> None:
        if not self.levels:
            raise ValueError(f"knob {self.name} has no levels")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"knob {self.name} has a level twice: {self.levels}")
        if self.ordered and list(self.levels) != sorted(self.levels):  # type: ignore[type-var]
            raise ValueError(f"levels of knob {self.name} do not ascend: {self.levels}")

    @property
    def ordered(self) -> bool:
        """Whether "one level up" means something."""
        return self.kind is not KnobKind.CATEGORY

    @property
    def device(self) -> str:
        """The device it turns: `gpu1` for `gpu1_hz`."""
        return self.name.rpartition("_")[0] or self.name

    @property
    def numbers(self) -> NDArray[np.float64]:
        """Levels as numbers, shape (levels,): SI values where ordered, positions 0, 1, 2 ... for categories."""
        if self.ordered:
            return np.array(self.levels, dtype=np.float64)
        return np.arange(len(self.levels), dtype=np.float64)


class Configuration(Mapping[str, Level]):
    """A level for every knob: the paper's system state. Immutable and hashable; the order of knobs is no matter."""

    __slots__ = ("_hash", "_items")

    def __init__(self, levels: Mapping[str, Level]) -> None:
        self._items = dict(sorted(levels.items()))
        self._hash = hash(tuple(self._items.items()))

    def __getitem__(self, name: str) -> Level:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self._items == other._items

    def __repr__(self) -> str:
        return f"Configuration({self._items})"

    def __str__(self) -> str:
        return " ".join(f"{name}={level_text(name, level)}" for name, level in self._items.items())


def level_text(name: str, level: Level) -> str:
    """A level as people read it: `cpu_hz`, 2035200000.0 -> `2035.2MHz`."""
    if isinstance(level, str):
        return level
    if name.endswith("_hz"):
        return f"{level / 1e6:g}MHz"
    return f"{level:g}W" if name.endswith("_w") else f"{level:g}"


class KnobSpace:
    """The product of all levels, and a mask: states may be absent or turn out unreachable one by one.

    A *state* is an integer: its position in C order over `knobs` (last knob fastest). Arrays of states are what
    models, searches and objectives work on; `Configuration` is the same thing with names. Never changed once made.

    Attributes:
        knobs: The knobs, in the order of the axes.
        shape: Level counts.
        strides: How far apart two states are that differ by one level of a knob.
        present: Which states of the product exist, shape (product of level counts,).
    """

    def __init__(self, knobs: Iterable[Knob], present: NDArray[np.bool_] | None = None) -> None:
        """Span a space; without a mask every state is present.

        Raises:
            ValueError: No knobs, two of the same name, or a mask of another size.
            SettingsError: More than `MOST_STATES` states in the product.
        """
        self.knobs: tuple[Knob, ...] = tuple(knobs)
        names = [knob.name for knob in self.knobs]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a space needs knobs with different names, got {names}")
        self.shape: tuple[int, ...] = tuple(len(knob.levels) for knob in self.knobs)
        size = prod(self.shape)
        if size > MOST_STATES:
            counts = ", ".join(f"{knob.name} {len(knob.levels)}" for knob in self.knobs)
            raise SettingsError(
                f"the levels of the knobs ({counts}) combine to {size} configurations, and at most {MOST_STATES} "
                "can be held: leave levels or knobs out, e.g. --limit KNOB=LOW..HIGH or --fix KNOB=VALUE"
            )
        mask = np.ones(size, dtype=np.bool_) if present is None else np.array(present, dtype=np.bool_)
        if mask.shape != (size,):
            raise ValueError(f"mask of shape {mask.shape} for a product of {size} states")
        self.present: NDArray[np.bool_] = mask
        self.strides: tuple[int, ...] = tuple(prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))
        self._count = int(np.count_nonzero(mask))
        self._axes = [
            (knob.name, {level: place * stride for place, level in enumerate(knob.levels)})
            for knob, stride in zip(self.knobs, self.strides, strict=True)
        ]

    def __len__(self) -> int:
        """How many states are present."""
        return self._count

    @cached_property
    def states(self) -> States:
        """The present states, ascending, shape (len(self),); made when first asked for: large spaces do without.

        Read-only: models of anybody are given it.
        """
        states = np.array(np.flatnonzero(self.present))
        states.setflags(write=False)
        return states[:]  # a view of what is read-only: not even whoever sets its flag can write

    def levels_present(self, *axes: int) -> NDArray[np.bool_]:
        """Which levels of these axes some present state has together, shape (levels of each)."""
        others = tuple(axis for axis in range(len(self.shape)) if axis not in axes)
        found: NDArray[np.bool_] = np.asarray(np.any(np.reshape(self.present, self.shape), axis=others))
        return np.transpose(found, [sorted(axes).index(axis) for axis in axes])

    @property
    def by_name(self) -> list[int]:
        """Axes in the order of their knobs' names, for what the order of knobs must not change."""
        return sorted(range(len(self.knobs)), key=lambda axis: self.knobs[axis].name)

    # From numbers to names and back ---------------------------------------------------------------------------

    def configuration(self, state: int) -> Configuration:
        """The configuration of one state."""
        place = np.unravel_index(int(state), self.shape)
        return Configuration({knob.name: knob.levels[int(at)] for knob, at in zip(self.knobs, place, strict=True)})

    def find(self, configuration: Mapping[str, Level]) -> int | None:
        """The state of a configuration, or None where it is not a present state of this space."""
        state = 0
        for name, places in self._axes:
            place = places.get(configuration[name]) if name in configuration else None
            if place is None:
                return None
            state += place
        return state if self.present[state] else None

    def having(self, levels: Mapping[str, Level]) -> States:
        """The present states that have all of these levels, ascending; none for a knob or a level that is not here."""
        places: list[slice | int] = [slice(None)] * len(self.knobs)
        names = [knob.name for knob in self.knobs]
        for name, level in levels.items():
            if name not in names or level not in self.knobs[names.index(name)].levels:
                return np.empty(0, dtype=np.intp)
            places[names.index(name)] = self.knobs[names.index(name)].levels.index(level)
        mask = np.zeros(self.shape, dtype=np.bool_)
        mask[tuple(places)] = True
        return np.flatnonzero(np.ravel(mask) & self.present)

    def places(self, states: States) -> NDArray[np.intp]:
        """Level positions of states, shape (n, knobs)."""
        return np.stack(np.unravel_index(states, self.shape), axis=1).astype(np.intp, copy=False)

    def values(self, states: States) -> NDArray[np.float64]:
        """Levels of states as numbers (SI; positions for categories), shape (n, knobs)."""
        places = self.places(states)
        return np.stack([knob.numbers[places[:, axis]] for axis, knob in enumerate(self.knobs)], axis=1)

    def shares(self, states: States) -> NDArray[np.float64]:
        """Levels as share of the knob's highest, shape (n, knobs), so that boards of different speed compare."""
        top = np.array([max(float(np.max(np.abs(knob.numbers))), 1e-300) for knob in self.knobs])
        return self.values(states) / top

    @cached_property
    def level_shares(self) -> list[NDArray[np.float64]]:
        """Each knob's levels as share of its highest, present or not."""
        return [knob.numbers / max(float(np.max(np.abs(knob.numbers))), 1e-300) for knob in self.knobs]

    @cached_property
    def all_shares(self) -> NDArray[np.float64]:
        """`shares` of every present state, shape (len(self), knobs)."""
        return self.shares(self.states)

    # Moving about -----------------------------------------------------------------------------------------------

    def neighbours(self, state: int) -> States:
        """Present states one level away in one knob (C19); holes are skipped, a category's levels are all adjacent."""
        found: list[int] = []
        place = np.unravel_index(int(state), self.shape)
        for axis, knob in enumerate(self.knobs):
            here, stride = int(place[axis]), self.strides[axis]
            line = [state + (at - here) * stride for at in range(self.shape[axis])]
            if not knob.ordered:
                found += [other for other in line if other != state and self.present[other]]
                continue
            below = next((other for other in reversed(line[:here]) if self.present[other]), None)
            above = next((other for other in line[here + 1 :] if self.present[other]), None)
            found += [other for other in (below, above) if other is not None]
        return np.array(found, dtype=np.intp)

    def nearest(self, shares: Sequence[float] | NDArray[np.float64]) -> int:
        """The present state nearest to these shares of each knob's highest level (sum of absolute differences).

        Raises:
            ValueError: No state is present.
        """
        if not len(self):
            raise ValueError("the space has no state left")
        if len(self) <= STRIP:
            return self._nearest(self.states, self.all_shares, shares)[1]
        apart = [np.abs(levels - s) for levels, s in zip(self.level_shares, shares, strict=True)]
        alone = sum(int(np.argmin(far)) * stride for far, stride in zip(apart, self.strides, strict=True))
        if self.present[alone]:  # the sum is least where each of its terms is
            return alone
        strips = ((begin, self.present[begin : begin + STRIP]) for begin in range(0, self.present.size, STRIP))
        some = (begin + np.flatnonzero(strip) for begin, strip in strips if strip.any())
        return min(self._nearest(states, self.shares(states), shares) for states in some)[1]

    @staticmethod
    def _nearest(
        states: States, at: NDArray[np.float64], shares: Sequence[float] | NDArray[np.float64]
    ) -> tuple[float, int]:
        """Distance and state of the nearest of some, of equals the first."""
        distance = np.abs(at - np.asarray(shares, dtype=np.float64)).sum(axis=1)
        first = int(np.argmin(distance))
        return float(distance[first]), int(states[first])

    @property
    def max_state(self) -> int:
        """Every knob at its highest level; where that is absent, the present state nearest to it."""
        corner = self.present.size - 1
        return corner if self.present[corner] else self.nearest(np.ones(len(self.knobs)))

    @property
    def min_state(self) -> int:
        """Every knob at its lowest level; where that is absent, the present state nearest to it."""
        return 0 if self.present[0] else self.nearest(np.zeros(len(self.knobs)))

    def without(self, states: Iterable[int]) -> KnobSpace:
        """The same space with these states gone, e.g. because the device proved unable to reach them."""
        present = np.array(self.present)
        present[list(states)] = False
        return KnobSpace(self.knobs, present)

    def settling(self, settle_s: Mapping[str, float]) -> KnobSpace:
        """The same space with other settle times for the knobs named."""
        knobs = (replace(knob, settle_s=settle_s.get(knob.name, knob.settle_s)) for knob in self.knobs)
        return KnobSpace(knobs, self.present)

    def settle_s(self, before: Mapping[str, Level] | None, after: Mapping[str, Level]) -> float:
        """Seconds until a change is in force: the slowest settle time among the knobs that change."""
        changed = (k for k in self.knobs if before is None or before.get(k.name) != after.get(k.name))
        return max((knob.settle_s for knob in changed), default=0.0)
