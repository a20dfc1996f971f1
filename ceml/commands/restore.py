"""`ceml restore`: put every knob back to the value it had before a server that was killed. Light and idempotent."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ceml.errors import SettingsError
from ceml.platforms.restoring import put_back
from ceml.store import journal
from ceml.store.lock import locked
from ceml.store.paths import RuntimePaths

if TYPE_CHECKING:
    import argparse

    from ceml.commands.flags import Verbs

WAIT_S = 10.0  # a killed writer may still be inside a slow driver call; the lock is free when it is really gone


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "restore",
        help="put the knobs back after a server that was killed",
        description="Put every knob back to the value it had before `ceml serve` changed it. A server that ends by "
        "itself or by a signal does this on its own; after a crash or kill -9 this command does it, and so does the "
        "next `ceml serve`. Running it twice, or with nothing to put back, does no harm.",
    )
    verb.add_argument("--runtime-dir", type=Path, metavar="DIR", help="the server's runtime directory")
    verb.add_argument("--wait-s", type=float, default=WAIT_S, metavar="SECONDS", help="for the server to be gone")


def run(args: argparse.Namespace) -> int:
    """Wait for the dead server to be gone, put back, say what could not be."""
    paths = RuntimePaths.at(args.runtime_dir or os.environ.get("CEML_RUNTIME_DIR") or None)
    if not paths.journal.exists():
        print(f"ceml: nothing to put back: there is no {paths.journal}")
        return 0
    with ExitStack() as stack:
        _wait_for_the_lock(paths, stack, args.wait_s)
        return _put_back(paths)


def _wait_for_the_lock(paths: RuntimePaths, stack: ExitStack, wait_s: float) -> None:
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            stack.enter_context(locked(paths.lock))
        except SettingsError as error:
            if time.monotonic() >= deadline_s:
                raise SettingsError(f"{error}\nWhile it lives it puts the knobs back itself when it ends.") from None
            time.sleep(0.05)
        else:
            return


def _put_back(paths: RuntimePaths) -> int:
    saved = journal.read(paths.journal)
    if saved is None:
        print("ceml: nothing to put back: the machine was booted since")
        return 0
    failed = [f"{item.target}: {item.reason}" for item in put_back(saved.items)]
    for line in failed:
        print(f"ceml: could not put back {line}", file=sys.stderr)
    if failed:
        return 1
    journal.remove(paths.journal)
    print(f"ceml: put back {len(saved.items)} saved value{'s' if len(saved.items) != 1 else ''}")
    return 0
