"""`ceml calibrate`: the paper's offline part (C9), once per machine."""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import TYPE_CHECKING

from ceml.commands.flags import add_settings_flags, given_flags
from ceml.errors import SettingsError, Unavailable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from ceml.apps.loads import ProcessLoad
    from ceml.commands.flags import Verbs
    from ceml.control.calibration import Step, Sweep
    from ceml.domain.knobs import Knob
    from ceml.domain.response.calibrating import DeviceFit
    from ceml.parts import Parts

SETTINGS = ("platform", "board", "range", "speed", "seed", "noise_power", "sensor_period_s", "knowledge", "runtime_dir")
SHARES = (0.34, 0.67, 1.0)
WINDOW_S = 0.6
WARM_S = 5.0  # of a person's own load, unless it says `ready` before
_EPILOG = """\
examples:
  sudo ceml calibrate --platform jetson
  ceml calibrate --speed 40                             the simulated board, its programs as loads
  ceml calibrate --platform jetson --stress 'gpu=gpu-burn --load {share}'
                                                        a load of your own, e.g. where torch is not installed
Stop everything else on the machine first: what runs beside it is measured, too.
"""


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    import argparse

    verb = verbs.add_parser(
        "calibrate",
        help="measure what each device draws at each level and utilisation, for --model paper",
        description="Put stress loads on the machine, turn each device through its levels, and fit power against "
        "utilisation by a straight line per device and level (Eq. 2 of the paper). Done once per machine; "
        "ceml serve --model paper uses it from then on. Needs a power rail of its own and a utilisation for each "
        "device. Ctrl-C puts every knob back and keeps nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_argument("--dry-run", action="store_true", help="say what would be measured, and for how long")
    verb.add_argument("--levels", type=int, metavar="N", help="at most N levels of each device (default: all)")
    verb.add_argument(
        "--window-s", type=float, default=WINDOW_S, metavar="X", help=f"seconds each (default: {WINDOW_S})"
    )
    verb.add_argument(
        "--stress",
        action="append",
        default=[],
        metavar="DEVICE=COMMAND",
        help="a command of yours that loads a device; {share} in it becomes 0.34, 0.67 and 1; it is given "
        f"{WARM_S:g} s to get to work, or until it says `ready`; repeatable",
    )
    add_settings_flags(verb, only=SETTINGS)


def run(args: argparse.Namespace) -> int:
    """Measure, fit, keep, and say what came of it."""
    from ceml.control.calibration import Sweep, devices_of, planned
    from ceml.parts import knowledge_store
    from ceml.runtime import chosen
    from ceml.sources import load
    from ceml.store.paths import PlatformContext, RuntimePaths

    if not 0.05 <= args.window_s <= 600:
        raise SettingsError(f"window-s = {args.window_s:g}: must be from 0.05 to 600 seconds")
    if args.levels is not None and args.levels < 1:
        raise SettingsError(f"levels = {args.levels}: must be 1 or more")
    given = {name: value for name, value in given_flags(args).items() if name != "dry_run"}
    loaded = load(None, {**given, "objective": "performance", "fresh": True, "dry_run": args.dry_run}, os.environ)
    settings = loaded.settings
    paths = RuntimePaths.at(settings.runtime_dir)
    context = PlatformContext(runtime_dir=(paths if args.dry_run else paths.made()).root, speed=settings.speed)
    parts = chosen(loaded, context)
    knobs, problems = devices_of(parts.platform.space, [rail for rail in parts.platform.rails if rail != "total"])
    if not knobs:
        raise Unavailable(
            "\n".join([f"{parts.platform.name} cannot be calibrated: no device has a clock and a rail.", *problems])
            + "\nceml serve needs no calibration: the default model learns power from what it measures"
        )
    loads = _loads(parts, knobs, _commands(args.stress, knobs))
    sweep = Sweep(planned(knobs, loads, args.levels), args.window_s, problems=problems)
    _announce(parts, knobs, loads, sweep)
    if args.dry_run:
        return 0
    store = knowledge_store(settings, context, parts.platform)
    assert store is not None  # noqa: S101 - a real run has one
    if not _measure(parts, sweep):
        print("ceml: interrupted: every knob was put back, nothing is kept", file=sys.stderr)
        return 130
    return _keep(store, sweep)


# Loads ----------------------------------------------------------------------------------------------------------------


def _commands(given: Sequence[str], knobs: Mapping[str, Knob]) -> dict[str, str]:
    """Device -> command of the person's own.

    Raises:
        SettingsError: It names no device of this machine, or no command.
    """
    commands: dict[str, str] = {}
    for text in given:
        device, equals, command = text.partition("=")
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise SettingsError(f"stress = {text!r}: {error}") from None
        if device not in knobs or not equals or not words:
            known = ", ".join(knobs)
            raise SettingsError(f"stress = {text!r}: write DEVICE=COMMAND with one of the devices {known}")
        commands[device] = command
    return commands


def _loads(parts: Parts, knobs: Mapping[str, Knob], commands: Mapping[str, str]) -> list[ProcessLoad]:
    from ceml.apps.loads import ProcessLoad, programs, stress

    paths, speed = parts.context.paths, parts.context.speed
    if parts.platform.name == "simulated":
        from ceml.plant.board import PROGRAMS

        if commands:
            raise SettingsError(
                f"stress = {next(iter(commands))}=...: the simulated board runs programs of its own only"
            )
        return programs(list(PROGRAMS), paths.root, paths.load, speed=speed)
    loads: list[ProcessLoad] = []
    for device in knobs:
        kind = re.sub(r"\d+$", "", device)
        if device in commands:
            for share in SHARES:
                words = [word.replace("{share}", f"{share:g}") for word in shlex.split(commands[device])]
                loads.append(ProcessLoad(f"{device} {share:.0%}", words, (device,), warm_s=WARM_S, speed=speed))
                if "{share}" not in commands[device]:
                    break
        elif kind in ("cpu", "gpu", "mem") and kind == device:
            loads += [stress(device, share, speed=speed) for share in SHARES]
    return loads


# Measuring ------------------------------------------------------------------------------------------------------------


def _announce(parts: Parts, knobs: Mapping[str, Knob], loads: Sequence[ProcessLoad], sweep: Sweep) -> None:
    steps = len(sweep.steps)
    took_s = steps * (sweep.window_s + 0.1) / parts.context.speed
    print(f"machine   {parts.platform.machine or parts.platform.name}")
    for device, knob in knobs.items():
        count = len({step.level for step in sweep.steps if step.device == device})
        print(f"device    {device}: {count} of {len(knob.levels)} levels")
    print(f"loads     none, {', '.join(load.name for load in loads)}")
    print(f"measures  {steps} states, about {took_s:.0f} s and what the loads need to start")


def _measure(parts: Parts, sweep: Sweep) -> bool:
    """Whether it came to its end."""
    import anyio
    import structlog

    from ceml import runtime
    from ceml.errors import combined
    from ceml.telemetry import log
    from ceml.telemetry.ledger import Ledger
    from ceml.timeline import scaled

    log.configure("console", "warning", sys.stderr)
    house = runtime.House(
        parts=parts,
        ledger=Ledger(parts.platform.total_rails),
        say=lambda told: structlog.get_logger().warning("calibrate", problem=told),
    )
    speed = parts.settings.speed
    progress = _Progress(len(sweep.steps))
    try:
        done = anyio.run(
            runtime.calibrate,
            house,
            sweep,
            progress.say,
            backend_options={"loop_factory": scaled(speed)} if speed != 1 else {},
        )
    except Exception as error:
        told = combined(error)
        if told is None:
            raise
        raise told from error
    finally:
        progress.end()
    return done


class _Progress:
    """One line that is written over where somebody watches, else a line per load."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._watched = sys.stderr.isatty()
        self._said = ""

    def say(self, number: int, step: Step) -> None:
        load = step.load.name if step.load else "no load"
        line = f"{number + 1}/{self._steps}  {load}  {step.device} {float(step.level) / 1e6:g} MHz"
        if self._watched:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        elif load != self._said:
            print(f"ceml: {line}", file=sys.stderr)
        self._said = load

    def end(self) -> None:
        if self._watched:
            sys.stderr.write("\r\x1b[K")


def _keep(store: object, sweep: Sweep) -> int:
    """Fit, write, and say how well it fits.

    Raises:
        Unavailable: Nothing could be fitted, or kept.
    """
    from ceml.domain.response.calibrating import fit_device
    from ceml.store import device_power
    from ceml.store.knowledge import KnowledgeStore

    assert isinstance(store, KnowledgeStore)  # noqa: S101 - imported late, so it cannot be named above
    fits = {device: fit_device(measured) for device, measured in sweep.measured.items()}
    for problem in sweep.problems:
        print(f"ceml: {problem}", file=sys.stderr)
    for device, fit in fits.items():
        print(_line(device, fit))
    board = {device: fit.power for device, fit in fits.items() if fit.power is not None}
    if not board:
        raise Unavailable("nothing could be fitted: no load changed how busy a device was; see --stress")
    try:
        path = device_power.write(store, board)
    except OSError as error:
        raise Unavailable(f"the calibration cannot be kept: {error.filename}: {error.strerror}") from None
    for news in store.news():
        print(f"ceml: {news}", file=sys.stderr)
    print(f"kept in   {path}")
    return 0


def _line(device: str, fit: DeviceFit) -> str:
    if fit.power is None:
        return f"device    {device}: no line, its utilisation did not change with the loads (see --stress)"
    slope, idle = fit.power.slope_w, fit.power.idle_w
    left = f"; {len(fit.left_out)} levels without a line" if fit.left_out else ""
    return (
        f"device    {device}: {len(slope)} levels; idle {idle[0]:.3g} to {idle[-1]:.3g} W, "
        f"busy +{slope[0]:.3g} to +{slope[-1]:.3g} W; error {fit.error:.1%}{left}"
    )
