"""What the unit of the service says of the ceml that writes it: how it is started, and what must stay visible to it."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

HOMES = ("/home", "/root", "/run/user")


def filled(name: str, **values: str) -> str:
    """A template of the directory `service`, with `@KEY@` replaced by the values."""
    text = (files("ceml.commands") / "service" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _program() -> list[Path]:
    """This ceml, as it can be started from anywhere."""
    beside = Path(sys.executable).with_name("ceml")
    return [beside] if beside.is_file() else [Path(sys.executable), Path("-m"), Path("ceml")]


def ceml_words() -> str:
    """How a unit starts this ceml."""
    return " ".join(quoted(str(word)) for word in _program())


def quoted(word: str) -> str:
    """A word for a command line of a unit (systemd.service(5), systemd.syntax(7)).

    Raises:
        SettingsError: It has a character that such a line cannot have.
    """
    if not word.isprintable():
        raise SettingsError(f"{word!r} cannot be written into a unit: install ceml under a path of printable letters")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    plain = word and all(letter.isalnum() or letter in "/-_.,+%" for letter in word)
    return escaped if plain else f'"{escaped}"'


def _places() -> list[Path]:
    return [_program()[0], Path(sys.executable).resolve(), Path(sys.base_prefix), Path(__file__).resolve()]


def home() -> str:
    """`ProtectHome=`: homes are hidden, or readable where ceml or its Python lives in one."""
    return "read-only" if any(place.is_relative_to(home) for place in _places() for home in HOMES) else "yes"


def misplaced() -> str | None:
    """Why no service can start this ceml: it lives where the service has a directory of its own."""
    for place in _places():
        if place.is_relative_to("/tmp") or place.is_relative_to("/var/tmp"):
            return f"{place} is in a temporary directory: install ceml elsewhere, e.g. in /opt/ceml"
    return None


def warnings() -> Iterator[str]:
    """What a person should know of a service that runs as root."""
    for place in dict.fromkeys(_places()):
        for part in (place, *place.parents):
            found = part.stat()
            if found.st_uid != 0 or found.st_mode & 0o022:
                yield (
                    f"root would run {place}, and others than root may change {part}: "
                    "install ceml where only root writes, e.g. sudo python3 -m venv /opt/ceml"
                )
                break
