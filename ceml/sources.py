"""Where settings come from: a flag, else the environment (`CEML_<FIELD>`), else a TOML file, else the default.

The four are merged by name and then checked once, so that every mistake is reported in the same words, all at once,
with the place it came from. (pydantic alone does that; the sources of pydantic-settings read the environment on
their own, forget where a value came from and cost another 14 MB of resident memory.)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ceml.errors import SettingsError
from ceml.ordinary import read_ordinary
from ceml.settings import FIELDS, LIMITS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from ceml.domain.values import Limits

_toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

PREFIX = "CEML_"
LONGEST = 1 << 20  # bytes of a configuration file


@dataclass(frozen=True)
class Loaded:
    """Settings, where each value came from, and what should be said about it.

    Attributes:
        settings: The effective settings.
        origins: Field -> "flag", "environment CEML_X", "file PATH" or "default".
        warnings: One sentence each, e.g. an unknown CEML_ variable.
    """

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def load(config_file: Path | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> Loaded:
    """Merge the sources (flag > environment > file > default) and check them.

    Args:
        config_file: A TOML file, or None.
        flags: Field -> value for those that the user gave.
        environ: The environment; `CEML_<FIELD>`, where an empty text counts as unset.

    Raises:
        SettingsError: Anything wrong in any of them, all mistakes at once.
    """
    values: dict[str, object] = {}
    origins = dict.fromkeys(FIELDS, "default")
    if config_file is not None:
        from_file = _read(config_file)
        _refuse_unknown(from_file, f"file {config_file}")
        values.update(from_file)
        origins.update(dict.fromkeys(from_file, f"file {config_file}"))
    names = {PREFIX + name.upper(): name for name in FIELDS}
    for variable, name in names.items():
        if environ.get(variable):
            values[name], origins[name] = environ[variable], f"environment {variable}"
    _refuse_unknown(flags, "flags")
    values.update(flags)
    origins.update(dict.fromkeys(flags, "flag"))
    warnings = tuple(
        f"environment variable {variable} means nothing to ceml{_suggest(variable, names)}"
        for variable in sorted(environ)
        if variable.startswith(PREFIX) and variable not in names
    )
    try:
        return Loaded(Settings.model_validate(values), origins, warnings)
    except ValidationError as error:
        lines = [_sentence(detail, origins) for detail in error.errors(include_url=False)]
        raise SettingsError("\n".join(dict.fromkeys(lines))) from None


def changed_limits(limits: Limits, said: Mapping[str, object], origin: str) -> Limits:
    """The limits with those replaced that a file or a person names, by the names of the settings.

    Raises:
        SettingsError: An unknown name, or a value that is no good.
    """
    unknown = [name for name in said if name not in LIMITS]
    if unknown:
        raise SettingsError(
            f"{origin}: unknown limit {unknown[0]!r}{_suggest(unknown[0], LIMITS)}. Known are: {', '.join(LIMITS)}"
        )
    try:
        new = Settings.model_validate(said).limits
    except ValidationError as error:
        lines = [_sentence(detail, dict.fromkeys(LIMITS, origin)) for detail in error.errors(include_url=False)]
        raise SettingsError("; ".join(dict.fromkeys(lines))) from None
    return replace(limits, **{LIMITS[name]: getattr(new, LIMITS[name]) for name in said})


def _read(path: Path) -> dict[str, object]:
    """The TOML file as a mapping.

    Raises:
        SettingsError: It cannot be read, or is no TOML.
    """
    try:
        data = read_ordinary(path, LONGEST + 1, what="the configuration file")
        if len(data) > LONGEST:
            raise SettingsError(f"the configuration file {path} is longer than {LONGEST} bytes: is it the right file?")
        return _toml.loads(data.decode("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the configuration file {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"the configuration file {path} is no text in UTF-8: is it the right file?") from None
    except RecursionError:
        raise SettingsError(f"the configuration file {path} is nested too deeply to be one") from None
    except ValueError as error:  # syntax, but also a number of 5000 digits, or a path with a null byte
        raise SettingsError(f"the configuration file {path} is no valid TOML: {error}") from None


def _suggest(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _refuse_unknown(given: Mapping[str, object], origin: str) -> None:
    unknown = [name for name in given if name not in FIELDS]
    if unknown:
        said = "; ".join(f"unknown setting {name!r}{_suggest(name, FIELDS)}" for name in unknown)
        raise SettingsError(f"{origin}: {said}. Known are: {', '.join(FIELDS)}")


def _sentence(detail: ErrorDetails, origins: Mapping[str, str]) -> str:
    """One mistake as one line: field, value, origin, what is allowed."""
    text = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be").replace("String ", "text ")
    if not detail["loc"]:
        return text
    name = str(detail["loc"][0])
    shown = "'...'" if name == "web_token" else repr(detail["input"])
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{name} = {shown} (from {origins.get(name, 'default')}): {text}"
