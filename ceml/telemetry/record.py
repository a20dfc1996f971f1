"""Records: JSON Lines, one event a line, described by `record.schema.json` beside this file.

`event` (the class in snake_case) and `at_s` come first, then the fields as they are declared. What is no number
(NaN, infinity) is null. The same run gives the same bytes: nothing here looks at the clock.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, partial
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
import structlog

from ceml.domain import events, knobs
from ceml.errors import SettingsError, Unavailable
from ceml.telemetry.prediction import Predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ceml.domain.events import Event

SCHEMA_VERSION = 1  # goes up when a reader of older records would misread newer ones; RunStarted carries it

Level = Literal["decisions", "windows", "all"]

_LEFT_OUT: dict[Level, tuple[type, ...]] = {
    "decisions": (events.WindowClosed, events.Sampled, events.Heartbeat),
    "windows": (events.Sampled, events.Heartbeat),
    "all": (),
}
_BEGINNING = b'{"event":"'
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_BUFFER = 1 << 20  # bytes read at once
_LONGEST = 1 << 22  # bytes in a line; what has longer ones is no record, and need not fit into memory


@cache
def event_name(kind: type) -> str:
    """The name of an event in records: `WindowClosed` -> `window_closed`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.metadata.get("record", True))


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Types of an event's fields; some names are imported there for type checkers only."""
    names = {"Configuration": knobs.Configuration, "KnobSpace": knobs.KnobSpace, "Mapping": Mapping}
    return get_type_hints(kind, localns=names)


def as_json(event: Event) -> dict[str, object]:
    """An event as it stands in a record."""
    kind = type(event)
    return {"event": event_name(kind), **{name: _plain(getattr(event, name)) for name in _field_names(kind)}}


def _plain(value: Any) -> object:
    """A value as JSON knows it; what is no number is null."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        return _plain(cast("Any", value).item())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if is_dataclass(value):
        return {name: _plain(getattr(value, name)) for name in _field_names(type(value))}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    return [_plain(item) for item in value]


class RecordWriter:
    """Writes events to a file as they happen.

    The disk may fill up under a run of days: then recording stops, with one line in the log, the run goes on, and
    what was written stays readable up to its last whole line.

    Args:
        path: A new file, or an older record, which is replaced. Anything else is refused.
        level: `decisions` leaves out windows, samples and beats; `windows` samples and beats; `all` nothing.

    Raises:
        SettingsError: There is a file that is no record, one that somebody writes now, or something that is no file.
        Unavailable: The file cannot be written.
    """

    def __init__(self, path: Path, level: Level = "windows") -> None:
        self.path = path
        self._left_out = _LEFT_OUT[level]
        self._predictions = Predictions()
        self._whole = 0  # bytes in whole lines
        try:
            self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        except OSError as error:
            raise Unavailable(f"cannot write the record {path}: {error.strerror}; choose another --record") from None
        try:
            self._start_over(self._file)
        except BaseException:
            os.close(self._file)
            raise

    def _start_over(self, file: int) -> None:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):
            raise SettingsError(f"cannot record to {self.path}: it is no ordinary file; choose another --record")
        if stat.S_ISREG(mode):
            found = os.read(file, len(_BEGINNING))
            if found and found != _BEGINNING:
                raise SettingsError(
                    f"{self.path} exists and is no record of ceml, so it is left alone; choose another --record"
                )
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with us, however we end
            except BlockingIOError:
                raise SettingsError(
                    f"another ceml writes its record to {self.path} now; choose another --record"
                ) from None
            except OSError:  # a file system without locks
                pass
            os.lseek(file, 0, os.SEEK_SET)
            os.ftruncate(file, 0)

    def write(self, event: Event) -> None:
        """Write one event, if the level asks for it and the file still takes it; after a decision also its grounds."""
        if isinstance(event, self._left_out):
            return
        self._put(event)
        predicted = self._predictions.on(event) if self._file is not None else None
        if predicted is not None:
            self._put(predicted)

    def _put(self, event: Event) -> None:
        if self._file is None:
            return
        line = _ENCODER.encode(as_json(event)).encode("ascii") + b"\n"
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            self._stop(self._file, error)
        else:
            self._whole += written

    def _stop(self, file: int, error: OSError) -> None:
        """Recording ends here; half a line is taken back where the file allows it."""
        try:
            os.ftruncate(file, self._whole)
        except OSError:  # no ordinary file: readers put up with half a last line
            pass
        self.close()
        structlog.get_logger("ceml").warning(
            "recording_stopped", record=str(self.path), reason=error.strerror, whole_bytes=self._whole
        )

    def close(self) -> None:
        """Close the file; what comes later is not recorded."""
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)


def read(
    path: Path,
    *,
    on_bad_line: Callable[[int], None] | None = None,
    loads: Callable[[bytes], Any] = json.loads,
) -> Iterator[dict[str, Any]]:
    """The events of a record, one after the other, as mappings.

    Args:
        path: The record.
        on_bad_line: Called with the number of each line that is no event: cut off by a power cut, or overwritten.
        loads: Reads one line of JSON; must raise `ValueError` on what is none.

    Raises:
        SettingsError: No such file, or no record.
    """
    number = 0
    try:
        with path.open("rb", buffering=_BUFFER) as file:
            while line := file.readline(_LONGEST):
                number += 1
                event = _parse(line, loads)
                if event is not None:
                    yield event
                elif number == 1:
                    raise SettingsError(
                        f"{path} is no record of ceml: its first line is no event; "
                        "give a file that `ceml serve --record` wrote"
                    )
                elif on_bad_line is not None:
                    on_bad_line(number)
    except OSError as error:
        raise SettingsError(f"cannot read the record {path}: {error.strerror}") from None
    if not number:
        raise SettingsError(f"{path} is empty: nothing was recorded")


def as_event(entry: Mapping[str, Any]) -> Event | None:
    """The event that a line of a record was made from; fields left out take their defaults, null is NaN again.

    Returns:
        None for an event that this version does not know or whose fields do not fit.
    """
    kind = _kinds().get(entry["event"]) if isinstance(entry.get("event"), str) else None
    try:
        return None if kind is None else _build(kind, entry)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return None


@cache
def _kinds() -> dict[str, Any]:
    return {event_name(kind): kind for kind in get_args(events.Event)}


def _build(kind: Any, entry: Mapping[str, Any]) -> Any:
    names, makers = _makers(kind)
    values = {name: entry[name] for name in names if name in entry}
    for name, made in makers:
        if name in values:
            values[name] = made(values[name])
    return kind(**values)


@cache
def _makers(kind: Any) -> tuple[tuple[str, ...], tuple[tuple[str, Callable[[Any], Any]], ...]]:
    """The fields, and how those are made that do not stand in a line as they are; asked for once a kind."""
    hints = _hints(kind)
    made = ((name, _maker(hints[name])) for name in _field_names(kind))
    return _field_names(kind), tuple((name, how) for name, how in made if how is not None)


def _real(value: Any) -> float:
    return math.nan if value is None else float(value)


def _reals(value: Any) -> dict[str, float]:
    return {key: math.nan if item is None else float(item) for key, item in value.items()}


def _maker(hint: Any) -> Callable[[Any], Any] | None:
    """The inverse of `_plain`; None: as it is."""
    origin, inside = get_origin(hint), get_args(hint)
    if hint is float:
        return _real
    if hint == Mapping[str, float]:
        return _reals
    if hint is knobs.Configuration:
        return knobs.Configuration
    if origin is not None and origin not in (Union, UnionType) and issubclass(origin, Mapping):
        made = _maker(inside[1])
        return (lambda value: {key: made(item) for key, item in value.items()}) if made else _mapping
    if origin is tuple:
        made = _maker(inside[0])
        return (lambda value: tuple(map(made, value))) if made else tuple
    if is_dataclass(hint):
        return partial(_build, hint)
    return hint if isinstance(hint, type) and issubclass(hint, Enum) else None


def _mapping(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items()}  # noqa: C416 - dict() takes more than mappings


def _parse(line: bytes, loads: Callable[[bytes], Any]) -> dict[str, Any] | None:
    try:
        event: Any = loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not line.endswith(b"\n"):
        return None
    known = cast("dict[str, Any]", event)
    return known if isinstance(known.get("event"), str) and isinstance(known.get("at_s"), (int, float)) else None


def misread(schema: object) -> str | None:
    """What to beware of in a record that says it follows this schema; None where it is ours."""
    if schema == SCHEMA_VERSION:
        return None
    return f"{schema}; this version reads schema {SCHEMA_VERSION}: what has another meaning there is shown wrong"


# The schema -----------------------------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one line, made from the events' own types; kept in `record.schema.json`."""
    kinds = get_args(events.Event)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"One line of a CEML record, schema {SCHEMA_VERSION}",
        "description": "One event. Times are monotonic seconds, units are in the names; null stands for no number."
        " Lines stand in the order in which they were told: beats and samples gather, so `at_s` may go back a little.",
        "oneOf": [_object(kind, event=event_name(kind)) for kind in kinds],
    }


def _object(kind: type, *, event: str = "") -> dict[str, Any]:
    """A dataclass as an object; an event names itself first."""
    hints = _hints(kind)
    properties = {name: _type(hints[name]) for name in _field_names(kind)}
    if event:
        properties = {"event": {"const": event}, **properties}
    return {
        "type": "object",
        "description": (kind.__doc__ or "").partition("\n")[0],
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_SIMPLE: dict[Any, dict[str, Any]] = {
    float: {"type": ["number", "null"]},
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}


def _type(hint: Any) -> dict[str, Any]:
    """A Python type as a schema."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _any_of([_type(each) for each in inside])
    if hint is knobs.Configuration:
        return {"type": "object", "additionalProperties": {"type": ["number", "string"]}}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type(inside[1])}
    if origin is tuple:
        return {"type": "array", "items": _type(inside[0])}
    if is_dataclass(hint):
        return _object(cast("type", hint))
    if issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    return _SIMPLE[hint]


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """One schema of simple types that allows all of them: float | None -> number or null."""
    names: dict[str, None] = {}
    for each in schemas:
        names.update(dict.fromkeys([each["type"]] if isinstance(each["type"], str) else each["type"]))
    return {"type": list(names)}
