"""`ceml knowledge`: what earlier runs learnt of this machine and its programs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ceml.errors import SettingsError
from ceml.store import device_power
from ceml.store.knowledge import KnowledgeStore, exported, imported, read_program
from ceml.store.paths import state_dir

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs
    from ceml.domain.values import Observation

_EPILOG = """\
examples:
  ceml knowledge list                       machines and programs
  ceml knowledge show resnet                what was measured of a program
  ceml knowledge show                       of the machines: settle times, what is never reached, what programs taught
  ceml knowledge forget resnet              the next run starts from nothing
  ceml knowledge export board.json          to take along
  ceml knowledge import board.json          on another machine of the same kind, or after a new installation
`ceml serve --fresh` ignores all of it once. The files are plain JSON and may be deleted at any time.
"""


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    import argparse

    verb = verbs.add_parser(
        "knowledge",
        help="what earlier runs learnt: list, show, forget, export, import",
        description="What earlier runs learnt of this machine and its programs, so that the next run profiles less.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = verb.add_subparsers(dest="what", metavar="ACTION", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--knowledge", type=Path, metavar="DIR", help="the directory (default: the state directory's)")
    common.add_argument("--machine", metavar="NAME", help="only this machine (default: all that are known)")

    def action(name: str, help: str) -> argparse.ArgumentParser:
        return what.add_parser(name, help=help, description=help, parents=[common], allow_abbrev=False)

    action("list", "list machines and programs")
    show = action("show", "show what was measured of a program, or of the machine itself")
    show.add_argument("app", metavar="PROGRAM", nargs="?")
    forget = action("forget", "forget a program, or with --all everything of the machines named")
    forget.add_argument("app", metavar="PROGRAM", nargs="?")
    forget.add_argument("--all", action="store_true", help="everything, unreachable states and calibration too")
    action("export", "write all programs into one file").add_argument("file", type=Path, metavar="FILE.json")
    action("import", "take in what `export` wrote; a program known here already is kept").add_argument(
        "file", type=Path, metavar="FILE.json"
    )


def run(args: argparse.Namespace) -> int:
    """Do one of them."""
    root = _root(args.knowledge)
    if args.what == "import":
        return _import(root, args.file, args.machine)
    stores = [KnowledgeStore(root, name) for name in _machines(root, args.machine)]
    if args.what == "list":
        _list(root, stores)
    elif args.what == "show":
        _show(stores, args.app) if args.app else _show_machines(root, stores)
    elif args.what == "forget":
        _forget(stores, args.app, everything=args.all)
    else:
        _export(stores, args.file)
    return 0


def _root(given: Path | None) -> Path:
    """The directory: flag, else environment, else the state directory's."""
    environment = os.environ.get("CEML_KNOWLEDGE")
    return given or (Path(environment).expanduser() if environment else state_dir() / "knowledge")


def _machines(root: Path, only: str | None) -> list[str]:
    try:
        names = sorted(path.name for path in root.iterdir() if path.is_dir())
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise SettingsError(f"knowledge {root} cannot be read: {error.strerror}") from None
    if only is None:
        return names
    if only not in names:
        raise SettingsError(f"--machine {only}: nothing is known of it in {root}; known are: {', '.join(names) or '-'}")
    return [only]


def _list(root: Path, stores: list[KnowledgeStore]) -> None:
    if not stores:
        print(f"nothing is known yet ({root}); `ceml serve` writes down what it learns")
    for store in stores:
        print(f"{store.machine}  ({store.directory})")
        try:
            if gone := len(store.machine_file().unreachable):
                print(f"  {gone} configurations proved unreachable")
        except SettingsError as error:
            print(f"  machine.json: {error}")
        try:
            if calibrated := device_power.read(store):
                print(f"  calibrated: {', '.join(calibrated)} (ceml calibrate)")
        except SettingsError as error:
            print(f"  {device_power.FILE}: {error}")
        for path in store.programs():
            try:
                phases = read_program(path, store.machine)
            except SettingsError as error:
                print(f"  {path.name}: {error}")
                continue
            states = sum(len(phase.observations) for phase in phases)
            app = phases[0].app if phases else path.stem.removeprefix("program-")
            print(f"  {app}: {len(phases)} phase{'s' * (len(phases) != 1)}, {states} states measured")


def _show(stores: list[KnowledgeStore], app: str) -> None:
    found = [store for store in stores if store.path(app).is_file()]
    if not found:
        raise SettingsError(f"program {app}: nothing is known of it; `ceml knowledge list` names those that are known")
    for store in found:
        for at, phase in enumerate(read_program(store.path(app), store.machine), start=1):
            print(f"{store.machine}: {app}, phase {at}, {len(phase.observations)} states, best energy first")
            for seen in sorted(phase.observations, key=_joules):
                print(f"  {seen.configuration}: {_measured(seen)}")


def _show_machines(root: Path, stores: list[KnowledgeStore]) -> None:
    from ceml.commands.learnt import learnt_lines
    from ceml.commands.probe import known_of, machine_lines

    for store in stores:
        print(f"{store.machine}  ({store.directory / 'machine.json'})")
        try:
            known = known_of(root, store.machine)
        except SettingsError as error:
            print(f"  {error}")
            continue
        probed = machine_lines(known) if known is not None else ["nothing is probed; try ceml doctor --probe"]
        for line in (*probed, *learnt_lines(store.read().knowledge.programs)):
            print(f"  {line}")


def _joules(seen: Observation) -> float:
    return seen.energy_j if seen.energy_j == seen.energy_j else float("inf")


def _measured(seen: Observation) -> str:
    power = f", {seen.power_w:.4g} W, {seen.energy_j:.4g} J/step" if seen.power_w == seen.power_w else ", no power"
    return f"{seen.rate_hz:.4g} steps/s{power} ({seen.steps:g} steps, {seen.power_samples} samples)"


def _forget(stores: list[KnowledgeStore], app: str | None, *, everything: bool) -> None:
    if (app is None) == (not everything):
        raise SettingsError("forget what? name one program, or give --all")
    gone = 0
    for store in stores:
        whole = [*store.programs(), store.directory / "machine.json", device_power.path_of(store)]
        for path in whole if everything else [store.path(str(app))]:
            if path.is_file():
                path.unlink()
                gone += 1
        with suppress(OSError):  # what was set aside, or is not ours, stays, and so does its directory
            store.directory.rmdir()
    if not everything and not gone:
        raise SettingsError(f"program {app}: nothing is known of it; `ceml knowledge list` names those that are known")
    print(f"forgot {gone} file{'s' * (gone != 1)}")


def _export(stores: list[KnowledgeStore], target: Path) -> None:
    text, count, left_out = exported(stores)
    for why in left_out:
        print(f"left out: {why}", file=sys.stderr)
    if not count:
        raise SettingsError("nothing is known that could be exported: there is nothing to export")
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{target} cannot be written: {error.strerror or error}") from None
    print(f"wrote {count} program{'s' * (count != 1)} to {target}")


def _import(root: Path, source: Path, only: str | None) -> int:
    taken, kept = imported(root, source, only)
    for store, app in kept:
        print(f"kept {store.machine}: {app}, which is known here already; forget it first to take the other")
    print(f"took in {len(taken)} program{'s' * (len(taken) != 1)}")
    return 0
