"""Mishaps on a board that is a plant: what a scenario may let happen there, and on no real board."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ceml.plant.machine import landing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ceml.domain.knobs import Level
    from ceml.platforms.plantboard import Board, PlantSensor


class Program(Protocol):
    """What runs on a board and takes part in a scenario."""

    def leave(self, until_s: float) -> None:
        """Leave after the present step, and come back then; infinity: never."""
        ...

    def change(self, *, step_time: float, power: float) -> None:
        """Begin another phase."""
        ...


class PlantStage:
    """See `control.ports.Stage`.

    Args:
        board: Whose knobs somebody else may write.
        sensors: Which may be lost.
        program: What runs on it, where the platform brings it.
    """

    def __init__(self, board: Board, sensors: Sequence[PlantSensor], program: Program | None = None) -> None:
        self._board = board
        self._sensors = {sensor.name: sensor for sensor in sensors}
        self._program = program

    @property
    def brings_program(self) -> bool:
        """Whether the program is ours to send away."""
        return self._program is not None

    def lose(self, sensor: str) -> None:
        """From now on it does not answer."""
        self._sensors[sensor].lost = True

    def regain(self, sensor: str) -> None:
        """It answers again."""
        self._sensors[sensor].lost = False

    def overwrite(self, levels: Mapping[str, Level]) -> None:
        """Write knobs behind the controller's back.

        Raises:
            Refused: That leads to no state of the board.
        """
        self._board.put(landing(self._board.space, self._board.target(), levels))

    def leave(self, until_s: float) -> None:
        """The program leaves after its present step, and comes back then; infinity: never."""
        if self._program is not None:
            self._program.leave(until_s)

    def change(self, *, step_time: float, power: float) -> None:
        """The program begins another phase: so many times the time of each step, and the power, of its start."""
        if self._program is not None:
            self._program.change(step_time=step_time, power=power)
