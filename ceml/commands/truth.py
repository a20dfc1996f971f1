"""What a choice was worth in truth: known where the board is simulated or replayed, for programs that it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ceml.bench.score import Truth
    from ceml.plant.machine import Plant
    from ceml.telemetry.chapter import Chapter


def recorded_plant(board: Mapping[str, str], program: str) -> Plant | None:
    """The machine that a record describes; a table is named there, but may be elsewhere by now."""
    from ceml.plant.board import PROGRAMS, jetson_tx2

    if board.get("board") != "jetson-tx2" or program not in PROGRAMS:
        return None
    return jetson_tx2(program, range=board.get("range", "paper"))


def served_plant(board_path: Path, program: str) -> Plant | None:
    """The machine in the file that the server and its programs share; None where it does not know the program."""
    from ceml.apps.simulated import plant_of
    from ceml.errors import CemlError
    from ceml.store import board_file

    try:
        board = board_file.read(board_path)
        return None if board is None else plant_of(board.plant, program)
    except CemlError:
        return None


def truth_of(plant: Plant | None, chapter: Chapter) -> Truth | None:
    """The chosen state held against the noise-free truth."""
    from ceml.bench import score

    if plant is None or chapter.settled is None:
        return None
    return score.truth_of(plant, chapter.settled.configuration)


def truth_lines(truth: Truth | None, *, energy_alone: bool = True) -> list[str]:
    """The same for people; `energy_alone`: nothing else was wanted, as the best wants nothing else."""
    from ceml.domain.knobs import Configuration

    if truth is None:
        return []
    aside = "" if energy_alone else "limits and other objectives aside; "
    return [
        f"true best  {truth.best_energy_j:.4g} J/step at {Configuration(truth.best)}; the chosen state is "
        f"{truth.excess:.1%} above it ({aside}simulated)",
        f"in truth   {truth.saving:.1%} less than the {truth.max_state_energy_j:.4g} J/step at max frequencies "
        "(simulated)",
    ]
