"""A machine in files: `board.json` is the machine, and programs are processes of their own (see `store.board_file`)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio

from ceml.errors import SettingsError, Temporary
from ceml.store import board_file
from ceml.store.board_file import BoardFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ceml.domain.knobs import KnobSpace, Level
    from ceml.plant.machine import Plant
    from ceml.saved import Item
    from ceml.store.paths import PlatformContext


class FileBoard:
    """A machine in the runtime directory. It outlives this process, and other processes run their programs on it.

    Attributes:
        space: Its states.
    """

    def __init__(
        self,
        context: PlatformContext,
        space: KnobSpace,
        description: Mapping[str, Any],
        plant_of: Callable[[str], Plant | None],
        idle: Plant,
        assumed: Plant | None = None,
    ) -> None:
        """Nothing is read or written before first use, inside the event loop.

        Args:
            context: Where the files are and how fast time runs.
            space: The states of the machine.
            description: What a program needs to build the same plant.
            plant_of: The plant of a workload by name, None for one that it does not know.
            idle: The plant that says what the machine draws while nothing runs.
            assumed: What it is taken to run while no program says what it is; None: nothing.
        """
        self.space = space
        self._paths = context.paths
        self._loads = board_file.Loads(self._paths.load)
        self._file_path = str(self._paths.board)
        self._speed = context.speed
        self._description = dict(description)
        self._plant_of = plant_of
        self._idle = idle
        self._assumed = assumed
        self._board: BoardFile | None = None
        self._stamp: tuple[int, int] | None = None
        self._states = (0, 0)  # in force, and before that
        self._readings: dict[tuple[int, tuple[str, ...]], tuple[dict[str, float], dict[str, float]]] = {}

    def target(self) -> int:
        """The state that was asked for last, as the file says: it may have been put back from outside."""
        self._file()
        return self._states[0]

    def put(self, state: int) -> None:
        """Write the file; the programs see it at once, and know from when on it counts."""
        board, now_s = self._file(), anyio.current_time()
        before = board.configuration if now_s >= board.in_force_s else board.before
        wanted = dict(self.space.configuration(state))
        if wanted != dict(board.configuration):
            in_force_s = now_s + self.space.settle_s(before, wanted)
            self._write(replace(board, configuration=wanted, before=before, in_force_s=in_force_s))

    def readings(self, at_s: float) -> tuple[dict[str, float], dict[str, float]]:
        """True watts and utilisation now: the idle machine, and on top what each running program adds."""
        board = self._file()
        state = self._states[at_s < board.in_force_s]
        running = self._loads.now()
        found = self._readings.get((state, running))
        if found is None:
            found = self._readings[state, running] = self._worked_out(state, running)
        return found

    def _worked_out(self, state: int, running: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
        plants = [plant for name in running if (plant := self._plant_of(name))]
        if not plants and self._assumed is not None:
            plants = [self._assumed]
        if len(plants) == 1:
            return plants[0].rails_w(state), plants[0].utilisation(state)
        rails, busy = self._idle.idle_rails_w(state), dict.fromkeys(self._idle.busy, 0.0)
        for plant in plants:  # several share the board: their watts above idle add up, a device is busy at most fully
            alone = self._idle.idle_rails_w(state)
            for rail, watts in plant.rails_w(state).items():
                rails[rail] = rails.get(rail, 0.0) + watts - alone.get(rail, 0.0)
            for device, share in plant.utilisation(state).items():
                busy[device] = min(1.0, busy.get(device, 0.0) + share)
        return rails, busy

    def item(self) -> Item:
        """The configuration that was asked for last."""
        return board_file.saved_item(self._paths.board, self._file().configuration)

    def owns(self, item: Item) -> bool:
        """Whether it names our file."""
        return (item.kind, item.target) == (board_file.KIND, str(self._paths.board))

    def _file(self) -> BoardFile:
        """The machine as its file says; made, or taken over from the daemon before us, on first use."""
        if self._board is not None:
            return self._reread(self._board)
        self._paths.made().load.mkdir(mode=0o750, exist_ok=True)
        found = board_file.read(self._paths.board)
        ours = (
            found is not None and found.plant == self._description and self.space.find(found.configuration) is not None
        )
        levels = found.configuration if found and ours else dict(self.space.configuration(self.space.max_state))
        loop = asyncio.get_running_loop()
        origin_s = float(getattr(loop, "origin_s", 0.0))  # timeline.ScaledLoop; any other loop runs with the clock
        if self._speed != getattr(loop, "speed", 1.0):
            raise SettingsError(f"speed={self._speed:g}, but this event loop does not run that fast: use ScaledLoop")
        board = BoardFile(
            plant=self._description, configuration=levels, before=levels, origin_s=origin_s, speed=self._speed
        )
        self._write(board)
        return board

    def _reread(self, known: BoardFile) -> BoardFile:
        """The file may have been put back from outside; removed or spoilt, the machine itself does not vanish."""
        stamp = board_file.stamp(self._file_path)
        if stamp == self._stamp and stamp is not None:
            return known
        try:
            found = board_file.read(self._paths.board)
        except SettingsError:
            found = None
        if found is None or found.plant != self._description or self.space.find(found.configuration) is None:
            self._write(known)
            return known
        self._know(found, stamp)
        return found

    def _know(self, board: BoardFile, stamp: tuple[int, int] | None) -> None:
        self._board, self._stamp = board, stamp
        self._states = self._state(board.configuration), self._state(board.before)

    def _write(self, board: BoardFile) -> None:
        try:
            board_file.write(self._paths.made().board, board)
        except OSError as error:
            raise Temporary(f"{self._paths.board} cannot be written: {error.strerror}; make room there") from None
        self._know(board, board_file.stamp(self._file_path))

    def _state(self, levels: Mapping[str, Level]) -> int:
        state = self.space.find(levels)
        return self.space.max_state if state is None else state
