"""Plugins by name or from a file. Objectives shipped with the house live beside this file; each is one formula.

A plugin is an entry point in a group `ceml.<kind>` (our own are declared the same way, there is no second route), or
a function in a file. It names a plain factory with annotated keyword options; a *reference* is written

    NAME[:key=value,...]                   e.g. min_energy:max_slowdown=0.1
    path/to/file.py:factory[:key=value,...]

Only what is asked for is imported. Options are checked against the factory's annotations, so plugins need no pydantic.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, get_type_hints

from ceml.errors import CemlError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.metadata import EntryPoint

KINDS = {
    "objectives": "objective",
    "models": "model",
    "searches": "search",
    "samplers": "sampler",
    "detectors": "detector",
    "platforms": "platform",
}

_FILE = re.compile(r"(?P<path>.*\.py)(?::(?P<factory>[^:=,]+))?(?::(?P<options>.*))?", re.DOTALL)
_OPTION = re.compile(r"(?:[^,\[]|\[[^\]]*\])+")  # what stands between commas; commas inside brackets do not count


class Known(NamedTuple):
    """A plugin that could be asked for."""

    name: str
    help: str
    distribution: str


@dataclass(frozen=True)
class _Found:
    """A factory, and how to speak of it: `what` is e.g. `objective edp`."""

    what: str
    factory: Callable[..., object]
    file: str | None = None


def find(kind: str, reference: str, /, *positional: object, **defaults: object) -> object:
    """Make the plugin that a reference names.

    Args:
        kind: One of `KINDS`.
        reference: What the user wrote.
        positional: Passed on to the factory first, e.g. a platform's context.
        defaults: Options from elsewhere; those in the reference win, and None counts as not given.

    Raises:
        SettingsError: Unknown name, a file that does not work, options that do not fit, or a thing that is no
            plugin of this kind. The text says what is known, taken or missing.
    """
    found, options = _found(kind, reference)
    given = {key: value for key, value in defaults.items() if value is not None}
    made = _call(found, positional, _typed(found, {**given, **options}, skip=len(positional)))
    _check(kind, found, made)
    return made


def check_options(kind: str, reference: str, *, positional: int = 0) -> None:
    """Look whether a plugin is there and takes the options in the reference; nothing is made.

    Args:
        kind: One of `KINDS`.
        reference: What the user wrote.
        positional: How many arguments its factory gets first.

    Raises:
        SettingsError: It is not known, or its options do not fit.
    """
    found, options = _found(kind, reference)
    _typed(found, options, skip=positional)


def _found(kind: str, reference: str) -> tuple[_Found, dict[str, str]]:
    name, options = _split(kind, reference)
    return _from_file(kind, reference) if name.endswith(".py") else _from_entry_point(kind, name), options


def known(kind: str) -> list[Known]:
    """All plugins of a kind, by name; one that cannot be loaded is listed with its error."""
    listed: list[Known] = []
    for entry in _entry_points(kind):
        try:
            first = (inspect.getdoc(entry.load()) or "no description").splitlines()[0]
        except (Exception, SystemExit) as error:  # a broken plugin must not hide the others
            first = f"cannot be loaded: {type(error).__name__}: {_line(error)}"
        listed.append(Known(entry.name, first, entry.dist.name if entry.dist else ""))
    return sorted(set(listed))


def taken(kind: str) -> dict[str, str]:
    """Names of a kind that are installed, and by which distribution; nothing of them is loaded."""
    return {entry.name: entry.dist.name if entry.dist else "" for entry in _entry_points(kind)}


# Where factories come from --------------------------------------------------------------------------------------------


def _split(kind: str, reference: str) -> tuple[str, dict[str, str]]:
    """The name (or the file) and the options."""
    match = _FILE.fullmatch(reference)
    name, text = (match["path"], match["options"]) if match else reference.partition(":")[::2]
    options: dict[str, str] = {}
    for part in _OPTION.findall(text or ""):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or key.strip() in options:
            wrong = "is given twice" if key.strip() in options else "is not key=value"
            raise SettingsError(
                f"{KINDS[kind]} {reference!r}: option {part!r} {wrong}; "
                "write NAME[:key=value,...] or path/to/file.py:factory[:key=value,...]"
            )
        options[key.strip()] = value.strip()
    return name, options


def _entry_points(kind: str) -> Sequence[EntryPoint]:
    from importlib.metadata import entry_points  # 20 ms that `ceml --help` need not pay

    try:
        return tuple(entry_points(group=f"ceml.{kind}"))
    except ValueError as error:  # one package's spoilt list hides those of all
        raise SettingsError(
            f"the plugins that are installed cannot be listed: {error}; some package's entry_points.txt is no text:"
            " uninstall that package"
        ) from error


def _from_entry_point(kind: str, name: str) -> _Found:
    what = f"{KINDS[kind]} {name}"
    entries = _entry_points(kind)
    matching = {entry.value: entry for entry in entries if entry.name == name}
    if not matching:
        names = sorted({entry.name for entry in entries})
        close = get_close_matches(name, names, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise SettingsError(
            f"no {KINDS[kind]} is called {name!r}{hint}; known are: {', '.join(names) or 'none'}; "
            "or give a file: path/to/file.py:factory"
        )
    if len(matching) > 1:
        raise SettingsError(f"{what} is offered more than once, by {' and '.join(sorted(matching))}: uninstall one")
    (entry,) = matching.values()
    try:
        return _Found(what, entry.load(), None if entry.value.startswith("ceml.") else _file_of(entry.module))
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"{what} cannot be loaded from {entry.value}: {_line(error)}") from error
    except (Exception, SystemExit) as error:
        where = _where(error, _file_of(entry.module) or entry.module)
        raise SettingsError(f"{what} cannot be loaded from {entry.value}: {where}") from error


def _file_of(module: str) -> str | None:
    """The file of a module, whether or not it can be loaded."""
    from importlib.util import find_spec

    try:
        spec = find_spec(module)
    except (Exception, SystemExit):  # of the package it lies in
        return None
    return None if spec is None else spec.origin


def _from_file(kind: str, reference: str) -> _Found:
    from importlib.util import module_from_spec, spec_from_file_location
    from sys import modules

    match = _FILE.fullmatch(reference)
    path, name = (match["path"], match["factory"]) if match else (reference, None)
    spec = spec_from_file_location("ceml_plugin_" + re.sub(r"\W", "_", path), path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{KINDS[kind]} {reference!r}: {path} is no Python file")
    module = module_from_spec(spec)
    modules[module.__name__] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SettingsError(f"{KINDS[kind]} {reference!r}: {_where(error, path)}") from error
    if name is None or not callable(getattr(module, name, None)):
        own = [n for n, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
        functions = ", ".join(n for n in own if callable(getattr(module, n)) and not n.startswith("_"))
        wrong = f"{path} has no function {name!r}" if name else "it does not say which function"
        raise SettingsError(
            f"{KINDS[kind]} {reference!r}: {wrong}; write {path}:NAME, where NAME is one of: {functions or 'none'}"
        )
    return _Found(f"{KINDS[kind]} {reference.partition('.py:')[0]}.py:{name}", getattr(module, name), path)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _where(error: BaseException, path: str) -> str:
    """An error inside of the user's file as one line, with its place."""
    from pathlib import Path

    def is_it(name: object) -> bool:  # Python names a module's file by its absolute path, whatever it was given
        return isinstance(name, str) and Path(name).absolute() == Path(path).absolute()

    if isinstance(error, FileNotFoundError) and is_it(error.filename):
        where = "" if path.startswith("/") else f" ({Path(path).absolute()})"
        return f"there is no file {path}{where}; give the path of a Python file"
    if isinstance(error, OSError) and is_it(error.filename):
        return f"{path} cannot be read: {error.strerror}; give the path of a Python file that this user may read"
    if isinstance(error, SyntaxError):
        return f"{error.filename} line {error.lineno}: {error.msg}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if is_it(trace.tb_frame.f_code.co_filename):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}{f' line {line}' if line else ''}: {type(error).__name__}: {_line(error)}"


# Options --------------------------------------------------------------------------------------------------------------


def _typed(found: _Found, options: Mapping[str, object], *, skip: int) -> dict[str, object]:
    """Options in the types that the factory's annotations ask for."""
    parameters = list(inspect.signature(found.factory).parameters.values())[skip:]
    taken = {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        strange = [name for name in options if name not in taken]
        if strange:
            takes = f"it takes: {', '.join(taken)}" if taken else "it takes no options"
            raise SettingsError(f"{found.what} takes no {', '.join(map(repr, strange))}; {takes}")
    missing = [name for name, p in taken.items() if p.default is p.empty and name not in options]
    if missing:
        raise SettingsError(f"{found.what} needs {', '.join(missing)}: add :{missing[0]}=... to its name")
    return {name: _value(found, name, taken.get(name), value) for name, value in options.items()}


def _value(found: _Found, name: str, parameter: inspect.Parameter | None, value: object) -> object:
    from os import fspath

    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

    if parameter is None:
        return value
    wanted = _annotation(found.factory, parameter)
    if hasattr(value, "__fspath__") and wanted in (str, str | None):
        value = fspath(value)  # type: ignore[call-overload] - settings hold paths, factories of pure plugins ask for text
    if isinstance(value, str) and any(getattr(t, "__origin__", t) in (tuple, list) for t in (wanted, *_union(wanted))):
        value = [part.strip() for part in value.removeprefix("[").removesuffix("]").split(",") if part.strip()]
    try:
        return TypeAdapter[object](wanted, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        said = "; ".join(detail["msg"].replace("Input should be", "must be") for detail in error.errors())
        raise SettingsError(f"{found.what}: {name} = {value!r}: {said}") from None
    except PydanticUserError:  # a type of the plugin's own: it must judge the value itself
        return cast("object", value)


def _union(wanted: Any) -> tuple[Any, ...]:
    return getattr(wanted, "__args__", ())


def _annotation(factory: Callable[..., object], parameter: inspect.Parameter) -> Any:
    """The type of one option; names that exist for type checkers only are no obstacle."""
    default: Any = parameter.default
    guess = cast("Any", str if default is None or default is parameter.empty else type(default))
    if parameter.annotation is parameter.empty:
        return guess

    def carrier() -> None: ...

    carrier.__annotations__ = {parameter.name: parameter.annotation}
    try:
        return get_type_hints(carrier, getattr(factory, "__globals__", None))[parameter.name]
    except NameError:
        return guess


# Is it one? -----------------------------------------------------------------------------------------------------------


def _call(found: _Found, positional: tuple[object, ...], options: dict[str, object]) -> object:
    try:
        return found.factory(*positional, **options)
    except CemlError:
        raise
    except (ValueError, TypeError) as error:
        place = _where(error, found.file) if found.file else str(error)
        raise SettingsError(f"{found.what}: {place}") from error
    except SystemExit as error:  # must not end us without a word
        where = found.file or getattr(found.factory, "__module__", "its module")
        raise SettingsError(f"{found.what}: {_where(error, where)}") from error
    except Exception as error:
        if found.file is None:
            raise  # a bug of ours
        raise SettingsError(f"{found.what}: {_where(error, found.file)}") from error


class _PlatformLike(Protocol):
    """The names of `ceml.control.ports.Platform`, which lives a floor above."""

    @property
    def space(self) -> object: ...
    @property
    def sensors(self) -> object: ...
    @property
    def actuators(self) -> object: ...
    @property
    def total_rails(self) -> object: ...
    @property
    def labels(self) -> object: ...


def _contract(kind: str) -> type:
    from ceml.domain import contracts

    return {
        "objectives": contracts.Objective,
        "models": contracts.ResponseModel,
        "searches": contracts.Search,
        "samplers": contracts.Sampler,
        "detectors": contracts.ChangeDetector,
        "platforms": _PlatformLike,
    }[kind]


NEED_NOT = ("constraints",)  # parts that who has none need not have: CheckedObjective adds them


def parts_of(kind: str) -> dict[str, str]:
    """What a plugin of a kind must have: name -> how a person is told of it."""
    parts: dict[str, str] = {}
    for name, part in vars(_contract(kind)).items():
        if name.startswith("_") or name in NEED_NOT:
            continue
        if inspect.isfunction(part):
            parts[name] = f"method {name}{inspect.signature(part)}"
        elif isinstance(part, property):
            parts[name] = f"attribute {name}"
    return parts


def _check(kind: str, found: _Found, made: object) -> None:
    """Refuse what lacks a part of its contract, and say which."""
    lacking = [
        text
        for name, text in parts_of(kind).items()
        if not (callable(getattr(made, name, None)) if text.startswith("method") else hasattr(made, name))
    ]
    if lacking:
        raise SettingsError(
            f"{found.what} made a {type(made).__name__}, which is no {KINDS[kind]}: it lacks {' and '.join(lacking)}"
        )
