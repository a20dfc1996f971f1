"""Control groups: which one a program is in, one of its own, and none left behind. Standard library only."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ceml.errors import CemlError
from ceml.platforms import sysfs

if TYPE_CHECKING:
    from collections.abc import Generator

PREFIX = "ceml-"
LOOKS, LOOK_S = 10, 0.02  # the kernel takes a moment to see that a group is empty


def of(pid: int) -> tuple[str, bool] | None:
    """Directory of a program's cgroup that has the cpu controller, and whether it is of version 2 (cgroups(7)).

    Raises:
        CemlError: There is no such program, or nothing can be read.
    """
    return _folder(sysfs.text(f"/proc/{pid}/cgroup"))


@contextmanager
def own_group(pid: int, *, ahead: bool = False) -> Generator[bool]:
    """Give a program a control group of its own while this lasts, so that its share of time can be turned; needs root.

    Args:
        pid: The program, not yet or already running; its children come along.
        ahead: Let it go before whatever else runs here.

    Yields:
        Whether it has one.
    """
    sweep()
    made: Path | None = None
    for unified in (False, True):
        mount = mounted(unified=unified)
        with suppress(OSError):
            if mount is not None and _moved(group := Path(mount) / f"{PREFIX}{pid}", pid, ahead=ahead):
                made = group
                break
    try:
        yield made is not None
    finally:
        for _ in range(LOOKS if made is not None else 0):
            with suppress(OSError):
                made.rmdir()  # type: ignore[union-attr]
                break
            time.sleep(LOOK_S)  # noqa: TID251 - outside of any event loop


def sweep() -> None:
    """Remove the groups of programs that are gone, as a server that was killed leaves them; what is in use stays."""
    for unified in (False, True):
        mount = None
        with suppress(CemlError):
            mount = mounted(unified=unified)
        for old in Path(mount).glob(f"{PREFIX}[0-9]*") if mount is not None else ():
            if not _lives(old.name.removeprefix(PREFIX)):
                with suppress(OSError):  # the kernel keeps one with programs in it
                    old.rmdir()


def _lives(pid: str) -> bool:
    """Whether there is such a process, and it is no zombie that nobody waits for."""
    try:
        return Path("/proc", pid, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _moved(group: Path, pid: int, *, ahead: bool) -> bool:
    group.mkdir()
    try:
        if (group / "cpu.max").exists() or (group / "cpu.cfs_quota_us").exists():
            for weight, most in (("cpu.weight", "1000"), ("cpu.shares", "10000")):
                if ahead and (group / weight).exists():
                    (group / weight).write_text(most, encoding="ascii")
            (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
            return True
    except OSError:
        group.rmdir()
        raise
    group.rmdir()
    return False


def mounted(*, unified: bool) -> str | None:
    """Where the hierarchy with the cpu controller is mounted (proc(5), mountinfo); None: nowhere."""
    for line in sysfs.text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = (*after.split(" ", 2), "", "")[:3]
        if unified and kind == "cgroup2":
            return before.split()[4]
        if not unified and kind == "cgroup" and "cpu" in options.split(","):
            return before.split()[4]
    return None


def _folder(text: str) -> tuple[str, bool] | None:
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(",") if number != "0" else ["unified"], path))
    unified = "cpu" not in paths
    path = paths.get("unified" if unified else "cpu")
    mount = mounted(unified=unified)
    return None if path is None or mount is None else (sysfs.under(mount, path), unified)
