"""What a program's file says: the format of knowledge on disk, checked by pydantic, and what it stands for."""

from __future__ import annotations

import json
from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ceml.domain.knobs import Configuration, Knob, KnobKind
from ceml.domain.values import NAN, Observation, Remembered
from ceml.errors import SettingsError
from ceml.ordinary import read_ordinary

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
MOST_BYTES = 4_000_000
MOST_STATES = 200_000  # of the space that a file speaks of: a model will lay it out in memory
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0.0, le=1e12)]  # steps per second; a beat may stand for many
Watts = Annotated[float, Field(gt=0.0, le=1e6)]  # no machine that runs one program draws a megawatt
RailWatts = Annotated[float, Field(ge=0.0, le=1e6)]
Busy = Annotated[float, Field(ge=0.0, le=1e4)]  # 1 is all of it; some machines count each core


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
    steps: Annotated[float, Field(gt=0.0, le=1e18)]
    rate_hz: Rate
    power_w: Watts | None = None
    power_samples: Annotated[int, Field(ge=0)] = 0
    step_cv: Share | None = None
    power_cv: Share | None = None
    rail_w: dict[str, RailWatts] = {}
    utilisation: dict[str, Busy] = {}

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


class KeptFile(_Part):
    """A file of one machine.

    Attributes:
        made_by: What makes it anew once it is gone.
    """

    made_by: ClassVar[str]


class ProgramFile(KeptFile):
    """One program on one machine, its latest phase first."""

    made_by: ClassVar[str] = (
        "the next run of the program makes it anew, `ceml knowledge import` takes in an exported one"
    )
    format: Literal["ceml-program"] = "ceml-program"
    version: Literal[1] = VERSION
    machine: Name
    app: Name
    phases: Annotated[tuple[_Phase, ...], Field(max_length=16)]


class Settling(_Part):
    """How long a knob takes to come into force, from how many changes; `probed` by `ceml doctor`, or seen in runs."""

    settle_s: Annotated[float, Field(ge=0.0, le=60.0)]
    changes: Annotated[int, Field(ge=1)]
    probed: bool = False


class Reading(_Part):
    """What a reading of a sensor costs, in seconds, and the least steps that its values were seen to move by."""

    period_s: Positive
    read_s: Share
    steps: dict[str, Share] = {}


class MachineFile(KeptFile):
    """What is known of a machine whatever runs on it; an unreachable entry may name one knob alone, for all states."""

    made_by: ClassVar[str] = "the next runs and `ceml doctor --probe` make it anew"
    format: Literal["ceml-machine"] = "ceml-machine"
    version: Literal[1] = VERSION
    machine: Name
    unreachable: tuple[dict[str, float | str], ...] = ()
    settling: dict[str, Settling] = {}
    sensors: dict[str, Reading] = {}


class ExportFile(_Part):
    """Programs of any machines, to be carried elsewhere."""

    format: Literal["ceml-knowledge"] = "ceml-knowledge"
    version: Literal[1] = VERSION
    programs: Annotated[tuple[ProgramFile, ...], Field(max_length=4096)]


_File = TypeVar("_File", bound=KeptFile)
_Content = TypeVar("_Content", bound=BaseModel)


def as_text(content: BaseModel) -> str:
    """A file's content as it is written."""
    return json.dumps(content.model_dump(mode="json", exclude_none=True), indent=1) + "\n"


def parsed(path: Path, kind: type[_File], machine: str | None) -> _File:
    """A file of a machine's directory as what it should be.

    Raises:
        SettingsError: It is no ordinary file, cannot be read, is not understood or is another machine's.
    """
    remedy = f"delete it or move it away: {kind.made_by}"
    try:
        text = read_ordinary(path, MOST_BYTES + 1, what="knowledge", remedy=remedy)
    except OSError as error:
        raise SettingsError(f"knowledge {path} cannot be read: {error.strerror or error}; {remedy}") from None
    content = _understood(path, text, kind, remedy)
    whose = getattr(content, "machine", machine)
    if machine is not None and whose != machine:
        raise SettingsError(
            f"knowledge {path} is of machine {whose}, this one is {machine}: move it to a directory of that "
            "name, or delete it"
        )
    return content


def parsed_export(path: Path) -> ExportFile:
    """What was exported. A person names it, so it may be a pipe as well, and is waited for.

    Raises:
        SettingsError: It cannot be read or is not understood.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"knowledge {path} cannot be read: {error.strerror or error}") from None
    return _understood(path, text, ExportFile, "give a file that `ceml knowledge export` wrote")


def _understood(path: Path, text: bytes, kind: type[_Content], remedy: str) -> _Content:
    try:
        if len(text) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES / 1e6:g} MB")
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where + ': ' if where else ''}{first['msg']}"
    except (ValueError, RecursionError) as error:
        what = str(error)
    raise SettingsError(f"knowledge {path} is not understood: {what}; {remedy}")


def phase_of(phase: Remembered) -> _Phase | None:
    """A phase as its file says it; what was not measured, or what no file would be believed, is left out.

    Returns:
        None where nothing is left.
    """
    measured: list[_Measured] = []
    for seen in phase.observations:
        with suppress(ValidationError):
            measured.append(
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
            )
    if not measured:
        return None
    knobs = tuple(_Knob(name=knob.name, kind=knob.kind, levels=knob.levels) for knob in phase.knobs)
    return _Phase(knobs=knobs, measured=tuple(measured))


def _none(value: float) -> float | None:
    return value if value == value else None


def _nan(value: float | None) -> float:
    return NAN if value is None else value
