"""What outlives a run: one directory a machine, one JSON file a program, and what the machine refused.

    DIRECTORY/<machine>/machine.json      configurations that proved unreachable
    DIRECTORY/<machine>/program-<name>.json   what was measured, pooled per configuration and phase

Plain files, versioned, checked when read, safe to delete at any time. A file that cannot be understood is passed over
with a sentence and never overwritten by anything but a new measurement of that very program.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ceml.domain.knobs import Configuration, Knob, KnobKind
from ceml.domain.values import NAN, Knowledge, Observation, Remembered
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
MOST_BYTES = 4_000_000
MOST_PROGRAMS = 64  # read for one machine, the latest first
MOST_STATES = 200_000  # of the space that a file speaks of: a model will lay it out in memory
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Knob(_Part):
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    kind: KnobKind
    levels: Annotated[tuple[float | str, ...], Field(min_length=1, max_length=4096)]

    def knob(self) -> Knob:
        return Knob(name=self.name, kind=self.kind, levels=self.levels)


class _Measured(_Part):
    configuration: dict[str, float | str]
    beats: Annotated[int, Field(ge=1)]
    steps: Positive
    rate_hz: Positive
    power_w: Positive | None = None
    power_samples: Annotated[int, Field(ge=0)] = 0
    step_cv: Share | None = None
    power_cv: Share | None = None
    rail_w: dict[str, float] = {}
    utilisation: dict[str, float] = {}

    def observation(self) -> Observation:
        return Observation(
            configuration=Configuration(self.configuration),
            start_s=0.0,
            end_s=self.steps / self.rate_hz,
            beats=self.beats,
            steps=self.steps,
            rate_hz=self.rate_hz,
            power_w=_nan(self.power_w),
            rail_w=self.rail_w,
            utilisation=self.utilisation,
            power_samples=self.power_samples,
            step_cv=_nan(self.step_cv),
            power_cv=_nan(self.power_cv),
        )


class _Phase(_Part):
    knobs: Annotated[tuple[_Knob, ...], Field(min_length=1, max_length=64)]
    measured: Annotated[tuple[_Measured, ...], Field(min_length=1, max_length=1024)]

    @model_validator(mode="after")
    def _agree(self) -> _Phase:
        levels = {knob.name: knob.knob().levels for knob in self.knobs}
        if len(levels) < len(self.knobs) or prod(map(len, levels.values())) > MOST_STATES:
            raise ValueError(f"knobs must differ by name and span at most {MOST_STATES} states")
        for at, seen in enumerate(self.measured):
            if seen.configuration.keys() != levels.keys() or any(
                level not in levels[name] for name, level in seen.configuration.items()
            ):
                raise ValueError(f"measured[{at}]: configuration {seen.configuration} is not made of these knobs")
        return self


class _Program(_Part):
    format: Literal["ceml-program"] = "ceml-program"
    version: Literal[1] = VERSION
    machine: Name
    app: Name
    phases: Annotated[tuple[_Phase, ...], Field(max_length=16)]


class _Machine(_Part):
    format: Literal["ceml-machine"] = "ceml-machine"
    version: Literal[1] = VERSION
    machine: Name
    unreachable: tuple[dict[str, float | str], ...] = ()


class _Export(_Part):
    format: Literal["ceml-knowledge"] = "ceml-knowledge"
    version: Literal[1] = VERSION
    programs: Annotated[tuple[_Program, ...], Field(max_length=4096)]


_File = TypeVar("_File", _Program, _Machine, _Export)


@dataclass(frozen=True, slots=True)
class Known:
    """What was found on disk.

    Attributes:
        knowledge: Programs (the latest first) and unreachable configurations.
        problems: One sentence for each file that was passed over.
    """

    knowledge: Knowledge
    problems: tuple[str, ...] = ()


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
        unreachable: frozenset[Configuration] = frozenset()
        path = self.directory / "machine.json"
        if path.exists():
            try:
                unreachable = frozenset(map(Configuration, _parsed(path, _Machine, self.machine).unreachable))
            except SettingsError as error:
                problems.append(str(error))
        return Known(Knowledge(programs=tuple(programs), unreachable=unreachable), tuple(problems))

    def keep(self, app: str, phases: Sequence[Remembered], unreachable: frozenset[Configuration]) -> None:
        """Write what was learnt of one program and of the machine, where it is news.

        Raises:
            OSError: It cannot be written.
        """
        if phases:
            content = _Program(machine=self.machine, app=app, phases=tuple(map(_phase, phases)))
            self.write(self.path(app), content)
        if unreachable:
            listed = tuple(dict(each) for each in sorted(unreachable, key=str))
            self.write(self.directory / "machine.json", _Machine(machine=self.machine, unreachable=listed))

    def write(self, path: Path, content: BaseModel) -> None:
        """Replace a file of this machine, unless it holds the very same; atomically.

        Raises:
            OSError: It cannot be written.
        """
        text = _text(content)
        if self._written.get(path) == text:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")  # not synced: what a crash loses is measured again
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
        self._written[path] = text


def machine_name(words: str) -> str:
    """A machine's name as the name of a directory: letters, digits, dots, dashes; at most 64."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-.")[:64]
    return name or "machine"


def read_program(path: Path, machine: str | None = None) -> tuple[Remembered, ...]:
    """The phases in a program's file, the latest first.

    Raises:
        SettingsError: It cannot be read, is no such file, or belongs to another machine.
    """
    content = _parsed(path, _Program, machine)
    return tuple(
        Remembered(
            app=content.app,
            knobs=tuple(knob.knob() for knob in phase.knobs),
            observations=tuple(seen.observation() for seen in phase.measured),
        )
        for phase in content.phases
    )


def exported(stores: Sequence[KnowledgeStore]) -> tuple[str, int]:
    """All programs of these machines as one text, and how many there are; files not understood are left out.

    What is unreachable on one machine need not be so on its like, so it stays at home.
    """
    programs: list[_Program] = []
    for store in stores:
        for path in store.programs():
            with suppress(SettingsError):
                programs.append(_parsed(path, _Program, store.machine))
    return _text(_Export(programs=tuple(programs))), len(programs)


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
    for program in _parsed(source, _Export, None).programs:
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


def _text(content: BaseModel) -> str:
    return json.dumps(content.model_dump(mode="json", exclude_none=True), indent=1) + "\n"


def _parsed(path: Path, kind: type[_File], machine: str | None) -> _File:
    """A file as what it should be."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES / 1e6:g} MB")
        content = kind.model_validate_json(text)
    except OSError as error:
        raise SettingsError(f"knowledge {path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(
            f"knowledge {path} is not understood: {where + ': ' if where else ''}{first['msg']}; delete it, or "
            "make it anew with `ceml knowledge export`"
        ) from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"knowledge {path} is not understood: {error}; delete it") from None
    if machine is not None and isinstance(content, _Program | _Machine) and content.machine != machine:
        raise SettingsError(
            f"knowledge {path} is of machine {content.machine}, this one is {machine}: move it to a directory of that "
            "name, or delete it"
        )
    return content


def _phase(phase: Remembered) -> _Phase:
    return _Phase(
        knobs=tuple(_Knob(name=knob.name, kind=knob.kind, levels=knob.levels) for knob in phase.knobs),
        measured=tuple(
            _Measured(
                configuration=dict(seen.configuration),
                beats=seen.beats,
                steps=seen.steps,
                rate_hz=seen.rate_hz,
                power_w=_none(seen.power_w),
                power_samples=seen.power_samples,
                step_cv=_none(seen.step_cv),
                power_cv=_none(seen.power_cv),
                rail_w={rail: watts for rail, watts in seen.rail_w.items() if watts == watts},
                utilisation={device: share for device, share in seen.utilisation.items() if share == share},
            )
            for seen in phase.observations
        ),
    )


def _none(value: float) -> float | None:
    return value if value == value else None


def _nan(value: float | None) -> float:
    return NAN if value is None else value
