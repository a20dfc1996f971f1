"""Levers: one knob each, over files; and the actuator that turns several of them in one thread.

Every lever writes, reads back, and believes only what it read.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import structlog

from ceml.domain.knobs import Configuration
from ceml.errors import CemlError, Refused, Temporary, Unavailable
from ceml.platforms import sysfs
from ceml.platforms.fences import SHOWN, Fences, Ranged
from ceml.platforms.restoring import put_back
from ceml.platforms.worker import Worker
from ceml.saved import Saved, Unrestored

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ceml.control.ports import NewLimit
    from ceml.domain.knobs import Knob, Level
    from ceml.saved import Item

UNKNOWN = "?"  # where nobody can tell
NEAR = 0.012  # relative: a clock that is measured over microseconds jitters by a percent
STEP_S = 0.001  # between two readings while a clock is on its way


class Lever(Protocol):
    """One knob over files. Its methods block, so they run in a worker's thread."""

    @property
    def knob(self) -> Knob:
        """What it turns."""
        ...

    def look(self) -> Level:
        """What is true now: a level; another number, off the list; or the name of who governs it.

        Raises:
            CemlError: It cannot be read now.
        """
        ...

    def order(self) -> Level:
        """What it is ordered to be, as `look` but by reads that disturb nothing; not whether the device obeys.

        Raises:
            CemlError: It cannot be read now.
        """
        ...

    def put(self, level: Any) -> Level:
        """Write a level, a number or a word, and read back what is then true, after a bounded wait.

        Raises:
            Refused: The kernel would not take it.
            Temporary: Not this time.
        """
        ...

    def items(self) -> tuple[Item, ...]:
        """Everything that `put` may touch, as it is now, in an order in which it can be put back."""
        ...


@runtime_checkable
class KeepsWithin(Protocol):
    """A lever over several devices, each of which it keeps within the limits of its own."""

    def keep_within(self, prior: Mapping[str, str]) -> None:
        """See `Ranged.bounds`: from now on these are they."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """A lever that keeps in mind what it put, since nobody can be asked for it."""

    def forget(self) -> None:
        """Everything was put back: what was put is in force no more."""
        ...


class LeverActuator:
    """Turns the knobs of several levers; each is put back on its own."""

    def __init__(self, name: str, levers: Sequence[Lever], cools: Callable[[str], bool] = lambda _: False) -> None:
        """Take the levers; they are turned in this order and put back in the reverse of it.

        Args:
            name: Of the platform.
            levers: One for each knob.
            cools: Whether the kernel itself holds clocks of a device down now: their limits then read lower than
                anybody set.
        """
        self._name = name
        self._levers = tuple(levers)
        self._worker = Worker(name)
        self._own: frozenset[tuple[str, str]] = frozenset()
        self._fences = Fences(cools)
        self._put: dict[str, Level] = {}  # what each was put to last; not in force any more where somebody turned it

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """One for each lever."""
        return tuple(lever.knob for lever in self._levers)

    async def locate(self) -> Configuration:
        """What is true now. A knob that cannot be read now stands nowhere (`?`), so the next `apply` turns it."""
        return await self._worker.run(self._look, wait=True)

    async def glance(self) -> Configuration:
        """What the knobs are ordered to be.

        Raises:
            Temporary: A write before has not ended.
        """
        return await self._worker.run(self._orders)

    async def apply(self, wanted: Configuration) -> Configuration:
        """Turn the knobs that do not stand where they should; what `wanted` does not name stays as it is.

        Raises:
            Refused: An unknown knob or level, or the kernel would not take one.
            Temporary: Not this time.
        """
        self._check(wanted)
        return await self._worker.run(lambda: self._turn(wanted))

    async def allowed(self, saved: Saved) -> Mapping[str, tuple[Level, ...]]:
        """The levels of each knob within the limits that others set."""
        return await self._worker.run(lambda: self._allowed(saved.values), wait=True)

    async def new_limits(self, knobs: Collection[str]) -> tuple[NewLimit, ...]:
        """Limits of these knobs that somebody else set since they were put, or saved."""
        return await self._worker.run(lambda: self._fences.new(self._levers, knobs))

    async def cools(self) -> bool:
        """Whether the kernel holds clocks of these down now: then their limits read lower than anybody set."""
        return await self._worker.run(lambda: self._fences.cools(self._levers), wait=True)

    async def uncooled(self, now: Saved, before: Saved) -> Saved:
        """What stands there now, but limits that cooling may have lowered as they were before."""
        return await self._worker.run(lambda: self._fences.uncooled(self._levers, now, before), wait=True)

    async def save(self) -> Saved:
        """Everything that the levers may touch."""
        saved = Saved(await self._worker.run(self._items, wait=True))
        self._own = frozenset((item.kind, item.target) for item in saved.items)
        return saved

    async def restore(self, saved: Saved) -> tuple[Unrestored, ...]:
        """Put back what is ours, each value on its own; first waits for a write that is still under way."""
        own = self._own or frozenset(
            (item.kind, item.target) for item in await self._worker.run(self._items, wait=True)
        )
        items = [item for item in saved.items if (item.kind, item.target) in own]
        try:
            return await self._worker.run(lambda: self._put_back(items), wait=True)
        except Temporary:  # one driver does not come back: the others are put back all the same, in another thread
            before, self._worker = self._worker, Worker(self._name)
            before.abandon()
            left = await self._worker.run(lambda: self._put_back(items))
            if not before.busy or left:
                return left
            return (
                Unrestored(self._name, "a call to its driver is under way, and may yet turn something: " + sysfs.MEND),
            )

    # In the thread ------------------------------------------------------------------------------------------------

    def _look(self) -> Configuration:
        return Configuration({lever.knob.name: _where(lever.look) for lever in self._levers})

    def _orders(self) -> Configuration:
        return Configuration(
            {lever.knob.name: UNKNOWN if self._is_cooled(lever) else _where(lever.order) for lever in self._levers}
        )

    def _is_cooled(self, lever: Lever) -> bool:
        """Whether the kernel holds it down: no order tells anything then, and none is due."""
        with suppress(CemlError):
            return isinstance(lever, Ranged) and self._fences.cooled(lever)
        return False

    def _allowed(self, prior: Mapping[str, str]) -> dict[str, tuple[Level, ...]]:
        found: dict[str, tuple[Level, ...]] = {}
        for lever in self._levers:
            if isinstance(lever, Ranged):
                with suppress(CemlError):
                    low, high = lever.bounds(prior)
                    if isinstance(lever, KeepsWithin):
                        lever.keep_within(prior)
                    found[lever.knob.name] = tuple(
                        level
                        for level in lever.knob.levels
                        if low * (1.0 - SHOWN) <= float(level) <= high * (1.0 + SHOWN)
                    )
        return found

    def _turn(self, wanted: Configuration) -> Configuration:
        now = dict(self._look())
        for lever in self._levers:
            name = lever.knob.name
            sysfs.stop_if_given_up()
            if name not in wanted or now[name] == wanted[name] == self._put.get(name, wanted[name]):
                continue
            level = wanted[name] if isinstance(wanted[name], str) else float(wanted[name])
            try:
                if isinstance(lever, Ranged) and not self._fences.may_put(lever, level):
                    continue  # the kernel cools: it stays where that holds it
                now[name] = lever.put(level)
                self._put[name] = wanted[name]
                if isinstance(lever, Ranged):
                    self._fences.stand(lever, None if isinstance(level, str) else level)
            except Unavailable as error:
                raise Temporary(str(error)) from None
        return Configuration(now)

    def _put_back(self, items: Sequence[Item]) -> tuple[Unrestored, ...]:
        left = put_back(items)
        self._put.clear()
        for lever in self._levers:
            if isinstance(lever, Remembers):
                lever.forget()
        return left

    def _items(self) -> tuple[Item, ...]:
        for lever in self._levers:
            if isinstance(lever, Ranged) and lever.knob.name not in self._put:
                with suppress(CemlError):
                    self._fences.stand(lever)
        return tuple(item for lever in reversed(self._levers) for item in lever.items())

    def _check(self, wanted: Configuration) -> None:
        levels = {lever.knob.name: lever.knob.levels for lever in self._levers}
        for name, level in wanted.items():
            if name not in levels:
                raise Refused(f"{self._name} has no knob {name}; it has {', '.join(levels)}", knob=name)
            if level not in levels[name]:
                ladder = ", ".join(f"{known:g}" if isinstance(known, float) else str(known) for known in levels[name])
                raise Refused(f"{name} = {level} is no level of {self._name}; levels are {ladder}", knob=name)


def allowed(levers: Sequence[Lever]) -> tuple[list[Lever], list[str]]:
    """The levers that this user may turn, and a sentence for each of the others."""
    kept: list[Lever] = []
    problems: list[str] = []
    for lever in levers:
        denied = next((item.target for item in lever.items() if not sysfs.writable(item.target)), None)
        if denied is None:
            kept.append(lever)
        else:
            problems.append(
                f"{lever.knob.name} is left as it is: this user may not write {denied}: {sysfs.become_root()}"
            )
    return kept, problems


def say_missing(problems: Sequence[str]) -> None:
    """Tell at start what is missing and how to mend it; `ceml doctor` says the same."""
    for problem in problems:
        structlog.get_logger().warning("missing", problem=problem)


def _where(read: Callable[[], Level]) -> Level:
    try:
        return read()
    except CemlError:
        return "?"


def nearest(levels: Sequence[Level], measured: float, wanted: float | None = None) -> float:
    """The level that a measured value stands for: the wanted one where it is near, else the nearest, else itself."""
    if wanted is not None and abs(wanted - measured) <= NEAR * wanted:
        return wanted
    best = min((float(level) for level in levels), key=lambda level: abs(level - measured), default=measured)
    return best if abs(best - measured) <= NEAR * abs(best) else measured


def settled(read: Callable[[], float], wanted: float, wait_s: float) -> float:
    """Read until it is the wanted value, at most for `wait_s`; returns what was read last."""
    deadline_s = time.monotonic() + wait_s  # noqa: TID251 - in a worker's thread, where real time passes
    while True:
        found = read()
        if found == wanted or time.monotonic() >= deadline_s:  # noqa: TID251 - as above
            return found
        time.sleep(STEP_S)  # noqa: TID251 - as above
