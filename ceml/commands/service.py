"""`ceml service`: run CEML as a systemd service: started at boot, watched, knobs put back however it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ceml.commands.unit import ceml_words, filled, home, misplaced, warnings
from ceml.control.bundle import members
from ceml.errors import SettingsError, Unavailable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from ceml.commands.flags import Verbs

CONFIG = "etc/ceml/ceml.toml"
SHOWN = "jetson"  # what a dry run shows where nothing that could be run on was found or named
PLACES = {
    "ceml.service.in": "etc/systemd/system/ceml.service",
    "sysusers.conf.in": "etc/sysusers.d/ceml.conf",
    "tmpfiles.conf.in": "etc/tmpfiles.d/ceml.conf",
}
OURS = "# Written by `ceml service install`"  # the first words of a file that may be replaced or removed
EXTRAS = {"nvml": "nvidia.in", "amd": "amd.in", "bandwidth": "processes.in"}
INSTALLING = (
    ("systemd-sysusers", "{root}/etc/sysusers.d/ceml.conf"),
    ("systemd-tmpfiles", "--create", "{root}/etc/tmpfiles.d/ceml.conf"),
    ("systemctl", "daemon-reload"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A file to write or to remove (`text` is None), or a command to run."""

    path: Path | None = None
    text: str | None = None
    command: tuple[str, ...] = ()
    may_fail: bool = False


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    import argparse

    verb = verbs.add_parser(
        "service",
        help="install or remove the systemd service",
        description="Run ceml as a systemd service: started at boot, watched while it runs, and every knob put back "
        "however it ends. Members of the group `ceml` may then send heartbeats; nobody else needs to be root.",
        allow_abbrev=False,
    )
    what = verb.add_subparsers(dest="what", metavar="ACTION", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--dry-run", action="store_true", help="print what would be written, run or refused; change nothing"
    )
    common.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="write below DIR and run nothing, e.g. for an image"
    )
    help = "write the unit, the group, the runtime directory and, where there is none, /etc/ceml/ceml.toml"
    install = what.add_parser("install", help=help, description=help, parents=[common], allow_abbrev=False)
    install.add_argument("--platform", metavar="NAME[:OPTIONS]", help="what to run on (default: as ceml doctor finds)")
    help = "stop it, which puts the knobs back, and remove what `install` wrote; settings and knowledge stay"
    what.add_parser("uninstall", help=help, description=help, parents=[common], allow_abbrev=False)


def run(args: argparse.Namespace) -> int:
    """Carry out the steps, or print them."""
    root: Path = args.root
    if args.what == "install":
        steps, problems = _install(root, args.platform)
        if problems and not args.dry_run:
            raise SettingsError("\n".join(problems))
        for warning in (*(f"as it is this would be refused: {problem}" for problem in problems), *warnings()):
            print(f"ceml: {warning}", file=sys.stderr)
    else:
        steps = _uninstall(root)
    booted = root == Path("/") and Path("/run/systemd/system").is_dir()
    for step in steps:
        if args.dry_run:
            print("\n".join(_told(step)))
        elif step.command:
            _command(step, booted=booted)
        else:
            _file(step)
    if args.what == "install":
        print("next      sudo systemctl enable --now ceml; sudo usermod -aG ceml USER for who sends heartbeats")
    else:
        print(f"left      /{CONFIG}, /var/lib/ceml and the group ceml; delete them by hand if you want")
    return 0


def _told(step: Step) -> Iterator[str]:
    if step.command:
        yield f"run       {' '.join(step.command)}"
    elif step.text is None:
        yield f"remove    {step.path}"
    else:
        yield f"write     {step.path}"
        yield from (f"          {line}".rstrip() for line in step.text.splitlines())


# What to do -----------------------------------------------------------------------------------------------------------


def _install(root: Path, platform: str | None) -> tuple[list[Step], list[str]]:
    """Everything that is to be written and run, and what stands against it on this machine, a sentence each.

    Raises:
        SettingsError: The platform is not known, contradicts the configuration, or a file is not ours.
    """
    kept = root / CONFIG
    said = _configured(kept)
    if said is not None and platform is not None and said != platform:
        raise SettingsError(f"platform {platform}: {kept} says {said}; change it there, or remove that file")
    problems = [problem] if (problem := misplaced()) is not None else []
    chosen = said or platform or _found()
    if chosen is None:
        chosen = SHOWN
        problems.append(
            "no board with knobs was found here (see ceml doctor); name what to run on, e.g. --platform jetson"
        )
    config = filled("ceml.toml.in", PLATFORM=json.dumps(chosen)[1:-1])
    _checked(config)
    used = dict.fromkeys(EXTRAS.get(part.partition(":")[0]) for part in members(chosen))
    extra = "".join(filled(name) for name in used if name is not None)
    texts = {
        "ceml.service.in": filled(
            "ceml.service.in", CEML=ceml_words(), CONFIG=f"/{CONFIG}", HOME=home(), EXTRA=extra.rstrip("\n")
        ),
        "sysusers.conf.in": filled("sysusers.conf.in"),
        "tmpfiles.conf.in": filled("tmpfiles.conf.in"),
    }
    steps = [Step(_ours(root / place), texts[name]) for name, place in PLACES.items()]
    if said is None:
        steps.append(Step(kept, config))
    commands = [tuple(word.replace("{root}", "") for word in command) for command in INSTALLING]
    return [*steps, *(Step(command=command) for command in commands)], problems


def _uninstall(root: Path) -> list[Step]:
    stop = Step(command=("systemctl", "disable", "--now", "ceml.service"), may_fail=True)
    gone = [Step(_ours(root / place)) for place in reversed(PLACES.values())]
    return [stop, *gone, Step(command=("systemctl", "daemon-reload"))]


def _ours(path: Path) -> Path:
    """The path, where there is nothing or a file that we wrote.

    Raises:
        SettingsError: It is somebody else's.
    """
    if path.is_symlink():
        raise SettingsError(f"{path} leads to {path.readlink()}: was it masked? sudo systemctl unmask ceml")
    try:
        begins = path.read_text(encoding="utf-8", errors="replace").startswith(OURS)
    except FileNotFoundError:
        return path
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    if not begins:
        raise SettingsError(f"{path} was not written by ceml service install; move it away first")
    return path


def _configured(path: Path) -> str | None:
    """The platform of the settings that are there already; None: there are none."""
    from ceml.sources import load

    return load(path, {}, {}).settings.platform if path.exists() else None


def _checked(config: str) -> None:
    """Read the settings as the service will, so that a mistake is said now.

    Raises:
        SettingsError: They are no good.
    """
    import tempfile

    from ceml.plugins import check_options
    from ceml.sources import load

    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(config)
        file.flush()
        platform = load(Path(file.name), {}, {}).settings.platform
    for part in members(platform):
        if part.partition(":")[0] == "bandwidth" and "pid=" not in part:
            raise SettingsError(
                f"platform = {platform!r}: bandwidth turns one program, which a service does not know beforehand: use "
                "ceml run --platform bandwidth -- PROGRAM, or name one that always runs: bandwidth:pid=PID"
            )
        check_options("platforms", part, positional=1)
    if platform.partition(":")[0] == "replay":
        raise SettingsError("platform replay runs in virtual time: use ceml replay, it needs no service")


def _found() -> str | None:
    from ceml.commands.doctor import examine

    platform = examine("/", None)["platform"]
    return None if platform is None else str(platform)


# Doing it -------------------------------------------------------------------------------------------------------------


def _file(step: Step) -> None:
    path, text = step.path, step.text
    assert path is not None  # noqa: S101 - a step has a file or a command
    try:
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_text(text, encoding="utf-8")
            fresh.chmod(0o644)
            fresh.replace(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be {_did(step)}: {error.strerror}; {_remedy()}") from None
    print(f"{_did(step):9} {path}")


def _did(step: Step) -> str:
    return "removed" if step.text is None else "written"


def _remedy() -> str:
    return "as root: sudo ceml service ..." if os.geteuid() else "is the file system read-only or full?"


def _command(step: Step, *, booted: bool) -> None:
    words: Sequence[str] = step.command
    if not booted or shutil.which(words[0]) is None:
        print(f"to run    {' '.join(words)}   (no systemd runs here, or --root was given)")
        return
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode and not step.may_fail:
        raise Unavailable(f"{' '.join(words)} failed: {done.stderr.strip() or done.returncode}")
    print(f"ran       {' '.join(words)}")
