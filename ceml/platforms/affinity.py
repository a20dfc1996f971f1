"""Which processors a program and its children may run on: turned, and put back. Standard library only.

A mask belongs to each thread, and is inherited by the threads and processes it starts. So all of a family are
turned, and each goes back to its own mask; those who were born meanwhile to that of the program.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ceml.errors import Refused, Temporary
from ceml.saved import Item, Unrestored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ceml.domain.knobs import Knob, Level

KIND = "affinity"
PF_KTHREAD = 0x0020_0000
CAP_SYS_NICE = 1 << 23


class AffinityLever:
    """How many processors a program may use: the first ones of the mask it was found with."""

    def __init__(self, knob: Knob, pid: int, cpus: Sequence[int]) -> None:
        """Nothing is changed.

        Args:
            knob: Its levels are counts of processors.
            pid: The program.
            cpus: The processors it was found with.
        """
        self.knob = knob
        self._pid = pid
        self._cpus = tuple(sorted(cpus))

    def look(self) -> Level:
        """How many processors its main thread may use, where these are the first ones; else which."""
        try:
            mask = sorted(os.sched_getaffinity(self._pid))
        except OSError as error:
            raise Temporary(f"process {self._pid} is gone: {error.strerror}") from None
        if tuple(mask) == self._cpus[: len(mask)]:
            return float(len(mask))
        return "processors " + ",".join(map(str, mask))

    def order(self) -> Level:
        """The same: the mask is the order."""
        return self.look()

    def put(self, level: float) -> float:
        """Turn the whole family and read the program back.

        Raises:
            Refused: This user may not.
            Temporary: The program is gone.
        """
        mask = self._cpus[: round(level)]
        try:
            for thread in family(self._pid):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread, mask)
        except PermissionError:
            raise Refused(
                f"process {self._pid} belongs to another user: run ceml serve as that user or as root",
                knob=self.knob.name,
            ) from None
        except OSError as error:
            raise Refused(
                f"process {self._pid} does not take {level:g} processors: {error.strerror}", knob=self.knob.name
            ) from None
        found = self.look()
        if isinstance(found, str):
            raise Temporary(f"process {self._pid} runs on {found}, not on the first {level:g}: somebody else turns it")
        return found

    def items(self) -> tuple[Item, ...]:
        """The masks of all threads of the family."""
        masks: dict[str, list[int]] = {}
        for thread in family(self._pid):
            with suppress(OSError):
                masks[str(thread)] = sorted(os.sched_getaffinity(thread))
        born = started(self._pid)
        return (Item(KIND, f"{self._pid}:{born}", json.dumps(masks)),) if born is not None and masks else ()


def put_back(items: Iterable[Item]) -> tuple[Unrestored, ...]:
    """Give every thread its mask back; a program that has ended needs nothing. Other kinds are left alone."""
    return tuple(
        Unrestored(f"processors of process {item.target}", reason)
        for item in items
        if item.kind == KIND and (reason := _reason_against(item))
    )


def _reason_against(item: Item) -> str:
    try:
        pid, born = (int(part) for part in item.target.split(":"))
        masks = {int(thread): [int(cpu) for cpu in cpus] for thread, cpus in json.loads(item.value or "").items()}
    except (ValueError, AttributeError, TypeError):
        return f"the journal says nothing that can be used: {item.value!r}"
    if started(pid) != born or not masks:
        return ""  # it has ended; its number may be another's by now
    usual = masks.get(pid) or next(iter(masks.values()))
    for thread in family(pid):
        wanted = masks.get(thread, usual)
        try:
            os.sched_setaffinity(thread, wanted)
        except ProcessLookupError:
            continue
        except OSError as error:
            return f"{error.strerror}; by hand: taskset -ap {','.join(map(str, wanted))} {pid}"
    return ""


def started(pid: int) -> int | None:
    """Start time of a living process in clock ticks since boot, None where it is gone (proc(5), fields 3 and 22)."""
    fields = _stat(pid)
    return None if not fields or fields[0] in (b"Z", b"X") else int(fields[19])


def _stat(pid: int) -> list[bytes]:
    """Fields of /proc/PID/stat from the third one on."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(descriptor, 4096).rpartition(b")")[2].split()  # the name before it may hold anything
    except OSError:
        return []
    finally:
        os.close(descriptor)


def ancestors(pid: int) -> list[int]:
    """Who started a process, who started that, and so on up to the first (proc(5), field 4)."""
    found: list[int] = []
    while len(fields := _stat(found[-1] if found else pid)) > 1 and (parent := int(fields[1])) > 0:
        found.append(parent)
    return found


def of_kernel(pid: int) -> bool:
    """Whether it is a thread of the kernel (proc(5), field 9; include/linux/sched.h)."""
    fields = _stat(pid)
    return len(fields) > 6 and bool(int(fields[6]) & PF_KTHREAD)


def users(pid: int) -> frozenset[int]:
    """Real and effective user of a process: who may turn it (sched_setaffinity(2)); empty where that is hidden."""
    words = _status(pid, "Uid:")
    return frozenset(map(int, words[:2]))


def may_turn_others() -> bool:
    """Whether this process may turn those of other users: CAP_SYS_NICE (capabilities(7))."""
    words = _status(os.getpid(), "CapEff:")
    return bool(words) and bool(int(words[0], 16) & CAP_SYS_NICE)


def _status(pid: int, name: str) -> list[str]:
    """The words of one line of /proc/PID/status (proc(5))."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as below
            return next((line.split()[1:] for line in file if line.startswith(name)), list[str]())
    except OSError:
        return []


def ticks(pid: int) -> int:
    """Processor time of a process and of its children that are done, in clock ticks (fields 14 to 17); gone: 0."""
    return sum(map(int, _stat(pid)[11:15]))


def processes(pid: int) -> list[int]:
    """A process and its living descendants; itself alone where the kernel does not list children (proc(5))."""
    members = [pid]
    for member in members:  # grows while it is walked
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{member}/task"):  # noqa: PTH208 - as below
                with open(f"/proc/{member}/task/{thread}/children", "rb") as file:  # noqa: PTH123 - as below
                    members += map(int, file.read().split())
    return members


def family(pid: int) -> list[int]:
    """Every thread of a program and of its living descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs 2 ms at the start of `ceml restore`
        if name.isdecimal() and len(fields := _stat(int(name))) > 1:
            children.setdefault(int(fields[1]), []).append(int(name))
    members, threads = [pid], list[int]()
    for member in members:  # grows while it is walked
        members += children.get(member, [])
        with suppress(OSError):
            threads += [int(thread) for thread in os.listdir(f"/proc/{member}/task")]  # noqa: PTH208 - as above
    return threads
