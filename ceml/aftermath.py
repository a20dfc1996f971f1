"""What a server that was killed left turned: found, and put back, before anybody takes it for the machine as it was.

A journal lies in the runtime directory; of what belongs to the whole machine a copy lies where all look, since the next
server may have another runtime directory. Whoever holds the directory's lock, or the machine's claims, lives and puts
back itself. Standard library only: `ceml restore` needs little more.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ceml.errors import CemlError
from ceml.platforms import sysfs
from ceml.platforms.restoring import put_back
from ceml.store import journal
from ceml.store.lock import Held, claimed, holder_was_killed, locked
from ceml.store.paths import RuntimePaths

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from ceml.saved import Unrestored
    from ceml.store.journal import Left

LOOK_S = 0.05  # between two looks whether a server is gone


@dataclass(frozen=True)
class Aftermath:
    """What came of putting back.

    Attributes:
        path: The journal.
        count: How many values it held.
        failed: What could not be put back; then the journal stays.
        beware: Sentences on what was written and reads otherwise, or could not be tidied up.
    """

    path: Path
    count: int
    failed: tuple[Unrestored, ...]
    beware: tuple[str, ...]


def own(root: Path) -> Path | None:
    """The journal of a runtime directory, or where it is gone its copy; None where nothing was left.

    Raises:
        OSError: This user may not look there.
    """
    paths = (RuntimePaths.at(root).journal, journal.copy_of(root))
    return next((path for path in paths if path.exists()), None)


def others(root: Path, claims: Collection[str] | None = None) -> list[Path]:
    """Copies of journals of other runtime directories; with `claims`, those alone that turned some of the same."""
    return [
        path for path in journal.copies() if path != journal.copy_of(root) and (claims is None or _turned(path, claims))
    ]


def _turned(path: Path, claims: Collection[str]) -> bool:
    with suppress(CemlError):  # what cannot be read is for `ceml restore` to complain of
        left = journal.read(path)
        return left is not None and not set(claims).isdisjoint(left.claims)
    return False


def put_back_left(path: Path, *, wait_s: float = 0.0) -> Aftermath | None:
    """Put back what a journal, or a copy of one, holds, once its writer is gone; it then goes.

    Args:
        path: The journal.
        wait_s: For how long to wait for a writer that lives.

    Returns:
        What came of it; None where there is nothing, or the machine was booted since.

    Raises:
        SettingsError: The writer lives, another server turns the same, or the journal cannot be understood.
        Unavailable: This user may not.
    """
    deadline_s, killed = time.monotonic() + wait_s, False
    lock = RuntimePaths.at(path.parent).lock
    while True:
        try:
            with ExitStack() as held:
                root = path.parent
                if root == journal.COPIES:
                    seen = journal.read(path)
                    root = root if seen is None else seen.root
                lock = RuntimePaths.at(root).lock
                if root.is_dir() and not killed:
                    held.enter_context(locked(lock))
                left = journal.read(path)
                if left is None:
                    return None
                if not killed:
                    held.enter_context(claimed(left.claims))
                return _put_back(path, left)
        except Held as error:
            if time.monotonic() >= deadline_s:
                killed = holder_was_killed(lock)
                if killed:
                    continue
                raise Held(f"{error}\nWhile it lives it puts the knobs back itself when it ends.") from None
        time.sleep(LOOK_S)


def _put_back(path: Path, left: Left) -> Aftermath:
    failed = put_back(left.saved.items)
    beware = sysfs.read_otherwise(left.saved.items, failed)
    if not failed:
        try:
            journal.Journal(RuntimePaths.at(left.root).journal, left.claims).clear()
            journal.remove(path)
        except OSError as error:
            beware = (*beware, f"{path} cannot be deleted: {error.strerror}; delete it")
    return Aftermath(path, len(left.saved.items), failed, beware)
