"""A fixed way of trying states on a plant: the replayed program and sensor themselves, without the runtime around them.

For strategies to be held against: whoever asks for states is told what a window of steps in each measured.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import inf, nan
from typing import TYPE_CHECKING, NamedTuple

import anyio

from ceml.domain.events import AppJoined, Heartbeat, Sampled
from ceml.domain.values import Prediction
from ceml.domain.windows import Window
from ceml.platforms.plantboard import MemoryBoard
from ceml.platforms.played import ReplayProgram, sensors
from ceml.timeline import VirtualLoop

if TYPE_CHECKING:
    from ceml.domain.contracts import Score
    from ceml.domain.events import Event
    from ceml.domain.knobs import KnobSpace
    from ceml.domain.values import Observation
    from ceml.plant.machine import Machine, Plant

HOLD_STEPS = 20

Trials = Generator[int, float, None]
"""Yields the next state to hold; is sent what it measured, the cost (infinite where it must not be kept)."""

Strategy = Callable[["KnobSpace", int], Trials]
"""Trials on a space, by a seed."""


class Tried(NamedTuple):
    """What holding a state measured."""

    state: int
    violation: float
    cost: float


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the program and the sensor are like, as in `ceml replay`.

    Attributes:
        steps: Length of the run.
        seed: Of all noise.
        noise_time: Coefficient of variation of a step's time.
        noise_power: Coefficient of variation of a power reading.
        sensor_period_s: Seconds between two readings.
    """

    steps: int
    seed: int = 0
    noise_time: float = 0.02
    noise_power: float = 0.025
    sensor_period_s: float = 0.1


class Session:
    """One run: every state asked for is held for 20 steps, then the least measured cost is kept to the end.

    The first state is asked for before the first step. What counts for a state are the steps and power samples wholly
    inside the time in which it was in force; where a sensor never spoke in that time, its power stays unknown and the
    state is not kept.

    Attributes:
        machine: The truth of the run; made by `run`.
        tried: Every stay that was finished, in order.
        kept: The state kept in the end; None where the program ended before.
    """

    machine: Machine

    def __init__(self, plant: Plant, trials: Trials, *, score: Score, otherwise: int) -> None:
        """Get ready.

        Args:
            plant: How the program runs on the machine.
            trials: Which states to hold.
            score: What is to be least, and what must hold; states are scored by what was measured, not as fitted.
            otherwise: What is kept where nothing was measured that could be.
        """
        self.tried: list[Tried] = []
        self.kept: int | None = None
        self._plant = plant
        self._trials = trials
        self._otherwise = otherwise
        self._score = score
        self._window: Window | None = None
        self._state = otherwise
        self._steps = 0

    def run(self, conditions: Conditions) -> None:
        """The whole run, in virtual time."""
        anyio.run(self._run, conditions, backend_options={"loop_factory": VirtualLoop})

    async def _run(self, conditions: Conditions) -> None:
        board = MemoryBoard(self._plant)
        program = ReplayProgram(board, steps=conditions.steps, noise_time=conditions.noise_time, seed=conditions.seed)
        self.machine = program.machine
        polls = anyio.CancelScope()

        def hear(event: Event) -> None:
            if isinstance(event, AppJoined):
                self._hold(board, next(self._trials, None))
            elif isinstance(event, Heartbeat) and self._window is not None:
                self._beat(board, event)
            if self._window is None and not polls.cancel_called:
                polls.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(self._poll, board, conditions, polls)
            await program.run(hear, task_status=anyio.TASK_STATUS_IGNORED)
            polls.cancel()

    async def _poll(self, board: MemoryBoard, conditions: Conditions, polls: anyio.CancelScope) -> None:
        made = sensors(self._plant, board, conditions.noise_power, conditions.sensor_period_s, conditions.seed)
        with polls:
            for sensor in made:  # one, or none where power was never measured
                due_s = anyio.current_time()
                while True:
                    await anyio.sleep_until(due_s)
                    due_s += sensor.period_s
                    sample = await sensor.read()
                    if self._window is not None:
                        self._window.sample(Sampled(at_s=sample.at_s, sensor=sensor.name, rails_w=sample.rails_w))

    def _beat(self, board: MemoryBoard, beat: Heartbeat) -> None:
        window = self._window
        if window is None:
            return
        window.beat(beat)
        self._steps += 1
        if self._steps < HOLD_STEPS:
            return
        tried = self._judge(window.observe())
        self.tried.append(tried)
        try:
            self._hold(board, self._trials.send(tried.cost if tried.violation <= 0.0 else inf))
        except StopIteration:
            self._hold(board, None)

    def _hold(self, board: MemoryBoard, state: int | None) -> None:
        """Put the machine into the next state on trial; None: into the one that is kept."""
        now_s = anyio.current_time()
        if state is None:
            self._window, self.kept = None, self._best()
            board.put(self.kept)
            return
        board.put(state)
        self._state, self._steps = state, 0
        opens_s = max(now_s, self.machine.transitions[-1][0])
        rails = ("total",) if self._plant.rail_w else ()
        self._window = Window(self._plant.space.configuration(state), opens_s=opens_s, total_rails=rails)

    def _judge(self, observation: Observation) -> Tried:
        scored = self._score.of(Prediction.measured(observation))
        return Tried(self._state, float(scored.violation[0]), float(scored.cost[0]))

    def _best(self) -> int:
        best = min(self.tried, key=lambda tried: tried[1:], default=Tried(self._otherwise, nan, inf))
        return best.state if best.cost < inf else self._otherwise
