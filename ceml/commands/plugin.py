"""`ceml plugin new|check`: start a plugin of one's own, and hear in plain words whether it keeps its promises."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from ceml.errors import CemlError, SettingsError
from ceml.plugins import KINDS, find, parts_of, taken

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

    from ceml.commands.flags import Verbs
    from ceml.control.ports import Platform

_PLURALS = {name: kinds for kinds, name in KINDS.items()}
MOST_LETTERS = 41
_USES = {
    "objective": "--objective {0}",
    "model": "--model {0} --sampler paper",
    "search": "--search {0}",
    "sampler": "--sampler {0}",
    "detector": "--detector {0}",
    "platform": "--platform {0}:root=DIRECTORY",
}
_ASKED = {
    "objective": "numbers for 1 to 540 states, in any order and beside any others; worse states cost no less; speed",
    "model": "fits to nothing, little and enough; shape, order, speed; median error on a board whose truth is known",
    "search": "a state of the space, good, allowed where possible and flagged where not; spaces with holes; speed",
    "sampler": "a whole run: states of the space, a bounded number of trials, an end",
    "detector": "steady, changed and missing signals in any unit; reset; speed",
    "platform": "each knob turned, read back, refused out of range and put back; each sensor read",
}
SLACK_S = 10.0  # for a plugin to hear that its time is up, before its process is ended
PLATFORM_S = 120.0  # for one actuator or sensor: each knob is turned several times, and may settle slowly
_EPILOG = """\
examples:
  ceml plugin new objective my_metric        writes my_metric/: the plugin, its test, its pyproject.toml
  ceml plugin check my_metric/ceml_my_metric.py:my_metric
  ceml plugin check examples/03-own-objective/objective.py:fast_enough:longest_s=0.9
  ceml plugin check edp                      one that is installed; `ceml plugins` lists them
"""


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    import argparse

    options: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    verb = verbs.add_parser(
        "plugin",
        help="start a plugin of your own, or check one",
        description="An objective, a model, a search, a sampler, a detector or a platform of your own: a function in a "
        "file, used as --objective path/to/file.py:function, or a package that installs it under a name.",
        epilog=_EPILOG,
        **options,
    )
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser(
        "new",
        help="write a working package: the plugin, its test, its entry point",
        description="Write a package NAME/ with a plugin that works as it stands, a test that checks its promises, and "
        "the entry point under which `pip install -e NAME` makes it known. Then make it yours.",
        **options,
    )
    new.add_argument("kind", choices=tuple(_PLURALS), metavar="KIND", help=f"one of: {', '.join(_PLURALS)}")
    new.add_argument("name", metavar="NAME", help="its name, as in --objective NAME: a lower-case Python name")
    new.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="where to write NAME/ (default: here)")
    check = actions.add_parser(
        "check",
        help="ask a plugin for its promises, and say in plain words what is wrong",
        description="Make the plugin as ceml would and ask it about made-up states, measurements and signals of which "
        "the right answer is known. It is asked in a process of its own and has 20 s for each answer (a platform 120 s "
        "for each part), then it is ended. Exit status 0: all promises are kept; 2: some are not.\n\nasked for:\n"
        + "\n".join(f"  {kind:<10} {asked}" for kind, asked in _ASKED.items()),
        **options,
    )
    check.add_argument("reference", metavar="PLUGIN", help="path/to/file.py:factory[:key=value,...], or a name")
    check.add_argument(
        "--kind", choices=tuple(_PLURALS), metavar="KIND", help="what it is to be (default: what it can be)"
    )


def run(args: argparse.Namespace) -> int:
    """Write one, or check one."""
    if args.action == "new":
        return _new(args.kind, args.name, args.to)
    kind, faults = _checked(args.reference, args.kind)
    if not faults:
        print(f"{kind} {args.reference} keeps its promises; it was asked for: {_ASKED[kind]}")
        return 0
    print(f"{kind} {args.reference} breaks {len(faults)} of its promises:")
    for fault in faults:
        print(f"- {fault}")
    return 2


# Checking -------------------------------------------------------------------------------------------------------------


def _checked(reference: str, kind: str | None) -> tuple[str, list[str]]:
    """What it is, and what is wrong with it. It is asked in a process of its own, which is ended if it hangs.

    Raises:
        SettingsError: It cannot be made, or is no plugin of any kind.
    """
    from ceml.testing.apart import Apart, Silent

    faults: dict[str, None] = {}
    found = ""
    with TemporaryDirectory(prefix="ceml-check-") as folder:

        def work(say: Callable[[str, str], None]) -> None:
            is_kind, made = _made(reference, kind, Path(folder))
            say("kind", is_kind)
            for fault in _faults(is_kind, made):
                say("fault", fault)

        with Apart(work) as checked:
            try:
                while (said := checked.next(_patience_s(found) + SLACK_S)) is not None:
                    what, text = said
                    if what == "error":
                        raise SettingsError(text)
                    if what == "kind":
                        found = text
                    elif text:
                        faults[text] = None
            except Silent as error:
                if not found:
                    raise SettingsError(f"{reference}: while it was made, {error}") from None
                beware = "; its knobs stand where that left them" if found == "platform" else ""
                faults[f"{error}{beware}"] = None
    return found, list(faults)


def _patience_s(kind: str) -> float:
    from ceml.testing import promises

    return PLATFORM_S if kind == "platform" else promises.LIMIT_S


def _made(reference: str, kind: str | None, folder: Path) -> tuple[str, object]:
    """The plugin, and what it is.

    Raises:
        SettingsError: It cannot be made, or is no plugin of any kind.
    """
    from functools import partial

    from ceml.store.paths import PlatformContext
    from ceml.testing.promises import in_time

    told: dict[str, str] = {}
    for kinds, name in KINDS.items():
        if kind in (None, name):
            context = (PlatformContext(runtime_dir=folder),) if name == "platform" else ()
            try:
                return name, in_time(partial(find, kinds, reference, *context), "a plugin is made in an instant")
            except SettingsError as error:
                told[name] = str(error)
    raise SettingsError(next(iter(told.values())) if len(told) == 1 else _no_plugin(reference, told))


def _no_plugin(reference: str, told: Mapping[str, str]) -> str:
    """Why a reference makes no plugin of any kind, in one sentence rather than six."""
    known = {name: text for name, text in told.items() if not text.startswith(f"no {name} is called")}
    if not known:
        meant = next((text for text in told.values() if "did you mean" in text), None)
        return meant or (
            f"no plugin is called {reference!r}; `ceml plugins` lists them, or give a file: path/to/file.py:factory"
        )
    other = {name: text.rpartition(" lacks ")[2] for name, text in known.items() if " lacks " in text}
    failed = {name: text for name, text in known.items() if name not in other}
    if "platform" in failed and ((len(failed) == 1 and not other) or " needs context" in next(iter(failed.values()))):
        return failed["platform"]  # it alone is made with a context
    if set(failed) - {"platform"}:
        return next(iter(failed.values()))
    lacking = {name: text.split(" and ") for name, text in other.items()}
    share = {name: len(texts) / len(parts_of(_PLURALS[name])) for name, texts in lacking.items()}
    nearest = min(share, key=lambda name: (share[name], len(lacking[name])))
    told_of = f"it is nearest to {_a(nearest)}, and lacks" if share[nearest] < 1.0 else f"{_a(nearest)}, for one, has"
    return (
        f"{reference}: what it makes is no plugin of any kind; {told_of} {other[nearest]}; `ceml plugin new KIND NAME` "
        "writes one of any kind that works"
    )


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _faults(kind: str, made: object) -> Iterator[str]:
    """One answer after the other; empty: that promise is kept."""
    from ceml.testing.promises import answers

    if kind == "platform":
        return _platform_faults(cast("Platform", made))
    return answers(_promises(kind, made))


def _promises(kind: str, made: Any) -> Iterator[Callable[[], None]]:
    from ceml.testing import deciders, models, objectives

    ask: dict[str, Callable[[Any], Iterator[Callable[[], None]]]] = {
        "objective": objectives.promises,
        "model": models.promises,
        "search": deciders.search_promises,
        "sampler": deciders.sampler_promises,
        "detector": deciders.detector_promises,
    }
    return ask[kind](made)


def _platform_faults(platform: Platform) -> Iterator[str]:
    """Each actuator turned and put back, each sensor read, in a loop of their own."""
    from functools import partial

    import anyio

    from ceml.testing.checks import check_actuator, check_sensor

    asked: list[tuple[str, Any]] = [
        (f"actuator {at + 1}", partial(check_actuator, one)) for at, one in enumerate(platform.actuators)
    ]
    asked += [(f"sensor {sensor.name!r}", partial(check_sensor, sensor)) for sensor in platform.sensors]

    async def in_time(ask: Callable[[], Any]) -> None:
        with anyio.fail_after(PLATFORM_S):
            await ask()

    for what, ask in asked:
        try:
            anyio.run(in_time, ask)
            yield ""
        except CemlError as error:
            yield f"{what}: {error}"
        except TimeoutError:
            yield f"{what} gave no answer within {PLATFORM_S:g} s: it hangs, or is too slow for a control loop"
        except Exception as error:  # the plugin's own code: whatever it raises is said in words
            yield f"{what} raised {type(error).__name__}: {error}"


# Writing --------------------------------------------------------------------------------------------------------------


def _skeleton(file: str) -> str:
    return (files("ceml.commands") / "skeletons" / file).read_text(encoding="utf-8")


def _reason_against(kind: str, name: str) -> str | None:
    """Why a plugin cannot be called so, and what to do; None: it can."""
    if len(name) > MOST_LETTERS or not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        return (
            f"a plugin's name is at most {MOST_LETTERS} lower-case letters and digits, a letter first, with single _ "
            "between them, such as my_metric"
        )
    instead = f"take another, such as my_{name}"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return f"it is a keyword of Python, and the factory is to be called so; {instead}"
    if hasattr(builtins, name):
        return f"it is a function or a type of Python itself, which the factory would hide; {instead}"
    imported = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(_skeleton(f"{kind}.py.in").replace("$", "")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    if imported & {name, _class_name(name)}:
        return f"the plugin imports something of that name, which its own would hide; {instead}"
    if (by := taken(_PLURALS[kind]).get(name)) is not None:
        return f"{by or 'a package'} has installed a plugin of that kind and name, and only one can have it; {instead}"
    return None


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _new(kind: str, name: str, to: Path) -> int:
    if (reason := _reason_against(kind, name)) is not None:
        raise SettingsError(f"name = {name!r}: {reason}")
    folder = to / name
    module = f"ceml_{name}"
    words = {
        "name": name,
        "Name": _class_name(name),
        "dashed": name.replace("_", "-"),
        "module": module,
        "kind": kind,
        "Kind": kind.capitalize(),
        "kinds": _PLURALS[kind],
        "use": _USES[kind].format(name),
        "needs": ":root=DIRECTORY" if kind == "platform" else "",
    }
    test = "test_platform.py.in" if kind == "platform" else "test.py.in"
    written = {
        f"{module}.py": f"{kind}.py.in",
        f"test_{module}.py": test,
        "pyproject.toml": "pyproject.toml.in",
        "README.md": "README.md.in",
    }
    try:
        folder.mkdir(parents=True)
        for file, source in written.items():
            text = Template(_skeleton(source)).substitute(words)
            (folder / file).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise SettingsError(
            f"{folder} is there already, and is left as it is: take another name, or --to DIR"
        ) from None
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror}; name another place with --to DIR") from None
    print(f"{folder}: {', '.join(written)}")
    print(f"  ceml plugin check {folder / module}.py:{name}{words['needs']}")
    print(f"  use it as it is:  {_USES[kind].format(f'{folder / module}.py:{name}')}")
    print(f"  or by its name:   pip install -e {folder}, then {words['use']}")
    return 0
