"""The replay platform: any measured table as a board, in virtual time with its own program, or in real time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ceml.control.ports import Platform
from ceml.errors import SettingsError
from ceml.plant.table import Table, once, parse_fix, parse_limit
from ceml.platforms.fileboard import FileBoard
from ceml.platforms.plantboard import PlantActuator
from ceml.platforms.played import check_run, played, sensors
from ceml.platforms.stage import PlantStage
from ceml.store.paths import PlatformContext, read_lines


def replay(
    context: PlatformContext,
    *,
    table: str | None = None,
    workload: str | None = None,
    batch: float | None = None,
    fix: tuple[str, ...] = (),
    limit: tuple[str, ...] = (),
    measured: bool = False,
    steps: int = 2000,
    seed: int = 0,
    noise_time: float = 0.02,
    noise_power: float = 0.025,
    sensor_period_s: float = 0.1,
) -> Platform:
    """A measured table as a board, with fresh noise on top.

    Args:
        context: What is known of the process; in process the platform brings its own program.
        table: Path of the table.
        workload: Which of its programs.
        batch: Which batch size, where there are several.
        fix: Knobs held at one level: `knob=value`; `device=NAME` where a program was measured on several boards.
        limit: Knobs held in a range: `knob=LOW..HIGH`.
        measured: Play the columns as measured, not the smoothed ones.
        steps: Length of the run, and into how many steps an epoch is cut.
        seed: Of all noise.
        noise_time: Coefficient of variation of a step's time.
        noise_power: Coefficient of variation of a power reading.
        sensor_period_s: Seconds between two readings.

    Raises:
        SettingsError: The table or an option is no good; the text says what is there.
    """
    check_run(steps, noise_time, noise_power, sensor_period_s)
    if table is None:
        raise SettingsError("platform replay plays a measured table: give --table TABLE.csv and --workload NAME")
    path = Path(table).absolute()
    parsed = Table.parse(read_lines(path, "table"), path.name)
    if workload is None:
        raise SettingsError(f"say which program of {path.name} to play: --workload {' | '.join(parsed.workloads)}")
    plant = parsed.grid(
        workload,
        batch,
        once("--fix", map(parse_fix, fix)),
        once("--limit", map(parse_limit, limit)),
        measured=measured,
        steps=steps,
    )
    about = {"table": path.name, "workload": workload, "measured": str(measured).lower(), "seed": str(seed)}
    if context.in_process:
        platform = played(
            plant,
            steps=steps,
            seed=seed,
            noise_time=noise_time,
            noise_power=noise_power,
            sensor_period_s=sensor_period_s,
        )
        return replace(platform, board=about | {"steps": str(steps)})
    description = {
        "kind": "table",
        "table": str(path),
        "workload": workload,
        "batch": batch,
        "fix": list(fix),
        "limit": list(limit),
        "measured": measured,
        "steps": steps,
    }
    board = FileBoard(context, plant.space, description, {workload: plant}.get, plant)
    seen = sensors(plant, board, noise_power, sensor_period_s, seed)
    return Platform(
        name="replay",
        machine=plant.machine,
        space=plant.space,
        sensors=seen,
        stage=PlantStage(board, seen),
        actuators=(PlantActuator(board),),
        total_rails=("total",) if plant.rail_w else (),
        rails=tuple(plant.rail_w),
        board=about,
    )
