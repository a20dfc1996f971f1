"""The tree of verbs, nothing else: which module answers to which verb, and how errors reach a person."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ceml import __version__
from ceml.errors import CemlError, Unavailable, of_a_plugin, place_in_plugin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import NoReturn

VERBS = {
    "serve": ("serve", "run in the foreground: listen for heartbeats, find the best frequencies, keep the budget"),
    "run": ("run", "the same for one program, which it starts and whose exit status it returns: ceml run -- PROGRAM"),
    "status": ("status", "how the running server stands: power, rate, limits and headroom, saving so far"),
    "top": ("top", "the same live in the terminal, with keys for budget, objective, pause and resume"),
    "explain": ("explain", "why this configuration: the best candidates, their margins, what was measured"),
    "budget": ("budget", "change or show the limits of the running server"),
    "objective": ("objective", "change what the running server wants less of"),
    "pause": ("pause", "put the knobs back and leave them alone until `ceml resume`"),
    "resume": ("resume", "let the running server turn the knobs again"),
    "replay": ("replay", "run the same loop on a measured table, in virtual time: thousands of steps in a second"),
    "bench": ("bench", "pooled figures over measured tables, other strategies beside ours, on all cores"),
    "app": ("app", "a simulated program that sends heartbeats, to try `ceml serve` on a simulated board"),
    "client": ("client", "print a self-contained client for Python, C or shell, to put beside any program"),
    "config": ("config", "show the effective settings and where each came from"),
    "plugin": (
        "plugin",
        "start a plugin of your own (an objective, a model, ...), or check one: ceml plugin new|check",
    ),
    "plugins": ("plugins", "list objectives, models, searches, samplers, detectors and platforms"),
    "record": ("record", "summarise what a run recorded, or export it as a table"),
    "report": ("report", "what runs recorded, as a page with pictures, several side by side"),
    "knowledge": ("knowledge", "what earlier runs learnt: list, show, forget, export, import"),
    "restore": ("restore", "put the knobs back after a run that was killed"),
    "calibrate": ("calibrate", "measure what each device draws at each level and utilisation, for --model paper"),
    "service": ("service", "install or remove the systemd service"),
    "doctor": ("doctor", "what this machine offers to ceml, what is missing and how to mend it"),
}

GROUPS = {
    "run it": ("serve", "run"),
    "ask the running server, and tell it": ("status", "explain", "budget", "objective", "pause", "resume", "top"),
    "try it without touching a machine": ("app", "replay", "bench"),
    "look at what happened, and keep it": ("record", "report", "knowledge"),
    "this machine": ("doctor", "calibrate", "restore", "config", "service"),
    "your own programs and plugins": ("client", "plugin", "plugins"),
}
"""Under which heading a verb is shown; those that stand nowhere come last."""

_EPILOG = """\
examples:
  ceml run -- python train.py                  start a program, save energy for it, return its exit status
  ceml serve --platform simulated              wait for programs and save energy for them
  ceml app --workload resnet50 --steps 2000    such a program, simulated, in another terminal
  ceml serve --objective performance --budget 8W
                                               be as fast as 8 W allow
  ceml serve --record run.jsonl                write down what happens; then: ceml record show run.jsonl
  ceml report run.jsonl                        the same as a page with pictures
  ceml status                                  how it stands; and: ceml explain, ceml budget 6W, ceml pause
  ceml config show                             every setting, its value and its reason

Every setting is a flag, an environment variable CEML_<SETTING> and a line of a TOML file; the flag wins.
`ceml VERB --help` tells more.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0 good, 2 the person must change something, 130 interrupted."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle BLAS threads burn the energy that we save
    _open_what_was_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path need not be text; that must not end the run
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except BaseException as error:
        status = _status(error)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        return status
    _send_nowhere(2)  # what was not written of the log is lost, and no failure
    return status


def _open_what_was_closed() -> None:
    """Give us the streams that we were started without (`2>&-`): else the next file we open has their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))


def _send_nowhere(number: int) -> None:
    """What is still buffered for this descriptor goes nowhere, or the exit would fail too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


class _Page(argparse.RawDescriptionHelpFormatter):
    """Paragraphs that are one line are wrapped; what somebody broke into lines stays as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = argparse.HelpFormatter._fill_text  # noqa: SLF001 - argparse is extended by its private methods
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(
            super(_Page, self)._fill_text(part, width, indent) if "\n" in part else fill(self, part, width, indent)
            for part in paragraphs
        )


_NEGATIVE = re.compile(r"-\.?\d")  # what follows may be a unit; argparse itself does so from Python 3.14 on


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, without all the flags before it. All pages look alike, those of verbs too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.formatter_class, self.allow_abbrev = _Page, False
        self._negative_number_matcher = _NEGATIVE  # `-3W` is a value, and no flag is a number

    def parse_known_args(self, *given: Any, **named: Any) -> Any:
        """As argparse does it, but what a verb does not know is told by that verb, which has a page of its own."""
        known, unknown = super().parse_known_args(*given, **named)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        told = re.sub(r"^argument (.+?): invalid (\w+) value: (.*)$", _no_value, message)
        self.exit(2, f"ceml: {told} (usage: {self.prog} --help)\n")


def _no_value(found: re.Match[str]) -> str:
    kind = {"int": "a whole number", "float": "a number"}.get(found[2], found[2])
    return f"{found[1]} = {found[3]}: must be {kind}"


def _run(argv: list[str]) -> int:
    """Only the verb asked for is imported, so that help is quick and `restore` needs little."""
    parser = _Parser(
        prog="ceml",
        description="Finds the CPU, GPU and memory frequencies that a machine learning program needs while it runs.",
        usage="ceml [-h] [--version] VERB ...",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"ceml {__version__}")
    subparsers = parser.add_subparsers(
        dest="verb", prog="ceml", metavar="VERB", title="verbs", description=_verbs(), help=argparse.SUPPRESS
    )
    verb = next((word for word in argv if not word.startswith("-")), None)
    module = import_module(f"ceml.commands.{VERBS[verb][0]}") if verb in VERBS else None
    for name in VERBS:
        if module is not None and name == verb:
            module.add(subparsers)
        else:
            subparsers.add_parser(name)
    args = parser.parse_args(argv)
    if module is None:
        parser.print_help(sys.stderr)
        return 2
    return int(module.run(args))


def _verbs() -> str:
    """All verbs with their help under headings, in columns as wide as the longest name needs."""
    width = max(map(len, VERBS))
    shown = {title: [name for name in names if name in VERBS] for title, names in GROUPS.items()}
    grouped = {name for names in shown.values() for name in names}
    shown["more"] = [name for name in VERBS if name not in grouped]
    lines: list[str] = []
    for title, names in shown.items():
        lines += [title] if names else []
        lines += [f"  {name:<{width}}  {VERBS[name][1]}" for name in names]
    return "\n".join(lines)


def _status(error: BaseException) -> int:
    """What an error means for the exit status; those meant for a person are printed as clean lines.

    Raises:
        BaseException: The error itself, where it is a bug of ours.
    """
    leaves = [of_a_plugin(leaf) or leaf for leaf in _leaves(error)]
    if any(_interrupted(leaf) for leaf in leaves):
        if place := next(filter(None, (place_in_plugin(leaf) for leaf in leaves)), None):
            _send_words([f"interrupted in {place}"])
        return 130
    if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO):
        _send_nowhere(1)
        if error.errno == errno.EPIPE:
            return 141  # the reader left, e.g. `| head`: what a shell says of a program ended by SIGPIPE
        leaves = [Unavailable(f"cannot write the output: {error.strerror}")]
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 2
    if not all(isinstance(leaf, CemlError) for leaf in leaves):
        raise error
    _send_words(line for leaf in leaves for line in str(leaf).splitlines())
    return 2


def _send_words(lines: Iterable[str]) -> None:
    """Each line once; who cannot be told at least gets the status."""
    with contextlib.suppress(OSError, ValueError):
        for line in dict.fromkeys(lines):
            sys.stderr.write(f"ceml: {line}\n")


def _interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C ended us: where a loop ran, its task was cancelled by that, and by nothing else.

    Before Python 3.11 the loop does not tell so (bpo-39622), nor later where something else was being cancelled.
    """
    asyncio = sys.modules.get("asyncio")  # what was not imported cannot have raised
    return isinstance(error, KeyboardInterrupt) or (
        asyncio is not None and isinstance(error, asyncio.exceptions.CancelledError)
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a tree of them: task groups raise groups (a class of its own before Python 3.11)."""
    inner: tuple[BaseException, ...] | None = getattr(error, "exceptions", None)
    if inner is None:
        yield error
    else:
        for each in inner:
            yield from _leaves(each)
