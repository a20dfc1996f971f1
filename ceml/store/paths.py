"""Where running things meet: the runtime directory and the names in it. Standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ceml.errors import SettingsError


@dataclass(frozen=True, slots=True)
class RuntimePaths:
    """The runtime directory and what lies in it; nothing is created before `made` is called.

    Attributes:
        root: The directory itself.
    """

    root: Path

    @staticmethod
    def at(directory: Path | str | None = None) -> RuntimePaths:
        """The directory given, else `$XDG_RUNTIME_DIR/ceml`, else `/run/ceml`. A relative XDG value does not count."""
        if directory is not None:
            return RuntimePaths(Path(directory).absolute())
        session = os.environ.get("XDG_RUNTIME_DIR", "")
        return RuntimePaths((Path(session) if session.startswith("/") else Path("/run")) / "ceml")

    @property
    def beats(self) -> Path:
        """The named pipe of the applications."""
        return self.root / "beats"

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.root / "control.sock"

    @property
    def board(self) -> Path:
        """The simulated machine."""
        return self.root / "board.json"

    @property
    def load(self) -> Path:
        """Directory of the loads on the simulated machine, one file per program."""
        return self.root / "load"

    @property
    def lock(self) -> Path:
        """Held by the one `ceml serve` of this directory."""
        return self.root / "lock"

    @property
    def journal(self) -> Path:
        """The knobs as they were found, until they are put back."""
        return self.root / "journal.json"

    def made(self) -> RuntimePaths:
        """Create the directory where it is missing, mode 0750: the group may send beats, others see nothing.

        Raises:
            SettingsError: It cannot be made, or cannot be written to.
        """
        try:
            if not self.root.is_dir():
                self.root.mkdir(parents=True)
                self.root.chmod(0o750)  # after the fact: the umask would win over mkdir's own mode
        except OSError as error:
            raise SettingsError(f"runtime_dir={self.root} cannot be made: {error.strerror}. {_REMEDY}") from None
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise SettingsError(f"runtime_dir={self.root} cannot be written to by this user. {_REMEDY}")
        return self


_REMEDY = (
    "Name another one with --runtime-dir DIR (the programs then need the same, or CEML_PIPE=DIR/beats), "
    "or set XDG_RUNTIME_DIR to a directory of yours"
)


def state_dir() -> Path:
    """Where what outlives runs and boots is kept.

    `$STATE_DIRECTORY` (systemd), else `$XDG_STATE_HOME/ceml`, else `/var/lib/ceml` for root and
    `~/.local/state/ceml` for others. Nothing is created.
    """
    given, session = os.environ.get("STATE_DIRECTORY", "").partition(":")[0], os.environ.get("XDG_STATE_HOME", "")
    if given.startswith("/"):
        return Path(given)
    if session.startswith("/"):
        return Path(session) / "ceml"
    return Path("/var/lib/ceml") if os.geteuid() == 0 else Path("~/.local/state/ceml").expanduser()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformContext:
    """What a platform may know of the process that it is made in.

    Attributes:
        runtime_dir: Where processes meet.
        speed: How many times faster than the clock the event loop runs.
        in_process: Nothing outside this process takes part (replay in virtual time): no file is touched.
    """

    runtime_dir: Path
    speed: float = 1.0
    in_process: bool = False

    @property
    def paths(self) -> RuntimePaths:
        """The names in the runtime directory; `made` creates it."""
        return RuntimePaths.at(self.runtime_dir)


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file that a person named.

    Raises:
        SettingsError: It cannot be read as text; `what` says which setting named it.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except OSError as error:
        raise SettingsError(f"{what}={path} cannot be read: {error.strerror}; give the path of a file") from None
    except ValueError:  # not UTF-8, or a path with a NUL in it
        raise SettingsError(f"{what}={path} is not a text file; give the path of a table in CSV form") from None
