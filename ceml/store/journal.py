"""The journal: prior values of every knob, on disk before the first write, gone once all are put back.

Written with fsync of file and directory, so it is there whatever ends us. Of what belongs to the whole machine a copy
lies where every server and `ceml restore` look, since a runtime directory may be another one next time, or go with a
session. Standard library only: `ceml restore` must work when nothing else does.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ceml.errors import SettingsError, Unavailable
from ceml.saved import Item, Saved

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 2
COPIES = Path("/run/ceml/journals")  # of servers that turn what belongs to the machine; root alone can make it


class Left(NamedTuple):
    """What a process wrote down that is to be put back.

    Attributes:
        saved: The values.
        claims: Directories that stand for what it turned, see `ceml.store.lock.claimed`.
        root: Its runtime directory.
    """

    saved: Saved
    claims: tuple[str, ...]
    root: Path


class Journal:
    """The journal of one server.

    Args:
        path: Where it lies, in the runtime directory.
        claims: Directories that stand for what it turns; with any, there is a copy for the whole machine.
    """

    def __init__(self, path: Path, claims: Sequence[str] = ()) -> None:
        self._path = path
        self._claims = tuple(claims)

    def write(self, saved: Saved) -> None:
        """Write it.

        Raises:
            Unavailable: It cannot be written: then no knob may be turned.
        """
        try:
            write_durably(self._path, self._text(saved))
        except OSError as error:
            raise Unavailable(
                f"the journal {self._path} cannot be written: {error.strerror}. No knob was turned, since none could "
                "be put back after a crash; mend that (is the disk full?), or name another directory with --runtime-dir"
            ) from None
        self._copy(saved)

    def ensure(self, saved: Saved) -> None:
        """Write it again where it is gone, be it with its directory; what cannot be written now is tried again."""
        with suppress(OSError):
            if not os.path.exists(self._path):  # noqa: PTH110 - once a second: half the price
                _made(self._path.parent)
                write_durably(self._path, self._text(saved))
        if self._claims and not os.path.exists(copy_of(self._path.parent)):  # noqa: PTH110 - as above
            self._copy(saved)

    def clear(self) -> None:
        """Everything is back: it goes."""
        remove(self._path)
        if self._claims:
            remove(copy_of(self._path.parent))

    def _copy(self, saved: Saved) -> None:
        copy = copy_of(self._path.parent)
        if not self._claims:
            return
        with suppress(OSError):  # not root, or no /run: then it goes without
            _made(COPIES.parent)
            _made(COPIES)
            write_durably(copy, self._text(saved))

    def _text(self, saved: Saved) -> str:
        content = {
            "version": VERSION,
            "boot_id": boot_id(),
            "pid": os.getpid(),
            "start_ticks": _start_ticks(),
            "runtime_dir": str(self._path.parent),
            "claims": self._claims,
            "items": [list(item) for item in saved.items],
        }
        return json.dumps(content, indent=1)


def copy_of(root: Path) -> Path:
    """Where the copy of the journal of a runtime directory lies."""
    return COPIES / f"{sha256(os.fsencode(root)).hexdigest()[:16]}.json"


def copies() -> list[Path]:
    """All copies that this user can see."""
    try:
        return sorted(COPIES.glob("*.json"))
    except OSError:
        return []


def read(path: Path) -> Left | None:
    """What a process left to put back; None where there is nothing, or the machine was booted since.

    Raises:
        SettingsError: The journal is there and cannot be understood.
        Unavailable: This user may not read it.
    """
    try:
        content: Any = json.loads(path.read_bytes())
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, this ceml writes {VERSION}")
        items = tuple(Item(str(k), str(t), None if v is None else str(v)) for k, t, v in content["items"])
        claims = tuple(str(claim) for claim in content["claims"])
        left = Left(Saved(items), claims, Path(str(content["runtime_dir"])))
        same_boot = content["boot_id"] == boot_id()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise Unavailable(f"{path} cannot be read by this user: run this as the user who ran the server") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} should say which knobs to put back and cannot be read ({error}). "
            "Put the knobs back by hand (a reboot does it too), then delete the file."
        ) from None
    if not same_boot:
        remove(path)
        return None
    return left


def remove(path: Path) -> None:
    """It is of no use any more, nor is what a kill in the midst of writing it left."""
    for file in (path, _unfinished(path)):
        with suppress(FileNotFoundError):
            file.unlink()


def boot_id() -> str:
    """What identifies this boot; after another one every volatile setting is back at its default anyway."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _start_ticks() -> int:
    """When this process began, in ticks since boot (proc(5)): with its number it is one process for good."""
    try:
        return int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _made(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(parents=True)
        directory.chmod(0o750)  # after the fact: the umask would win over mkdir's own mode


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")  # one name: who writes holds a lock, and takes the place of a killed one


def write_durably(path: Path, text: str) -> None:
    """Replace a file atomically and durably: a reader sees the old or the new text, whatever happens between."""
    fresh = _unfinished(path)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        try:
            left = text.encode()
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()  # half of it: on a full disk it would be in the way
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
