"""Board profiles: facts about boards as data, one TOML file each, checked; a user may give one of their own.

A profile names things (nodes, rails, files) and never says a frequency that the kernel can say. `[fake]` describes
the board to `ceml.testing` and is nothing a driver looks at.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ceml.errors import SettingsError

_toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

FOLDER = Path(__file__).with_name("boards")
DEVICES = ("cpu", "gpu", "mem", "total")  # rails of these names mean something to CEML; others are names alone
Word = Annotated[str, Field(min_length=1)]
Hz = Annotated[float, Field(ge=1e6, le=1e11)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class Match(_Part):
    """How the board is told from others of its SoC.

    Attributes:
        boards: Entries of the device tree's `compatible`.
        parts: Part numbers that may stand inside of such an entry.
        models: Texts that may stand inside of the device tree's `model`.
        fallback: Taken for an unknown board with this SoC.
    """

    boards: tuple[Word, ...] = ()
    parts: tuple[Word, ...] = ()
    models: tuple[Word, ...] = ()
    fallback: bool = False


class Gpu(_Part):
    """Where its GPU is.

    Attributes:
        nodes: Names in the device tree or in /sys/class/devfreq.
        load: Files that say how busy it is, 0 to 1000, relative to `/` or (no leading slash) to the devfreq device.
    """

    nodes: tuple[Word, ...]
    load: tuple[Word, ...] = ()


class Memory(_Part):
    """Its memory clock.

    Attributes:
        candidates_hz: Rates to try where the kernel gives no list; each is believed once it was read back.
        devfreq: Names in /sys/class/devfreq, for boards that do it so.
        activity: Files that say how busy it is, in kHz of its clock.
    """

    candidates_hz: tuple[Hz, ...] = ()
    devfreq: tuple[Word, ...] = ()
    activity: tuple[Word, ...] = ()


class Chip(_Part):
    """A power monitor of the fake: I2C bus and address, labels per channel (empty: not connected), shunts in uOhm."""

    at: Word
    labels: tuple[str, ...]
    shunts_uohm: tuple[int, ...] = ()


class Fake(_Part):
    """The board as `ceml.testing` builds it; tables that were published, for tests only."""

    kernel: Literal["4.9", "6.1"]
    driver: Literal["iio", "hwmon"]
    memory: Literal["bpmp", "override", "limits", "devfreq", "none"]
    clusters: tuple[tuple[int, ...], ...]
    cpu_khz: tuple[int, ...]
    gpu_node: Word
    gpu_hz: tuple[int, ...]
    memory_hz: tuple[int, ...] = ()
    chips: tuple[Chip, ...] = ()
    supply_v: float = Field(default=19.0, gt=0)
    assumed: tuple[Word, ...] = ()


class Profile(_Part):
    """A board.

    Attributes:
        id: Its name in settings.
        names: What people call it.
        soc: The entry of the device tree's `compatible` that names its chip.
        match: How it is told from others.
        gpu: Its GPU.
        memory: Its memory clock.
        rails: Label on the board -> rail (`cpu`, `gpu`, `mem`, `total`, or another name).
        total: Rails whose sum is the power of the whole board: none of them contains another one.
        uncertain: What was found in no reliable source; sentences for `ceml doctor`.
        fake: For tests; a profile of a user needs none.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    names: tuple[Word, ...]
    soc: Word
    match: Match = Match()
    gpu: Gpu
    memory: Memory = Memory()
    rails: dict[Word, Word] = {}
    total: tuple[Word, ...] = ()
    uncertain: tuple[Word, ...] = ()
    fake: Fake | None = None

    @model_validator(mode="after")
    def _agree(self) -> Profile:
        missing = [rail for rail in self.total if rail not in self.rails.values()]
        if missing:
            raise ValueError(f"total names {', '.join(missing)}, which is no rail: {', '.join(self.rails.values())}")
        for rail in self.rails.values():
            meant = [] if rail in DEVICES else get_close_matches(rail.lower(), DEVICES, n=1, cutoff=0.75)
            if meant:
                raise ValueError(f"rails names {rail}: did you mean {meant[0]}? Or choose a name less like it")
        twice = sorted({rail for rail in self.rails.values() if list(self.rails.values()).count(rail) > 1})
        if twice:
            raise ValueError(f"rails names {', '.join(twice)} more than once: each label needs a rail of its own")
        if "total" in self.total and len(self.total) > 1:
            raise ValueError("total: the rail total contains the others, so it stands alone")
        return self


def load(path: Path) -> Profile:
    """Read a profile.

    Raises:
        SettingsError: It cannot be read, or says something that no profile can; all mistakes at once.
    """
    try:
        content = _toml.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"board profile {path} cannot be read: {error.strerror}; give the path of a file") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"board profile {path} is no valid TOML: {error}") from None
    try:
        return Profile.model_validate(content)
    except ValidationError as error:
        said = [_sentence(path, detail) for detail in error.errors(include_url=False)]
        raise SettingsError("\n".join(dict.fromkeys(said))) from None


def _sentence(path: Path, detail: Any) -> str:
    """One mistake as one line: file, field, value, what is allowed, and the word that was perhaps meant."""
    place = ".".join(str(part) for part in detail["loc"])
    text = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be").replace("String", "text")
    if detail["type"] == "extra_forbidden":
        known = _fields(detail["loc"][:-1])
        close = get_close_matches(str(detail["loc"][-1]), known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"board profile {path}: there is no field {place}{hint}; known are: {', '.join(known)}"
    if detail["type"] == "missing":
        return f"board profile {path}: {place} is missing"
    shown = repr(detail["input"])
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"board profile {path}: {f'{place} = {shown}: ' if place else ''}{text}"


def _fields(place: tuple[str | int, ...]) -> list[str]:
    """The fields of the part of a profile at a place such as `("fake", "chips", 0)`."""
    parts: dict[str, type[_Part]] = {"match": Match, "gpu": Gpu, "memory": Memory, "fake": Fake, "chips": Chip}
    names = [step for step in place if isinstance(step, str)]
    return list((parts[names[-1]] if names else Profile).model_fields)


@cache
def shipped() -> dict[str, Profile]:
    """All profiles of the house, by id."""
    found = [load(path) for path in sorted(FOLDER.glob("*.toml"))]
    return {profile.id: profile for profile in found}


def named(reference: str) -> Profile:
    """The profile of that id, or of that file where it ends in `.toml`.

    Raises:
        SettingsError: Nothing is called so, or the file is no profile.
    """
    if reference.endswith(".toml"):
        return load(Path(reference))
    profiles = shipped()
    if reference not in profiles:
        close = get_close_matches(reference, list(profiles), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise SettingsError(
            f"board = {reference!r} is not known{hint}; known are: {', '.join(profiles)}; or give a profile of your "
            "own: path/to/board.toml"
        )
    return profiles[reference]


def matching(compatible: tuple[str, ...], model: str) -> tuple[Profile, bool] | None:
    """The profile for a machine by its device tree, and whether it is more than a guess from the chip; None: unknown.

    Args:
        compatible: Entries of the device tree's `compatible`.
        model: Its `model`.
    """
    best: tuple[int, Profile] | None = None
    for profile in shipped().values():
        if profile.soc not in compatible:
            continue
        match = profile.match
        score = (
            8 * any(text.lower() in model.lower() for text in match.models)
            + 4 * any(part in entry for part in match.parts for entry in compatible)
            + 4 * any(entry in match.boards for entry in compatible)
            + match.fallback
        )
        if best is None or score > best[0]:
            best = score, profile
    return None if best is None or best[0] == 0 else (best[1], best[0] > 1)
