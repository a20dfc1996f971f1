"""`ceml client`: prints a client to put beside any program, which then needs nothing of CEML."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs

CLIENTS = {
    "python": ("client.py", "Python 3.6 and newer, standard library only; import it as a module"),
    "c": ("ceml_heartbeat.h", "C99 and C++ on Linux, one header; #include it"),
    "shell": ("ceml_heartbeat.sh", "POSIX sh; source it, or copy its one line"),
}
_EPILOG = """\
languages:
  python  {python}
  c       {c}
  shell   {shell}

examples:
  ceml client python > heartbeats.py     then: import heartbeats; hb = heartbeats.attach("name"); hb.beat()
  ceml client c > ceml_heartbeat.h       then: ceml_attach(&hb, "name", 2000); ceml_beat(&hb, 1);
  ceml client shell > ceml_heartbeat.sh  then: . ./ceml_heartbeat.sh; ceml_beat name "$step"

Programs in Python that can import ceml need no copy: ceml.attach is the same, and ceml.apps.callbacks has one-line
callbacks for PyTorch, Lightning, Hugging Face, Keras and ONNX Runtime (see the README).
"""


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    import argparse

    verb = verbs.add_parser(
        "client",
        help="print a self-contained client to put beside a program",
        description="Print a client that needs nothing of CEML: put it beside a program, on this machine or in its "
        "container, and send a heartbeat per step. It never waits and never fails; without a server it does nothing.",
        epilog=_EPILOG.format(**{name: told for name, (_, told) in CLIENTS.items()}),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_argument("language", choices=tuple(CLIENTS), metavar="LANGUAGE", help=f"one of: {', '.join(CLIENTS)}")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    name, _ = CLIENTS[args.language]
    print((files("ceml.apps") / name).read_text(encoding="utf-8"), end="")
    return 0
