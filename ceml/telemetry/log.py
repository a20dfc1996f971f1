"""The log: one line an event, for people on a terminal or as JSON for machines."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog

from ceml.domain import events
from ceml.domain.knobs import Configuration
from ceml.domain.values import NO_LIMITS, FitStatus, Limits, Observation
from ceml.telemetry.record import event_name
from ceml.telemetry.stream import Lossy

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from ceml.domain.events import Event
    from ceml.telemetry.stream import Stream

CHATTY = (events.Heartbeat, events.Sampled, events.WindowClosed)  # debug only: need not be subscribed to otherwise

_WARNINGS = (
    events.LinesRefused,
    events.SensorLost,
    events.Throttled,
    events.SensorStuck,
    events.BudgetRefused,
    events.GuardStepped,
    events.ConfigurationRefused,
    events.KnobOverwritten,
    events.ControlYielded,
    events.MachineResumed,
    events.Undecided,
    events.DecisionSlow,
    events.LevelsAllowed,
    events.ControlRefused,
    events.EventsMissed,
)


def configure(log_format: str, level: str, stream: Stream | None = None) -> None:
    """Set up structlog for this process.

    Args:
        log_format: `console` or `json`.
        level: The least level that is written: `debug`, `info`, `warning`.
        stream: Where to, standard error if None; what cannot be written there is dropped. Colours only where it is a
            terminal that knows them, and NO_COLOR is not set.
    """
    target = cast("TextIO", Lossy(sys.stderr if stream is None else stream))
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),  # wall-clock time is for readers of logs only
    ]
    if log_format == "json":
        shared += [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(default=str)]
    else:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        colours = target.isatty() and not plain
        shared += [_for_a_console, structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=22, sort_keys=False)]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )


def level(*, verbose: bool, quiet: bool) -> str:
    """The level that these two settings ask for."""
    return "debug" if verbose else "warning" if quiet else "info"


def warn(sentence: str) -> None:
    """Log a sentence that is no event, e.g. about a setting."""
    structlog.get_logger("ceml").warning(sentence)


def eye(level: str) -> Callable[[Event], None]:
    """What shows events to the log at this level; beats and samples, which are many, only where they are wanted."""

    def look(event: Event) -> None:
        if not isinstance(event, CHATTY):
            log_events(event)

    return log_events if level == "debug" else look


def log_events(event: Event) -> None:
    """Write the line of an event."""
    logger = structlog.get_logger("ceml")
    number = getattr(logging, level_of(event).upper())
    if logger.is_enabled_for(number):
        logger.log(number, line_name(event), **line(event))


def level_of(event: Event) -> str:
    """`debug` for what happens all the time, `warning` for what a person should look at, `info` for the rest."""
    if isinstance(event, CHATTY):
        return "debug"
    bad = isinstance(event, _WARNINGS)
    match event:
        case events.ConfigurationApplied() if event.why == events.TURN:
            return "debug"
        case events.Decided():
            bad = not event.feasible
        case events.ModelFitted():
            bad = event.status is not FitStatus.GOOD
        case events.ConfigurationReleased():
            bad = bool(event.unrestored)
        case events.Throttled():
            bad = bool(event.reasons)
        case _:
            pass
    return "warning" if bad else "info"


def line_name(event: Event) -> str:
    """What a line is called: the event in snake_case; of a configuration just what became of it (`applied`)."""
    return event_name(type(event)).removeprefix("configuration_")


def line(event: Event) -> dict[str, object]:
    """Key and value of an event, flat, with units in the keys; what is empty or no number is left out."""
    flat: dict[str, object] = {"at_s": _short(event.at_s)}
    requested = getattr(event, "requested", None)
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name == "at_s" or not field.metadata.get("record", True):
            continue
        if field.name == "requested" and getattr(event, "effective", requested) == requested:
            if not hasattr(event, "effective"):
                flat.update(_knobs(value))
        elif field.name == "requested":
            flat["requested"] = str(value)
        elif isinstance(value, Configuration) and field.name != "found":
            flat.update(_knobs(value))
        else:
            flat.update(_flat(field.name, value))
    return {key: value for key, value in flat.items() if value not in (None, "", ()) and value == value}


def _flat(name: str, value: Any) -> dict[str, object]:
    match value:
        case Observation():
            measured = {
                **_knobs(value.configuration),
                "rate_hz": value.rate_hz,
                "power_w": value.power_w,
                "energy_j": value.energy_j,
                "beats": value.beats,
                "power_samples": value.power_samples,
                **({"outliers": value.outliers, "outlier_s": value.outlier_s} if value.outliers else {}),
            }
            return {key: _short(each) for key, each in measured.items()}
        case Configuration():
            return {name: str(value)}
        case Limits() if value == NO_LIMITS:
            return {name: "none"}
        case Limits():
            caps = {f"{rail}_cap_w": _short(watts) for rail, watts in value.rail_caps_w.items()}
            single = [field.name for field in fields(value) if field.name != "rail_caps_w"]
            return {**{each: _short(getattr(value, each)) for each in single}, **caps}
        case Mapping() if name == "knobs":  # all levels of a board are for records
            return {"knobs": ",".join(cast("Mapping[str, object]", value))}
        case Mapping():
            unit = name.rpartition("_")[2] if name in ("rails_w", "temperatures_c") else ""
            inside = cast("Mapping[str, object]", value)
            return {f"{key}_{unit}" if unit else key: _short(each) for key, each in inside.items()}
        case tuple() if name == "parameters":  # some thirty numbers: the sentence says what matters, a record has all
            return {}
        case tuple():
            return {name: ",".join(map(str, cast("tuple[object, ...]", value)))}
        case FitStatus():
            return {name: value.value}
        case _:
            return {name: _short(value)}


def _knobs(configuration: Configuration) -> dict[str, object]:
    return {name: _short(level) for name, level in configuration.items()}


def _short(value: object) -> object:
    """Numbers as a person reads them: six digits, whole ones without a point."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.6g}")


def _for_a_console(_logger: WrappedLogger, _name: str, entry: EventDict) -> EventDict:
    """On a console the time of day is enough (`at_s` ties JSON lines to a record); no text steers the terminal."""
    entry.pop("at_s", None)
    entry.pop("in_force_s", None)
    return {_printable(key): _printable(value) if isinstance(value, str) else value for key, value in entry.items()}


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
