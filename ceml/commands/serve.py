"""`ceml serve`: the daemon in the foreground."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ceml.commands.flags import add_settings_flags, given_flags

if TYPE_CHECKING:
    import argparse

    from ceml.apps.launched import Launched
    from ceml.commands.flags import Verbs
    from ceml.parts import Parts
    from ceml.settings import Settings
    from ceml.sources import Loaded
    from ceml.telemetry.chapter import Chapter

_EPILOG = """\
examples:
  ceml serve                                      a simulated Jetson TX2, objective energy
  ceml serve --budget 7W --objective performance  most steps per second under 7 W
  ceml serve --max-slowdown 10%                   least energy, but at most 10 % slower
  ceml serve --speed 40 --record run.jsonl        40 times faster than life, with a record
  ceml serve --web 8765 --metrics 9105            a page at http://127.0.0.1:8765/, metrics for Prometheus
  ceml serve ceml.toml                            settings from a file (see `ceml config show`)
and in another terminal the application, here a simulated one:
  ceml app --workload gpu-bound --steps 2000
"""


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    import argparse

    verb = verbs.add_parser(
        "serve",
        help="listen for heartbeats and tune the machine, until Ctrl-C",
        description="Listen for heartbeats on a named pipe and tune the machine for the program that sends them: "
        "try a few configurations, fit models of speed and power, apply the best, and watch. Ctrl-C or SIGTERM puts "
        "every knob back and prints a summary.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_argument("config", nargs="?", type=Path, metavar="CONFIG.toml", help="settings from a file")
    add_settings_flags(verb)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    from ceml.sources import load

    return int(serve(load(args.config, given_flags(args), os.environ)))


def serve(loaded: Loaded, *, program: Launched | None = None) -> bool:
    """Serve until a signal comes or the program ends; returns whether something could not be put back.

    Args:
        loaded: The settings.
        program: What to start once we listen. The terminal is its own then: no progress line, warnings only (all the
            news with `verbose`), and the summary goes to standard error.
    """
    import anyio
    import structlog

    from ceml import runtime
    from ceml.api.notify import ServiceManager
    from ceml.control.ending import heard_once, start_watched
    from ceml.errors import combined
    from ceml.store.paths import PlatformContext, RuntimePaths
    from ceml.telemetry import log
    from ceml.telemetry.ledger import Ledger
    from ceml.telemetry.progress import Progress, summary
    from ceml.telemetry.record import RecordWriter
    from ceml.telemetry.stream import Lossy
    from ceml.timeline import scaled

    settings = loaded.settings
    level = _level(settings, program is not None)
    log.configure(settings.log_format, level, sys.stderr)
    for warning in loaded.warnings:
        structlog.get_logger().warning("unknown_variable", problem=warning)
    paths = RuntimePaths.at(settings.runtime_dir).made()
    context = PlatformContext(runtime_dir=paths.root, speed=settings.speed)
    with start_watched():
        parts = runtime.chosen(loaded, context)
    ledger = Ledger(parts.platform.total_rails)
    eyes: list[runtime.Eye] = [log.eye(level)]
    record = RecordWriter(settings.record, settings.record_level) if settings.record else None
    if record:
        eyes.append(record.write)
    progress = Progress(sys.stderr, ledger, period_s=0.2 * settings.speed)
    if settings.log_format == "console" and not settings.quiet and program is None:
        eyes.append(progress.on)
        log.configure(settings.log_format, level, progress.above)
    manager = ServiceManager.named_in(os.environ, os.getpid(), speed=settings.speed)
    house = runtime.House(
        parts=parts, ledger=ledger, say=lambda told: structlog.get_logger().warning("knowledge", problem=told)
    )
    try:
        with heard_once(lambda: house.ending is not None and bool(house.ending.reason)):
            anyio.run(
                runtime.serve if program is None else partial(runtime.serve, until=program.run),
                house,
                eyes,
                manager,
                backend_options={"loop_factory": scaled(settings.speed)} if settings.speed != 1 else {},
            )
    except Exception as error:
        told = combined(error)
        if told is None:
            raise
        raise told from error
    finally:
        progress.clear()
        if record:
            record.close()
    for sentence in house.unrestored:
        sys.stderr.write(f"ceml: {sentence}\n")
    if program is None or not settings.quiet:
        told = "\n".join([summary(ledger, parts.platform.labels), *_in_truth(parts, ledger.told)])
        beside = Lossy(sys.stderr)  # the exit status is the program's, whatever becomes of this
        print(told, file=sys.stdout if program is None else beside)
        if program is not None and program.started and not ledger.steps:
            beside.write("ceml: no heartbeat came from the program, so nothing was tuned; see ceml client --help\n")
    return bool(house.unrestored)


def _level(settings: Settings, beside_a_program: bool) -> str:
    if beside_a_program:
        return "info" if settings.verbose else "warning"
    return "debug" if settings.verbose else "warning" if settings.quiet else "info"


def _in_truth(parts: Parts, chapter: Chapter) -> list[str]:
    """The truth beside what was measured and estimated, where the board is made up and knows the program."""
    from ceml.commands.truth import served_plant, truth_lines, truth_of
    from ceml.domain.values import NO_LIMITS

    if parts.settings.platform.partition(":")[0] not in ("simulated", "replay"):
        return []
    wanted = parts.settings.objective == "energy" and parts.limits == NO_LIMITS
    truth = truth_of(served_plant(parts.context.paths.board, chapter.app), chapter)
    return truth_lines(truth, energy_alone=wanted)
