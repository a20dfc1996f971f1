"""The kinds of values that a setting can have: what each accepts, and what it says of anything else."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from ceml import units
from ceml.address import Address, address, endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

_toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

LEAST_TOKEN = 16  # characters: 64 bits where they are hexadecimal, and a wrong one costs a second


def _unless_none(parse: Callable[[object], float]) -> Callable[[object], float | None]:
    """None and `none` mean that there is no such limit."""

    def read(value: object) -> float | None:
        nothing = value is None or (isinstance(value, str) and value.strip().lower() == "none")
        try:
            return None if nothing else parse(value)
        except ValueError as error:
            raise ValueError(f"{error}, or none") from None

    return read


def _rails(values: tuple[str, ...]) -> tuple[str, ...]:
    """Every item is RAIL=POWER, each rail once."""
    rails = [units.rail_power(value)[0] for value in values]
    twice = next((rail for rail in rails if rails.count(rail) > 1), None)
    if twice is not None:
        raise ValueError(f"must name each rail once; {twice} is there more than once")
    return values


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _items(value: object) -> object:
    """One text is a list separated by commas, as in an environment variable; TOML's own form is understood, too."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return _toml.loads(f"items = {value}")["items"]
        except ValueError:
            raise ValueError('must be a list such as a=1,b=2 or ["a=1", "b=2"]') from None
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _no_rails(value: object) -> object:
    """None, `none` and a list of it mean that no rail has a cap, as with the other limits."""
    said = value.strip().lower() if isinstance(value, str) else value
    return () if said in (None, "none", ["none"], ("none",)) else value


def _path(value: object) -> object:
    if isinstance(value, str) and (not value or "\0" in value):
        raise ValueError("must be a path, and not empty")
    return os.path.expanduser(value) if isinstance(value, str) else value  # noqa: PTH111 - never raises


def _where(value: object) -> object:
    return value if value is None else address(value)


def _url(value: object) -> object:
    return value if value is None else endpoint(value)


def _token(value: SecretStr) -> SecretStr:
    said = value.get_secret_value()
    if len(said) < LEAST_TOKEN or not said.isascii() or not said.isprintable() or " " in said:
        raise ValueError(
            f"must be at least {LEAST_TOKEN} letters, digits or signs of ASCII without spaces, such as "
            "`openssl rand -hex 16` gives"
        )
    return value


Text = Annotated[str, Field(min_length=1)]
Where = Annotated[Address | None, BeforeValidator(_where)]
Url = Annotated[str | None, BeforeValidator(_url)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Items = Annotated[tuple[Text, ...], BeforeValidator(_items)]
Real = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_number)]
File = Annotated[Path, BeforeValidator(_path)]
Rails = Annotated[Items, BeforeValidator(_no_rails), AfterValidator(_rails)]
Watts = Annotated[float | None, BeforeValidator(_unless_none(units.power_w))]
Hertz = Annotated[float | None, BeforeValidator(_unless_none(units.rate_hz))]
Share = Annotated[float | None, BeforeValidator(_unless_none(units.share))]
Seconds = Annotated[float | None, BeforeValidator(_unless_none(units.duration_s))]
Joules = Annotated[float | None, BeforeValidator(_unless_none(units.energy_j))]
Celsius = Annotated[float | None, BeforeValidator(_unless_none(units.temperature_c))]
