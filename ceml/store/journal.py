"""The journal: prior values of every knob, on disk before the first write, gone once all are put back.

Written with fsync of file and directory, so it is there whatever ends us. Standard library only: `ceml restore`
must work when nothing else does.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ceml.errors import SettingsError, Unavailable
from ceml.saved import Item, Saved

VERSION = 1


def boot_id() -> str:
    """What identifies this boot; after another one every volatile setting is back at its default anyway."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def write_durably(path: Path, text: str) -> None:
    """Replace a file atomically and durably: a reader sees the old or the new text, whatever happens between."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
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


def write(path: Path, saved: Saved) -> None:
    """Write the journal.

    Raises:
        Unavailable: It cannot be written: then no knob may be turned.
    """
    content = {"version": VERSION, "boot_id": boot_id(), "pid": os.getpid(), "items": [list(i) for i in saved.items]}
    try:
        write_durably(path, json.dumps(content, indent=1))
    except OSError as error:
        raise Unavailable(
            f"the journal {path} cannot be written: {error.strerror}. No knob was turned, since none could be put back "
            "after a crash; mend that (is the disk full?), or name another directory with --runtime-dir"
        ) from None


def read(path: Path) -> Saved | None:
    """What a dead process left to put back; None where there is nothing, or the machine was booted since.

    Raises:
        SettingsError: The journal is there and cannot be understood.
    """
    try:
        content: Any = json.loads(path.read_bytes())
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, this ceml writes {VERSION}")
        items = tuple(Item(str(k), str(t), None if v is None else str(v)) for k, t, v in content["items"])
        same_boot = content["boot_id"] == boot_id()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} should say which knobs to put back and cannot be read ({error}). "
            "Put the knobs back by hand (a reboot does it too), then delete the file."
        ) from None
    if not same_boot:
        remove(path)
        return None
    return Saved(items)


def remove(path: Path) -> None:
    """Everything is back: the journal goes."""
    with suppress(FileNotFoundError):
        path.unlink()
