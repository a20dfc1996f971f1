"""The simulated machine as files: `board.json` is the machine, `load/<pid>.json` what runs on it.

The daemon's platform and the programs are processes of their own and share nothing but these files. A file is
replaced atomically, so a reader sees the old one or the new one. Standard library only: `ceml restore` needs it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ceml.errors import SettingsError
from ceml.saved import Item, Unrestored

if TYPE_CHECKING:
    from collections.abc import Sequence

KIND = "board_file"
VERSION = 1
LOOKS_BETWEEN = 10  # readings between two looks whether the programs still live

Levels = Mapping[str, float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFile:
    """The simulated machine at one moment.

    Attributes:
        plant: Which machine it is, enough to build its plant anew: `kind` and the options of that kind.
        configuration: The levels that were asked for last.
        before: The levels in force until `in_force_s`.
        in_force_s: Board time from which on `configuration` is in force.
        origin_s: Board time is `origin_s + (monotonic - origin_s) * speed`.
        speed: How many times faster than the clock the board's time runs.
        version: Of this format.
    """

    plant: Mapping[str, Any]
    configuration: Levels
    before: Levels
    in_force_s: float = 0.0
    origin_s: float = 0.0
    speed: float = 1.0
    version: int = VERSION


def write(path: Path, board: BoardFile) -> None:
    """Replace the machine's file."""
    _replace(path, json.dumps(asdict(board), indent=1) + "\n")


def read(path: Path) -> BoardFile | None:
    """The machine, or None where there is none.

    Raises:
        SettingsError: The file is there, but it is no machine of ours.
    """
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read as the simulated board: {error}. Remove it") from None
    try:
        found = json.loads(text)
        board = BoardFile(**found)
        _check(board)
    except (ValueError, TypeError, RecursionError) as error:
        raise SettingsError(f"{path} does not describe a simulated board ({error}). Remove it") from None
    return board


def stamp(path: Path | str) -> tuple[int, int] | None:
    """Changes whenever the file is replaced (another inode or time of change); None where there is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked at every reading, and a Path is made into text each time
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _check(board: BoardFile) -> None:
    if board.version != VERSION:
        raise ValueError(f"version {board.version!r}, not {VERSION}")
    if not isinstance(cast("object", board.plant), dict):
        raise ValueError("plant is no object")
    for levels in (board.configuration, board.before):
        _check_levels(levels)
    for name in ("in_force_s", "origin_s", "speed"):
        number: object = getattr(board, name)
        if isinstance(number, bool) or not isinstance(number, int | float) or number != number or number < 0:
            raise ValueError(f"{name} is {number!r}")
    if not 0 < board.speed < float("inf"):
        raise ValueError(f"speed is {board.speed!r}")


def _check_levels(levels: object) -> Levels:
    if not isinstance(levels, dict) or not levels:
        raise ValueError("a configuration is no object")
    for level in cast("dict[str, object]", levels).values():
        if isinstance(level, bool) or not isinstance(level, int | float | str):
            raise ValueError(f"a level is {level!r}")
    return cast("Levels", levels)


def saved_item(path: Path, configuration: Levels) -> Item:
    """What the journal keeps of the machine."""
    return Item(KIND, str(path), json.dumps(dict(configuration)))


def put_back(items: Sequence[Item]) -> tuple[Unrestored, ...]:
    """Put the saved configuration back into the machine's file; what is of another kind is left alone.

    Idempotent. It is in force at once: whoever calls this is not inside the board's time. A machine whose file is
    gone needs nothing.

    Returns:
        What could not be put back, and why; nothing is raised for one item.
    """
    failed: list[Unrestored] = []
    for item in items:
        if item.kind != KIND or item.value is None:
            continue
        try:
            levels = _check_levels(json.loads(item.value))
            board = read(Path(item.target))
            if board is not None:
                write(Path(item.target), replace(board, configuration=levels, before=levels, in_force_s=0.0))
        except (OSError, ValueError, SettingsError) as error:
            failed.append(Unrestored(item.target, str(error)))
    return tuple(failed)


# Loads ---------------------------------------------------------------------------------------------------------------


@contextmanager
def announced(directory: Path, workload: str) -> Generator[Path]:
    """While this lasts, this process puts a load on the machine. Files of dead programs are swept on the way in.

    Raises:
        OSError: The directory cannot be written to.
    """
    directory.mkdir(mode=0o750, exist_ok=True)
    for path in directory.glob("*.json"):
        if _alive(path) is None:
            path.unlink(missing_ok=True)
    mine = directory / f"{os.getpid()}.json"
    _replace(mine, json.dumps({"pid": os.getpid(), "started": _started(os.getpid()), "workload": workload}) + "\n")
    try:
        yield mine
    finally:
        with suppress(OSError):
            mine.unlink()


class Loads:
    """What runs on the machine. Asked at every reading of a sensor, so it looks again only when it has to."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = str(directory)
        self._stamp: tuple[int, int] | None = None
        self._asked = 0
        self._found: tuple[str, ...] = ()

    def now(self) -> tuple[str, ...]:
        """The workloads of living processes, in the order of their numbers.

        Programs that come and go change the directory and are seen at once; one that was killed is missed after at
        most `LOOKS_BETWEEN` readings.
        """
        seen = stamp(self._name)
        self._asked += 1
        if seen != self._stamp or (self._found and self._asked % LOOKS_BETWEEN == 0):
            self._stamp, self._found = seen, loads(self._directory)
        return self._found


def loads(directory: Path) -> tuple[str, ...]:
    """The workloads that run on the machine now, in the order of their processes' numbers; dead ones do not count."""
    try:
        paths = sorted(directory.glob("*.json"))
    except OSError:
        return ()
    return tuple(workload for path in paths if (workload := _alive(path)) is not None)


def _alive(path: Path) -> str | None:
    """The workload of a load file, or None where its process is gone (its number may be another's by now)."""
    try:
        load = json.loads(path.read_text(encoding="utf-8"))
        pid, started, workload = int(load["pid"]), load["started"], load["workload"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return workload if isinstance(workload, str) and started == _started(pid) is not None else None


def _started(pid: int) -> int | None:
    """Start time of a living process in clock ticks since boot, None where it is gone (proc(5), fields 3 and 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # the name may hold anything
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _replace(path: Path, text: str) -> None:
    """Write beside it, then rename: a reader sees the old file or the new one, whole.

    The kernel stamps files in steps of some milliseconds, in which an inode may come back into use; so that `stamp`
    never misses a change, a new file is always stamped later than the one that it replaces.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    replaced = stamp(path)
    if replaced is not None:
        changed_ns = max(beside.stat().st_mtime_ns, replaced[1] + 1)
        os.utime(beside, ns=(changed_ns, changed_ns))
    beside.replace(path)
