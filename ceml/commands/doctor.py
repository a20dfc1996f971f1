"""`ceml doctor`: what this machine offers, what is missing and how to mend it. Without --probe it changes nothing."""

from __future__ import annotations

import errno
import json
import os
import platform as host
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ceml.errors import CemlError, SettingsError, Unavailable
from ceml.store.paths import state_dir

SILENT_S = 2.0  # of one file
PERIOD_S = 0.1  # of reading power and load, where nobody says otherwise

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Iterator, Sequence
    from types import FrameType

    from ceml.commands.flags import Verbs
    from ceml.domain.knobs import Level
    from ceml.platforms.levers import Lever

Report = dict[str, Any]


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "doctor",
        help="what this machine offers to ceml, what is missing and how to mend it",
        description="Look at this machine and say what ceml can turn and measure on it, what is missing, which command "
        "mends that, and which other programs turn the same knobs. Run it as the user that will run ceml serve. "
        "Nothing is changed but by --probe. Exit status: 0 = there is something to turn, 1 = there is not, 2 = an "
        "option is wrong or a probe could not be done.",
        allow_abbrev=False,
    )
    verb.add_argument("--json", action="store_true", help="one JSON object instead of text")
    verb.add_argument("--board", metavar="ID|FILE.toml", help="take it for this Jetson board, or for your own profile")
    verb.add_argument("--root", default="/", metavar="DIR", help="where /sys and /proc are (default: /)")
    verb.add_argument(
        "--probe",
        action="store_true",
        help="turn every knob through all its levels and put it back, read every sensor, and write down what serve "
        "then uses: how long changes take, which levels are never reached; some seconds, best with the machine at work",
    )
    verb.add_argument("--runtime-dir", type=Path, metavar="DIR", help="with --probe: the server's runtime directory")
    verb.add_argument("--knowledge", type=Path, metavar="DIR", help="where what is known of this machine is kept")


def run(args: argparse.Namespace) -> int:
    """Print the report."""
    with _impatient():
        report = examine(args.root, args.board)
    report["missing"] = [*_left(args), *report["missing"]]
    root = args.knowledge or Path(os.environ.get("CEML_KNOWLEDGE") or state_dir() / "knowledge")
    if report["knobs"]:
        report |= _kept(report, root)
    if args.probe and report["knobs"]:
        report["probe"] = _probe(args, root)
    elif args.probe:
        also = "; GPUs of their own are not probed" if report["gpus"] else ""
        report["missing"].append(f"nothing was probed: there is no knob of this machine{also}")
    print(json.dumps(report, indent=1) if args.json else "\n".join(_lines(report)))
    return 0 if report["knobs"] or any(gpu["knobs"] for gpu in report["gpus"]) else 1


@contextmanager
def _impatient() -> Generator[None]:
    """Interrupt a file that gives no answer: it is told as one that cannot be read, and the others are looked at."""

    def told(_number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code is sysfs.raw_read.__code__:
                raise OSError(errno.ETIMEDOUT, f"no answer within {SILENT_S:g} s, its driver hangs")
            frame = frame.f_back

    from ceml.platforms import sysfs

    before = signal.signal(signal.SIGALRM, told)
    signal.setitimer(signal.ITIMER_REAL, SILENT_S, SILENT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)


def _left(args: argparse.Namespace) -> Iterator[str]:
    """What a server has turned and not put back: then what is shown here is its doing."""
    from ceml.aftermath import others, own
    from ceml.platforms import sysfs
    from ceml.store.paths import RuntimePaths

    root = RuntimePaths.at(args.runtime_dir or os.environ.get("CEML_RUNTIME_DIR") or None).root
    for path in (own(root), *others(root, [sysfs.under(args.root, "/sys")])):
        if path is not None:
            yield (
                f"{path} is there: a server runs, or was killed. Knobs and limits shown here may be its doing; "
                "where none runs: ceml restore"
            )


def _kept(report: Report, root: Path) -> Report:
    """What earlier probes and runs taught of this machine."""
    from ceml.commands.probe import known_of

    try:
        known = known_of(root, report["machine"].get("board", report["platform"]).partition(" ")[0])
    except SettingsError as error:
        return {"uncertain": [*report["uncertain"], str(error)]}
    return {} if known is None else {"known": known.model_dump(mode="json")}


def _probe(args: argparse.Namespace, root: Path) -> Report:
    """Probe the Jetson or the Linux machine that this is.

    Raises:
        CemlError: This user may turn nothing, a server runs, or something could not be put back.
    """
    from ceml.commands.probe import probe
    from ceml.platforms import jetson, linux
    from ceml.store.paths import PlatformContext, RuntimePaths

    paths = RuntimePaths.at(args.runtime_dir or os.environ.get("CEML_RUNTIME_DIR") or None)
    context = PlatformContext(runtime_dir=paths.root)
    try:
        jetson.detect(args.root, args.board)
    except Unavailable:
        platform = linux.linux(context, root=args.root)
    else:
        platform = jetson.jetson(context, board=args.board, range="full", root=args.root)
    return probe(platform, paths, root)


def examine(root: str, board: str | None) -> Report:
    """Look at the machine at `root`.

    Raises:
        SettingsError: There is no such root, or the board that was named is not known, or its profile is no good.
    """
    if not Path(root).is_dir():
        raise SettingsError(f"--root {root}: there is no such directory; give the one that has /sys and /proc in it")
    from ceml.commands.cards import cards
    from ceml.platforms.rivals import rivals

    user = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    report: Report = {
        "machine": {"kernel": host.release(), "python": sys.version.split()[0], "user": user},
        "platform": None,
        "knobs": [],
        "rails": {},
        "total_power": [],
        "devices_measured": [],
        "temperatures": [],
        "sensors": {},
        "throttling": [],
        "meters": [],
        "uncertain": [],
        "missing": [],
        "rivals": [{"name": r.name, "seen": r.seen, "does": r.does, "remedy": r.remedy} for r in rivals(root)],
    }
    try:
        _jetson(report, root, board)
    except Unavailable as error:
        if board is not None:
            raise
        report["missing"].append(str(error))
        _linux(report, root)
    report["gpus"], missing = cards(root)
    report["missing"] += missing
    if not report["knobs"]:
        _processors(report)
    return report


def _jetson(report: Report, root: str, board: str | None) -> None:
    from ceml.platforms import jetson
    from ceml.platforms.heat import Throttles

    found = jetson.look(root, board, {})
    report["platform"] = "jetson"
    guessed = " (guessed from its chip)" if found.guessed else ""
    report["machine"] |= {"board": f"{found.profile.id}{guessed}", "model": found.model}
    report["knobs"] = [_knob(lever) for lever in found.levers]
    report["rails"] = found.rails
    report["total_power"] = list(found.total)
    report["devices_measured"] = ["cpu", *found.shares]
    report["temperatures"] = list(found.zones)
    report["sensors"] = {sensor.name: sensor.period_s for sensor in jetson.sensors(found, root, PERIOD_S)}
    report["throttling"] = list(Throttles(root).names)
    report["uncertain"] = list(found.profile.uncertain)
    report["missing"] += found.problems


def _linux(report: Report, root: str) -> None:
    from ceml.platforms import linux
    from ceml.platforms.heat import Throttles

    found = linux.look(root)
    report["knobs"] = [_knob(lever) for lever in found.levers]
    report["platform"] = "linux" if found.levers else None
    report["rails"] = {counter.path: counter.rail for counter in found.counters} | dict.fromkeys(found.meters, "meter")
    report["total_power"] = sorted({counter.rail for counter in found.counters})
    report["devices_measured"] = ["cpu"]
    report["temperatures"] = list(found.zones)
    report["sensors"] = {"processor load": PERIOD_S} | ({"energy counters": PERIOD_S} if found.counters else {})
    report["meters"] = found.meters
    report["throttling"] = list(Throttles(root).names)
    report["missing"] += found.problems


def _knob(lever: Lever) -> Report:
    """One knob: its levels, where it stands, and which of its files this user may not write."""
    from ceml.platforms import sysfs

    try:
        now: Level = lever.look()
    except CemlError as error:
        now = str(error)
    files = [item.target for item in lever.items()]
    return {
        "name": lever.knob.name,
        "levels": list(lever.knob.levels),
        "now": now,
        "files": files,
        "denied": [path for path in files if not sysfs.writable(path)],
    }


def _processors(report: Report) -> None:
    count = len(os.sched_getaffinity(0))
    if count > 1:
        report["missing"].append(
            f"without clocks the {count} processors are left: ceml run --platform bandwidth -- PROGRAM tunes how many "
            "of them it uses, and as root, where it gets a control group of its own, for which share of the time (of a "
            "program that runs already: ceml serve --platform bandwidth:pid=PID); power is then estimated, not measured"
        )


def _lines(report: Report) -> Iterator[str]:
    from ceml.commands.probe import lines, machine_lines
    from ceml.platforms.sysfs import become_root
    from ceml.store.knowledge_file import MachineFile

    machine = report["machine"]
    yield "machine   " + ", ".join(f"{name} {value}" for name, value in machine.items())
    for knob in report["knobs"]:
        levels: Sequence[Level] = knob["levels"]
        yield f"knob      {knob['name']:8} {len(levels)} levels, {_level(knob['name'], levels)}; now {_now(knob)}"
        if knob["denied"]:
            yield f"          may not be written by this user: {', '.join(knob['denied'])}: {become_root()}"
    for label, rail in report["rails"].items():
        counted = " (counts for the total)" if rail in report["total_power"] else ""
        yield f"power     {rail:8} {label}{counted}"
    for gpu in report["gpus"]:
        turns = "; ".join(f"{name} {_level(name, levels)}" for name, levels in gpu["knobs"].items())
        yield f"gpu       {gpu['name']}: {turns or 'nothing to turn'}"
        yield from (f"          {sentence}" for sentence in gpu["missing"])
    yield f"load      {', '.join(report['devices_measured']) or 'none'}"
    periods = ", ".join(f"{name} every {period_s:g} s" for name, period_s in report["sensors"].items())
    if periods:
        yield f"read      {periods} (--sensor-period-s); resolution: as seen by ceml doctor --probe"
    if report["temperatures"]:
        yield f"heat      {', '.join(report['temperatures'])}"
    if report["throttling"]:
        yield f"throttles {', '.join(report['throttling'])}: when they hold clocks down, the record says so"
    for heading, key in (("missing", "missing"), ("uncertain", "uncertain")):
        for sentence in report[key]:
            yield f"{heading:9} {sentence}".replace("\n", "\n          ")
    for rival in report["rivals"]:
        yield f"rival     {rival['name']}: {rival['seen']}; {rival['does']}. Remedy: {rival['remedy']}"
    if "known" in report and "probe" not in report:
        yield from machine_lines(MachineFile.model_validate(report["known"]))
    if "probe" in report:
        yield from lines(report["probe"])
    offers = [gpu["platform"] for gpu in report["gpus"] if gpu["knobs"]]
    platform = report["platform"]
    powered = bool(report["total_power"]) or platform is None
    if not powered and report["meters"]:
        platform = f"{platform}:meter={report['meters'][0]}"
        yield f"meters    {', '.join(report['meters'])}: name the one that measures the whole machine"
    if platforms := [*filter(None, [platform]), *offers]:
        blind = "" if powered or report["meters"] or offers else " --objective performance"
        yield f"next      {'' if os.geteuid() == 0 else 'sudo '}ceml serve --platform {'+'.join(platforms)}{blind}"
        if blind:
            yield "          without a measurement of power only speed can be tuned for; see missing, above"


def _level(name: str, levels: Sequence[Level]) -> str:
    from ceml.domain.knobs import level_text

    return f"{level_text(name, levels[0])} to {level_text(name, levels[-1])}"


def _now(knob: Report) -> str:
    from ceml.domain.knobs import level_text

    now = knob["now"]
    return level_text(knob["name"], now) if isinstance(now, float) else f"left to {now}" if now != "free" else "free"
