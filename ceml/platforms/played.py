"""Any plant played in virtual time: a board in memory and the program that runs on it, in this process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio
import numpy as np

from ceml.control.ports import Platform
from ceml.domain.events import AppJoined, AppLeft, Heartbeat
from ceml.errors import SettingsError
from ceml.plant.machine import CLOCK_S, progress
from ceml.platforms.plantboard import MemoryBoard, PlantActuator, PlantSensor, check_noise
from ceml.platforms.stage import PlantStage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import TaskStatus

    from ceml.control.ports import Publish
    from ceml.plant.machine import Machine, Plant
    from ceml.platforms.plantboard import Board

HEAD_START_S = 1e-6  # virtual time passes only when nobody else can run: by then control has had its say
MOST_TURNS = 50_000_000  # of the loops in a run: about an hour of waiting for it


class ReplayProgram:
    """The program on a board in memory: beats after every step, each step's time multiplied by noise of mean 1."""

    def __init__(
        self,
        board: MemoryBoard,
        *,
        steps: int,
        noise_time: float,
        seed: int,
        phases: Mapping[int, Plant] | None = None,
    ) -> None:
        self._board = board
        self._steps = steps
        self._noise_time = noise_time
        self._seed = seed
        self._phases = phases or {}
        self._asleep: anyio.CancelScope | None = None
        self._away_until_s: float | None = None
        board.disturbed = self._disturbed

    @property
    def machine(self) -> Machine:
        """The truth of the run, for scoring."""
        return self._board.machine

    async def run(self, publish: Publish, *, task_status: TaskStatus[None]) -> None:
        """Announce the program, let control act before the first step, run all steps, say goodbye."""
        app = self._board.plant.workload
        task_status.started()
        try:
            await self._arrive(publish)
            for beat, noise in enumerate(self._noise(), start=1):
                if self._away_until_s is not None and not await self._away(self._away_until_s, publish):
                    return
                if beat in self._phases:
                    self._board.become(self._phases[beat])
                await self._step(noise)
                publish(Heartbeat(at_s=anyio.current_time(), app=app, beat=beat))
        finally:
            self._board.running = False
        publish(AppLeft(at_s=anyio.current_time(), app=app, reason="left"))

    def change(self, *, step_time: float, power: float) -> None:
        """Begin another phase: every step takes so many times as long as at the start, every watt is so many."""
        self._board.become(self.machine.phases[0][1].changed(step_time=step_time, power=power))

    def leave(self, until_s: float) -> None:
        """After the present step, go away until this moment; infinity: for good."""
        self._away_until_s = until_s

    async def _arrive(self, publish: Publish) -> None:
        """Announce the program; what control asks for before its first step is in force in that step."""
        self._board.running = True
        app, machine = self._board.plant.workload, self.machine
        publish(AppJoined(at_s=anyio.current_time(), app=app, total_work=float(self._steps)))
        await anyio.sleep(HEAD_START_S)
        change_s = machine.next_change_s(anyio.current_time())
        if change_s < math.inf:
            await anyio.sleep(change_s - anyio.current_time())

    async def _away(self, until_s: float, publish: Publish) -> bool:
        """Say goodbye, and come back then; False: never."""
        left_s, self._away_until_s, self._board.running = anyio.current_time(), None, False
        publish(AppLeft(at_s=left_s, app=self._board.plant.workload, reason="the scenario sent it away"))
        if until_s == math.inf:
            return False
        await anyio.sleep_until(until_s)
        await self._arrive(publish)
        self.machine.rests.append((left_s, anyio.current_time()))
        return True

    def _noise(self) -> list[float]:
        """Lognormal factors of mean 1: sigma^2 = ln(1 + CV^2), mu = -sigma^2 / 2."""
        variance = math.log1p(self._noise_time**2)
        rng = np.random.default_rng((self._seed, 0))
        return rng.lognormal(-variance / 2, math.sqrt(variance), self._steps).tolist()

    async def _step(self, noise: float) -> None:
        """One step, piecewise over the states that are in force meanwhile."""
        machine, left = self._board.machine, 1.0
        while left > 0.0:
            now_s = anyio.current_time()
            state = machine.state_at(now_s)
            whole_s = float(self._board.plant.step_s[state])
            plan_left, plan_s = progress(left, whole_s, noise, machine.next_change_s(now_s) - now_s)
            with anyio.CancelScope() as self._asleep:
                await anyio.sleep(plan_s)
            then_s = anyio.current_time()
            if then_s - now_s < plan_s - CLOCK_S:  # woken early: a state was asked for
                plan_left, _ = progress(left, whole_s, noise, then_s - now_s)
            machine.work(state, left - plan_left, now_s, then_s)
            left = plan_left
        self._asleep = None

    def _disturbed(self) -> None:
        if self._asleep is not None:
            self._asleep.cancel()


def played(
    plant: Plant,
    *,
    steps: int = 2000,
    seed: int = 0,
    noise_time: float = 0.02,
    noise_power: float = 0.025,
    sensor_period_s: float = 0.1,
    phases: Mapping[int, Plant] | None = None,
) -> Platform:
    """Any plant as a platform in memory that brings its own program; `beats.machine` is the truth of the run.

    `phases`: what the program becomes with its nth step, on the same states.

    Raises:
        SettingsError: An option is out of range, or nobody would see the run's end.
    """
    check_run(steps, noise_time, noise_power, sensor_period_s)
    _check_length(plant, steps, sensor_period_s)
    board = MemoryBoard(plant)
    program = ReplayProgram(board, steps=steps, noise_time=noise_time, seed=seed, phases=phases)
    seen = sensors(plant, board, noise_power, sensor_period_s, seed)
    return Platform(
        name="replay",
        machine=plant.machine,
        space=plant.space,
        sensors=seen,
        actuators=(PlantActuator(board),),
        total_rails=("total",) if plant.rail_w else (),
        rails=tuple(plant.rail_w),
        beats=program,
        stage=PlantStage(board, seen, program),
        labels=plant.labels,
        board={"workload": plant.workload, "steps": str(steps), "seed": str(seed)},
    )


def _check_length(plant: Plant, steps: int, sensor_period_s: float) -> None:
    """Refuse a run that takes too long even at its fastest."""
    seconds = steps * float(np.nanmin(plant.step_s))
    if seconds > MOST_TURNS * min(sensor_period_s, 1.0):  # once a second others look, too
        raise SettingsError(
            f"{steps} steps take {seconds / 86400:.3g} days even in the fastest state, too long to be played with a "
            f"sensor reading every {sensor_period_s:g} s: play fewer (--steps)"
            + (", or read less often (--sensor-period-s)" if sensor_period_s < 1.0 else "")
        )


def sensors(plant: Plant, board: Board, noise: float, period_s: float, seed: int) -> tuple[PlantSensor, ...]:
    """The sensor of a plant's board; none where the plant has nothing to read."""
    if not plant.rail_w and not plant.busy:
        return ()  # a table of times alone: there is nothing to read
    return (PlantSensor(board, quantum_w=plant.quantum_w, noise=noise, period_s=period_s, seed=seed),)


def check_run(steps: int, noise_time: float, noise_power: float, sensor_period_s: float) -> None:
    """Refuse what no run can have.

    Raises:
        SettingsError: No step, or a noise or period out of range.
    """
    check_noise(noise_time=noise_time, noise_power=noise_power, sensor_period_s=sensor_period_s)
    if steps < 1:
        raise SettingsError(f"steps={steps}: a run needs at least one step")
