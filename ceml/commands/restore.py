"""`ceml restore`: put every knob back to the value it had before a server that was killed. Light and idempotent."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ceml.aftermath import others, own, put_back_left
from ceml.errors import CemlError, Unavailable
from ceml.platforms import cgroup
from ceml.store.lock import Held
from ceml.store.paths import RuntimePaths

if TYPE_CHECKING:
    from ceml.aftermath import Aftermath
    from ceml.commands.flags import Verbs

WAIT_S = 10.0  # a killed writer may still be inside a slow driver call; the lock is free when it is really gone


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "restore",
        help="put the knobs back after a server that was killed",
        description="Put every knob back to the value it had before `ceml serve` changed it. A server that ends by "
        "itself or by a signal does this on its own; after a crash or kill -9 this command does it, and so does the "
        "next `ceml serve`. Running it twice, or with nothing to put back, does no harm. Without a directory given, "
        "what servers with other runtime directories left of the machine is put back, too.",
    )
    verb.add_argument("--runtime-dir", type=Path, metavar="DIR", help="only what the server of this directory left")
    # In place of a server that went deaf (`Ending.heir`): our child to wait for, or the status to end with.
    verb.add_argument("--wait-for", type=int, help=argparse.SUPPRESS)
    verb.add_argument("--ends-with", type=int, default=0, help=argparse.SUPPRESS)
    verb.add_argument("--wait-s", type=float, default=WAIT_S, metavar="SECONDS", help="for the server to be gone")


def run(args: argparse.Namespace) -> int:
    """Put back; in the place of a server that went deaf, end as it should: with the status of its program, or badly."""
    status = _restore(args)
    if args.wait_for is None:
        return max(status, args.ends_with)
    code = os.waitstatus_to_exitcode(os.waitpid(args.wait_for, 0)[1])
    return code if code >= 0 else 128 - code


def _restore(args: argparse.Namespace) -> int:
    """Wait for the dead server to be gone, put back, say what could not be."""
    cgroup.sweep()
    ours = sys.stdout if args.wait_for is None else sys.stderr  # in the place of `ceml run` that is its program's
    given = args.runtime_dir or os.environ.get("CEML_RUNTIME_DIR") or None
    root = RuntimePaths.at(given).root
    try:
        mine = own(root)
    except OSError as error:
        raise Unavailable(f"{root} cannot be looked into: {error.strerror}; run this as the server's user") from None
    elsewhere = others(root) if given is None else []
    if mine is None and not elsewhere:
        print(f"ceml: nothing to put back: there is no {RuntimePaths.at(root).journal}", file=ours)
        return 0
    status = 0
    for path in filter(None, (mine, *elsewhere)):
        try:
            status = max(status, _told(put_back_left(path, wait_s=args.wait_s if path == mine else 0.0), ours))
        except CemlError as error:
            if path == mine:
                raise
            print(f"ceml: {error}", file=sys.stderr)
            status = max(status, 0 if isinstance(error, Held) else 1)  # who lives puts back himself
    return status


def _told(came: Aftermath | None, ours: TextIO) -> int:
    if came is None:
        print("ceml: nothing to put back: the machine was booted since", file=ours)
        return 0
    for item in came.failed:
        print(f"ceml: could not put back {item.target}: {item.reason}", file=sys.stderr)
    for sentence in came.beware:
        print(f"ceml: beware: {sentence}", file=sys.stderr)
    if came.failed:
        return 1
    print(f"ceml: put back {came.count} saved value{'s' if came.count != 1 else ''}", file=ours)
    return 0
