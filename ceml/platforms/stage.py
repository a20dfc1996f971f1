"""Mishaps on a board that is a plant: what a scenario may let happen there, and on no real board."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.plant.machine import landing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ceml.domain.knobs import Level
    from ceml.platforms.plantboard import Board, PlantSensor


class PlantStage:
    """See `control.ports.Stage`.

    Args:
        board: Whose knobs somebody else may write.
        sensors: Which may be lost.
        leave: What sends the program away, where the platform brings one.
    """

    def __init__(
        self, board: Board, sensors: Sequence[PlantSensor], leave: Callable[[float], None] | None = None
    ) -> None:
        self._board = board
        self._sensors = {sensor.name: sensor for sensor in sensors}
        self._leave = leave

    @property
    def brings_program(self) -> bool:
        """Whether the program is ours to send away."""
        return self._leave is not None

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
        if self._leave is not None:
            self._leave(until_s)
