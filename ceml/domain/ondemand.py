"""Arrays by name that are made when somebody asks for them: watts of rails, which few decisions look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]


class OnDemand(Mapping[str, "Numbers"]):
    """A read-only mapping whose values are made once each, when first asked for."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Numbers]) -> None:
        """`make` gives the array of one of the names; it must not depend on the order in which they are asked for."""
        self._names = tuple(dict.fromkeys(names))
        self._make = make
        self._made: dict[str, Numbers] = {}

    def __getitem__(self, name: str) -> Numbers:
        if name not in self._made:
            if name not in self._names:
                raise KeyError(name)
            self._made[name] = self._make(name)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def changed(numbers: Mapping[str, Numbers], change: Callable[[str, Numbers], Numbers]) -> Mapping[str, Numbers]:
    """The same names with other values: `change` is asked when the value is."""
    return OnDemand(numbers, lambda name: change(name, numbers[name])) if numbers else numbers
