"""A plant as a board: one actuator and one sensor, over a machine in memory (here) or in files (`fileboard.py`).

In memory, the program runs inside this process: replay in virtual time.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Protocol

import anyio
import numpy as np

from ceml.domain.values import Sample
from ceml.errors import CemlError, SettingsError, Unavailable
from ceml.plant.machine import Machine, landing
from ceml.saved import Item, Saved, Unrestored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ceml.domain.knobs import Configuration, Knob, KnobSpace
    from ceml.plant.machine import Plant

IN_MEMORY = "memory"


class Board(Protocol):
    """A machine that can be asked for its state and put into another one."""

    space: KnobSpace

    def target(self) -> int:
        """The state that was asked for last: in force, or on its way."""
        ...

    def put(self, state: int) -> None:
        """Ask for a state; it comes into force after the slowest settle time of the knobs that change."""
        ...

    def readings(self, at_s: float) -> tuple[dict[str, float], dict[str, float]]:
        """True watts per rail and utilisation per device at this moment, which is `at_s`."""
        ...

    def item(self) -> Item:
        """What must be kept to put the machine back where it is now."""
        ...

    def owns(self, item: Item) -> bool:
        """Whether this is an item of this very machine."""
        ...


class MemoryBoard:
    """A machine inside this process.

    Attributes:
        plant: How the program runs on it.
        space: Its states.
        running: Whether the program runs at this moment.
        disturbed: Called when a state was asked for, so that a program in the middle of a step can look again.
    """

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.space = plant.space
        self.running = False
        self.disturbed: Callable[[], None] = lambda: None
        self._machine: Machine | None = None
        self._readings: dict[tuple[int, bool], tuple[dict[str, float], dict[str, float]]] = {}

    @property
    def machine(self) -> Machine:
        """The machine, found with every knob at its highest level when it is first looked at."""
        if self._machine is None:
            self._machine = Machine(self.plant, anyio.current_time())
        return self._machine

    def become(self, plant: Plant) -> None:
        """The program begins another phase, or is another one, on the same states."""
        self.plant, self._readings = plant, {}
        self.machine.become(plant, anyio.current_time())
        self.disturbed()

    def target(self) -> int:
        """The state that was asked for last."""
        return self.machine.target

    def put(self, state: int) -> None:
        """Ask for a state."""
        if state != self.machine.target:
            self.machine.put(state, anyio.current_time())
            self.disturbed()

    def readings(self, at_s: float) -> tuple[dict[str, float], dict[str, float]]:
        """True watts and utilisation now."""
        state, running = self.machine.state_at(at_s), self.running
        found = self._readings.get((state, running))
        if found is None:
            rails_w = self.plant.rails_w(state) if running else self.plant.idle_rails_w(state)
            busy = self.plant.utilisation(state) if running else dict.fromkeys(self.plant.busy, 0.0)
            found = self._readings[state, running] = rails_w, busy
        return found

    def item(self) -> Item:
        """The configuration that was asked for last."""
        return Item(IN_MEMORY, IN_MEMORY, json.dumps(dict(self.space.configuration(self.target()))))

    def owns(self, item: Item) -> bool:
        """Nothing in memory outlives its board, so there is only one."""
        return item.kind == IN_MEMORY


class PlantActuator:
    """Turns the knobs of a board. Requests between two levels land on the next one up, as on a Jetson TX2."""

    def __init__(self, board: Board) -> None:
        self._board = board

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """All knobs of the board."""
        return self._board.space.knobs

    async def locate(self) -> Configuration:
        """The configuration that was asked for last; it is in force, or about to be."""
        return self._board.space.configuration(self._board.target())

    async def glance(self) -> Configuration:
        """The same: nothing here costs anything, and a board does what it is asked."""
        return await self.locate()

    async def apply(self, wanted: Configuration) -> Configuration:
        """Turn the knobs; what `wanted` does not name stays as it is.

        Raises:
            Refused: An unknown knob or name of a level, no number where one is needed, or a state that is absent.
            Temporary: The file of the machine cannot be written now.
        """
        state = landing(self._board.space, self._board.target(), wanted)
        self._board.put(state)
        return self._board.space.configuration(state)

    async def save(self) -> Saved:
        """The configuration as it is now."""
        return Saved((self._board.item(),))

    async def restore(self, saved: Saved) -> tuple[Unrestored, ...]:
        """Put the saved configuration back; items of other boards are left alone."""
        failed: list[Unrestored] = []
        for item in saved.items:
            if not self._board.owns(item) or item.value is None:
                continue
            try:
                self._board.put(landing(self._board.space, self._board.target(), json.loads(item.value)))
            except (CemlError, ValueError, TypeError, AttributeError) as error:
                failed.append(Unrestored(item.target, str(error)))
        return tuple(failed)


class PlantSensor:
    """Power of every rail and utilisation of every device at one moment.

    A reading is the truth times 1 + N(0, noise_power), drawn anew for each rail and never below zero, rounded to the
    step of the sensor behind the rail where that is known. Utilisation has no noise.

    Attributes:
        lost: Whether it does not answer, in a scenario.
    """

    def __init__(
        self, board: Board, *, quantum_w: Mapping[str, float], noise: float, period_s: float, seed: int
    ) -> None:
        self.lost = False
        self._board = board
        self._quantum_w = quantum_w
        self._noise = self._factors(noise, seed)
        self._period_s = period_s

    @property
    def name(self) -> str:
        """For logs and records."""
        return "board"

    @property
    def period_s(self) -> float:
        """Seconds between two polls."""
        return self._period_s

    @property
    def lag_s(self) -> float:
        """Readings are of the very moment."""
        return 0.0

    async def read(self) -> Sample:
        """One reading; as `read_now`."""
        return self.read_now()

    def read_now(self) -> Sample:
        """One reading.

        Raises:
            Unavailable: It is lost, in a scenario.
        """
        if self.lost:
            raise Unavailable(f"sensor {self.name} is lost, as the scenario says")
        at_s = asyncio.get_running_loop().time()
        rails, busy = self._board.readings(at_s)
        rails_w: dict[str, float] = {}
        for rail, true_w in rails.items():
            seen_w = true_w * next(self._noise)
            if rail in self._quantum_w:
                seen_w = round(seen_w / self._quantum_w[rail]) * self._quantum_w[rail]
            rails_w[rail] = seen_w if seen_w > 0.0 else 0.0
        return Sample(at_s=at_s, rails_w=rails_w, utilisation=busy)

    @staticmethod
    def _factors(noise: float, seed: int) -> Iterator[float]:
        """Noise by the block: drawn one by one it would cost more than the rest of a reading."""
        rng = np.random.default_rng((seed, 1))  # its own stream: (seed, 0) is the program's
        while True:
            yield from rng.normal(1.0, noise, 1024).tolist()


def check_noise(**numbers: float) -> None:
    """Refuse what no sensor or program can have.

    Raises:
        SettingsError: A share outside 0 to 1, or a period that is not positive.
    """
    for name, number in numbers.items():
        if name.endswith("_s"):
            if not 0.0 < number < math.inf:
                raise SettingsError(f"{name}={number}: must be a number of seconds above 0, e.g. 0.1")
        elif not 0.0 <= number <= 1.0:
            raise SettingsError(f"{name}={number}: must be a share from 0 to 1, e.g. 0.02 for 2 %")
