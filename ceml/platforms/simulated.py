"""The simulated platform: a Jetson TX2 by fitted equations, on which `ceml app` runs as a process of its own."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from ceml.control.ports import Platform
from ceml.errors import SettingsError
from ceml.plant import board as tx2
from ceml.platforms.fileboard import FileBoard
from ceml.platforms.plantboard import PlantActuator
from ceml.platforms.played import check_run, played, sensors
from ceml.platforms.stage import PlantStage
from ceml.store.paths import PlatformContext  # noqa: TC001 - pydantic reads the annotation when the plugin is made

if TYPE_CHECKING:
    from ceml.plant.machine import Plant

BOARD = "jetson-tx2"


def simulated(
    context: PlatformContext,
    *,
    board: str = BOARD,
    range: str = "paper",
    workload: str | None = None,
    steps: int = 2000,
    seed: int = 0,
    noise_time: float = 0.02,
    noise_power: float = 0.025,
    sensor_period_s: float = 0.1,
) -> Platform:
    """A simulated Jetson TX2; run programs on it with `ceml app`.

    Args:
        context: What is known of the process.
        board: Only `jetson-tx2`.
        range: `paper` = the paper's 540 states, `full` = all 1092 that the equations cover.
        workload: In virtual time the program that the platform brings; in real time what the board draws its power
            for while no program says what it is (a program of your own that only beats).
        steps: Length of the program that the platform brings.
        seed: Of all noise.
        noise_time: Coefficient of variation of a step's time, of the program that the platform brings.
        noise_power: Coefficient of variation of a power reading.
        sensor_period_s: Seconds between two readings.

    Raises:
        SettingsError: An option is out of range.
    """
    if board != BOARD:
        raise SettingsError(f"board={board!r}: only {BOARD} can be simulated")
    check_run(steps, noise_time, noise_power, sensor_period_s)
    about = {"board": BOARD, "range": range, "seed": str(seed), "noise_power": f"{noise_power:g}"}
    if context.in_process:
        platform = played(
            tx2.jetson_tx2(workload or "", range=range),
            steps=steps,
            seed=seed,
            noise_time=noise_time,
            noise_power=noise_power,
            sensor_period_s=sensor_period_s,
        )
        return replace(platform, name="simulated", knowledge=tx2.calibration(), board=about | dict(platform.board))

    @cache
    def plant_of(workload: str) -> Plant | None:
        return tx2.jetson_tx2(workload, range=range) if workload in tx2.PROGRAMS else None

    idle = tx2.jetson_tx2("vit", range=range)  # any program: idle is the board's own
    assumed = None if workload is None else tx2.jetson_tx2(workload, range=range)
    machine = FileBoard(context, idle.space, {"kind": BOARD, "range": range}, plant_of, idle, assumed)
    seen = sensors(idle, machine, noise_power, sensor_period_s, seed)
    return Platform(
        name="simulated",
        machine=idle.machine,
        space=idle.space,
        sensors=seen,
        stage=PlantStage(machine, seen),
        actuators=(PlantActuator(machine),),
        total_rails=("total",),
        rails=tuple(idle.rail_w),
        labels=tx2.LABELS,
        knowledge=tx2.calibration(),
        board=about,
    )
