"""What outlives a run: one directory a machine, one JSON file a program, and what the machine refused.

    DIRECTORY/<machine>/machine.json      what proved unreachable, settle times, what sensors cost
    DIRECTORY/<machine>/program-<name>.json   what was measured, pooled per configuration and phase

Plain files, versioned, checked when read, safe to delete at any time. A file that cannot be understood (cut off, of
another version or machine) is passed over with a sentence; before its place is taken it is kept aside under a name of
its own, so that nothing is lost.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from ceml.domain.knobs import Configuration
from ceml.domain.values import Knowledge, Remembered
from ceml.errors import SettingsError
from ceml.store.knowledge_file import (
    ExportFile,
    MachineFile,
    ProgramFile,
    Reading,
    Settling,
    as_text,
    parsed,
    parsed_export,
    phase_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ceml.domain.knobs import KnobSpace
    from ceml.domain.probed import ProbedKnob, ProbedSensor
    from ceml.domain.settling import Seen
    from ceml.store.knowledge_file import KeptFile

FAR = 2.0  # times the highest level, or a share of the lowest: levels beyond are of another machine
MOST_PROGRAMS = 64  # read for one machine, the latest first


@dataclass(frozen=True, slots=True)
class Known:
    """What was found on disk.

    Attributes:
        knowledge: Programs (the latest first) and unreachable configurations.
        problems: One sentence for each file that was passed over.
        settling: Knob -> how long it takes to come into force.
    """

    knowledge: Knowledge
    problems: tuple[str, ...] = ()
    settling: Mapping[str, Settling] = field(default_factory=dict[str, Settling])

    def settled(self, space: KnobSpace) -> KnobSpace:
        """The space with settle times of this machine, where they are longer than its driver says.

        What was seen is how long an order took to be answered; a clock or a quota may come into force later still.
        """
        if not self.settling:
            return space
        return space.settling(
            {
                knob.name: max(known.settle_s, knob.settle_s)
                for knob in space.knobs
                if (known := self.settling.get(knob.name)) is not None
            }
        )

    def on(self, space: KnobSpace) -> Known:
        """What of it can be true on this machine: of programs what was measured with knobs and about levels it has.

        Its levels need not be the very same: limits and boards' modes leave others, and they teach as much. A program
        that has nothing of the kind is left out, and that is said: its file is of other knobs or clocks.
        """
        kept: list[Remembered] = []
        strange: list[str] = []
        for phase in self.knowledge.programs:
            here = tuple(seen for seen in phase.observations if _could_be(space, seen.configuration))
            if here:
                kept.append(replace(phase, observations=here))
            elif phase.app not in strange:
                strange.append(phase.app)
        knobs = ", ".join(knob.name for knob in space.knobs)
        problems = tuple(
            f"what is known of program {app} was measured with other knobs or levels than this machine has ({knobs}): "
            "it is left out"
            for app in strange
        )
        return replace(
            self, knowledge=replace(self.knowledge, programs=tuple(kept)), problems=(*self.problems, *problems)
        )


def _could_be(space: KnobSpace, configuration: Configuration) -> bool:
    """Whether a machine with this space may once have been in that configuration."""
    shared = [knob for knob in space.knobs if knob.name in configuration]
    for knob in shared:
        level = configuration[knob.name]
        if not knob.ordered or isinstance(level, str):
            if level not in knob.levels:
                return False
        elif not float(knob.levels[0]) / FAR <= level <= float(knob.levels[-1]) * FAR:
            return False
    return bool(shared)


@dataclass(frozen=True)
class KnowledgeStore:
    """The files of one machine; nothing is created before something is written.

    Attributes:
        root: Directory of all machines.
        machine: Whose files.
    """

    root: Path
    machine: str
    _written: dict[Path, str] = field(default_factory=dict[Path, str], compare=False)
    _news: list[str] = field(default_factory=list[str], compare=False)

    @property
    def directory(self) -> Path:
        """Where this machine's files lie."""
        return self.root / self.machine

    def path(self, app: str) -> Path:
        """The file of one program."""
        return self.directory / f"program-{app}.json"

    def programs(self) -> list[Path]:
        """Files of programs, the latest first."""
        try:
            found = [(path.stat().st_mtime_ns, path) for path in self.directory.glob("program-*.json")]
        except OSError:
            return []
        return [path for _, path in sorted(found, key=lambda each: (-each[0], each[1].name))]

    def read(self) -> Known:
        """Everything that can be understood."""
        problems: list[str] = []
        programs: list[Remembered] = []
        for path in self.programs()[:MOST_PROGRAMS]:
            try:
                programs += read_program(path, self.machine)
            except SettingsError as error:
                problems.append(str(error))
        here = MachineFile(machine=self.machine)
        try:
            here = self.machine_file()
        except SettingsError as error:
            problems.append(str(error))
        unreachable = frozenset(map(Configuration, here.unreachable))
        return Known(Knowledge(programs=tuple(programs), unreachable=unreachable), tuple(problems), here.settling)

    def machine_file(self) -> MachineFile:
        """What is known of the machine itself; of one that nothing is known of, an empty one.

        Raises:
            SettingsError: The file is there and cannot be understood.
        """
        path = self.directory / "machine.json"
        return parsed(path, MachineFile, self.machine) if path.exists() else MachineFile(machine=self.machine)

    def keep_settling(self, seen: Mapping[str, Seen]) -> None:
        """Write how long changes took in a run; what was probed stays, and what earlier runs saw weighs as much.

        Raises:
            OSError: It cannot be written.
        """
        before = self._machine_or_none()
        settling = dict(before.settling)
        for knob, each in seen.items():
            known = settling.get(knob)
            if known is None:
                settling[knob] = Settling(settle_s=min(each.settle_s, 60.0), changes=each.changes)
            elif not known.probed:
                mean_s = 0.5 * (known.settle_s + min(each.settle_s, 60.0))
                settling[knob] = Settling(settle_s=mean_s, changes=known.changes + each.changes)
        self.write(self.directory / "machine.json", before.model_copy(update={"settling": settling}))

    def keep_probed(self, knobs: Sequence[ProbedKnob], sensors: Sequence[ProbedSensor]) -> MachineFile:
        """Write what turning the knobs and reading the sensors came to; what was known of the same knobs gives way.

        Raises:
            OSError: It cannot be written.
        """
        before = self._machine_or_none()
        sound = [each for each in knobs if not each.problem]
        names = {each.knob.name for each in sound}
        gone = [each for each in before.unreachable if not (len(each) == 1 and set(each) <= names)]
        gone += [{each.knob.name: level} for each in sound for level in each.unreached]
        settling = {
            each.knob.name: Settling(settle_s=each.settle_s, changes=len(each.latencies_s), probed=True)
            for each in sound
            if each.latencies_s
        }
        read = {
            each.name: Reading(period_s=each.period_s, read_s=each.read_s, steps=each.steps)
            for each in sensors
            if not each.problem
        }
        content = before.model_copy(
            update={
                "unreachable": tuple(gone),
                "settling": {**before.settling, **settling},
                "sensors": {**before.sensors, **read},
            }
        )
        self.write(self.directory / "machine.json", content)
        return content

    def _machine_or_none(self) -> MachineFile:
        """What is known of the machine; nothing where that cannot be understood: it was said when it was read."""
        try:
            return self.machine_file()
        except SettingsError:
            return MachineFile(machine=self.machine)

    def keep(self, app: str, phases: Sequence[Remembered], unreachable: frozenset[Configuration]) -> None:
        """Write what was learnt of one program and of the machine, where it is news.

        Raises:
            OSError: It cannot be written.
        """
        kept = tuple(each for phase in phases if (each := phase_of(phase)) is not None)
        if kept:
            self.write(self.path(app), ProgramFile(machine=self.machine, app=app, phases=kept))
        if unreachable:
            listed = tuple(dict(each) for each in sorted(unreachable, key=str))
            content = self._machine_or_none().model_copy(update={"unreachable": listed})
            self.write(self.directory / "machine.json", content)

    def write(self, path: Path, content: KeptFile) -> None:
        """Replace a file of this machine, unless it holds the very same; atomically.

        What lies there and is not understood is kept beside it; `news` tells where.

        Raises:
            OSError: It cannot be written.
        """
        text = as_text(content)
        if self._written.get(path) == text:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")  # not synced: what a crash loses is measured again
        try:
            fresh.write_text(text, encoding="utf-8")
            if os.path.lexists(path) and not self._understands(path, type(content)):
                kept = _set_aside(path)
                self._news.append(f"{path} could not be taken up: it is kept as {kept.name}, and its place is taken")
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)  # half of it: on a full disk it would be in the way
            raise
        self._written[path] = text

    def _understands(self, path: Path, kind: type[KeptFile]) -> bool:
        try:
            if kind is ProgramFile:
                read_program(path, self.machine)
            else:
                parsed(path, kind, self.machine)
        except SettingsError:
            return False
        return True

    def news(self) -> list[str]:
        """What a person should be told of what was written since this was asked last, a sentence each."""
        told = self._news.copy()
        self._news.clear()
        return told


def _set_aside(path: Path) -> Path:
    """Give a file another name, one that nothing else has; returns it.

    The name is taken before it is used: two servers that find the same file never overwrite what the other kept.

    Raises:
        OSError: The directory cannot be written to.
    """
    folder = path.is_dir() and not path.is_symlink()
    for number in count(1):
        aside = path.with_name(f"{path.name}.aside{f'-{number}' if number > 1 else ''}")
        try:
            aside.mkdir() if folder else aside.touch(exist_ok=False)
        except FileExistsError:
            continue
        try:
            return path.replace(aside)
        except OSError:
            aside.rmdir() if folder else aside.unlink()
            raise
    raise AssertionError("names never end")


def machine_name(words: str) -> str:
    """A machine's name as the name of a directory: letters, digits, dots, dashes; at most 64."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-.")[:64]
    return name or "machine"


def read_program(path: Path, machine: str | None = None) -> tuple[Remembered, ...]:
    """The phases in a program's file, the latest first.

    Raises:
        SettingsError: It cannot be read, is no such file, or belongs to another machine.
    """
    content = parsed(path, ProgramFile, machine)
    if path.name != f"program-{content.app}.json":
        raise SettingsError(
            f"knowledge {path} is of program {content.app}: name it program-{content.app}.json, or delete it"
        )
    return tuple(
        Remembered(
            app=content.app,
            knobs=tuple(knob.knob() for knob in phase.knobs),
            observations=tuple(seen.observation() for seen in phase.measured),
        )
        for phase in content.phases
    )


def exported(stores: Sequence[KnowledgeStore]) -> tuple[str, int, list[str]]:
    """All programs of these machines as one text, how many there are, and why some files are left out.

    What is unreachable on one machine need not be so on its like, so it stays at home.
    """
    programs: list[ProgramFile] = []
    left_out: list[str] = []
    for store in stores:
        for path in store.programs():
            try:
                programs.append(parsed(path, ProgramFile, store.machine))
            except SettingsError as error:
                left_out.append(str(error))
    return as_text(ExportFile(programs=tuple(programs))), len(programs), left_out


def imported(
    root: Path, source: Path, only: str | None = None
) -> tuple[list[tuple[KnowledgeStore, str]], list[tuple[KnowledgeStore, str]]]:
    """Take in what `exported` wrote.

    Returns:
        Machine and program of those taken, and of those kept because they were known here already.

    Raises:
        SettingsError: The file cannot be read or is no such file, or the directory cannot be written to.
    """
    taken: list[tuple[KnowledgeStore, str]] = []
    kept: list[tuple[KnowledgeStore, str]] = []
    for program in parsed_export(source).programs:
        if only is not None and program.machine != only:
            continue
        store = KnowledgeStore(root, program.machine)
        if store.path(program.app).exists():
            kept.append((store, program.app))
            continue
        try:
            store.write(store.path(program.app), program)
        except OSError as error:
            raise SettingsError(f"knowledge {store.directory} cannot be written: {error.strerror or error}") from None
        taken.append((store, program.app))
    return taken, kept
