"""`ceml run -- PROGRAM`: serve for one program, from its start to its end."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ceml.commands.flags import add_settings_flags, given_flags

if TYPE_CHECKING:
    from ceml.apps.launched import Launched
    from ceml.commands.flags import Verbs
    from ceml.sources import Loaded

_EPILOG = """\
examples:
  ceml run -- python train.py --epochs 3           on a simulated board, which is there to try it on
  ceml run --platform linux --max-slowdown 10% -- python train.py
                                                   least energy, at most 10 % slower, on this machine (as root)
  ceml run --budget 7W --objective performance --record run.jsonl -- ./infer
  ceml run --platform bandwidth -- python train.py
                                                   no clocks here (virtual machine): processors and their time, as root
  ceml run --speed 50 -- ceml app --workload resnet50 --steps 500
                                                   a simulated program on the simulated board
The program sends heartbeats: `ceml.attach()`, one of the callbacks of ceml.apps.callbacks, or `ceml client`. They find
the pipe by themselves, since CEML_PIPE is set for them. What the program prints is left alone; ours goes to standard
error: warnings and a summary, nothing with --quiet, each decision with --verbose.

exit status: the program's, or 128 + n where signal n ended it; 127 where there is no such program, 126 where it cannot
be started; 2 where ceml itself cannot start, and then the program was not started either.
"""


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "run",
        help="start a program, tune the machine while it runs, return its exit status",
        usage="ceml run [options] -- PROGRAM [ARGUMENT ...]",
        description="Do what `ceml serve` does for as long as one program runs: start it with the environment set so "
        "that its heartbeats find us, tune the machine, put every knob back when it ends, and return its exit status. "
        "SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to it, and it decides. If ceml fails on the way, the "
        "program runs on undisturbed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="-- PROGRAM", help="what to run, after two dashes")
    verb.add_argument("--config", type=Path, metavar="CONFIG.toml", help="settings from a file")
    add_settings_flags(verb)


def run(args: argparse.Namespace) -> int:
    """Serve while the program runs; returns its exit status."""
    from ceml.apps.launched import Launched
    from ceml.errors import SettingsError
    from ceml.sources import load
    from ceml.store.paths import RuntimePaths

    command: list[str] = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise SettingsError("no program to run: write it after two dashes, e.g. ceml run -- python train.py")
    loaded = load(args.config, given_flags(args), os.environ)
    if loaded.settings.speed != 1.0 and "app" not in command:
        sys.stderr.write(
            f"ceml: --speed {loaded.settings.speed:g} hurries the board's clock, which only `ceml app` keeps to: of "
            "this program no figure per step means anything\n"
        )
    paths = RuntimePaths.at(loaded.settings.runtime_dir)
    pipe = Path(loaded.settings.pipe or paths.beats).absolute()
    program = Launched(command, {"CEML_PIPE": str(pipe), "CEML_RUNTIME_DIR": str(paths.root)})
    with ExitStack() as stack:
        if not program.problem:
            loaded = _told_whom(loaded, program, stack)
        return _served(loaded, program)


def _told_whom(loaded: Loaded, program: Launched, stack: ExitStack) -> Loaded:
    """Where the platform turns one program, that is ours: its process is made now, with a control group of its own."""
    from ceml.control.bundle import members

    parts = members(loaded.settings.platform)
    lacking = [part for part in parts if part.partition(":")[0] == "bandwidth" and "pid=" not in part]
    if not lacking:
        return loaded
    from ceml.platforms.cgroup import own_group

    pid = program.hold()
    if not program.problem:
        stack.enter_context(own_group(pid))
    told = [f"{part}{',' if ':' in part else ':'}pid={pid}" if part in lacking else part for part in parts]
    return replace(loaded, settings=loaded.settings.model_copy(update={"platform": "+".join(told)}))


def _tell(error: BaseException) -> None:
    """What became of us; the program runs on, and the exit status is its own."""
    from ceml.errors import CemlError, leaves, of_a_plugin

    told = [of_a_plugin(leaf) or leaf for leaf in leaves(error)]
    if not all(isinstance(leaf, CemlError) for leaf in told):  # a bug of ours, or a plugin that plays Ctrl-C
        traceback.print_exception(error)
    for line in dict.fromkeys(line for leaf in told for line in str(leaf).splitlines()):
        sys.stderr.write(f"ceml: {line}\n")
    sys.stderr.write("ceml: the knobs are as they were found; the program runs on without ceml\n")


def _served(loaded: Loaded, program: Launched) -> int:
    from ceml.commands.serve import serve

    if not program.problem:
        try:
            serve(loaded, program=program)
        except BaseException as error:  # no signal raises anything here: they are for the program
            if not program.started:
                raise
            _tell(error)
        finally:
            program.wait()
    if program.problem:
        sys.stderr.write(f"ceml: {program.problem}\n")
    return program.status
