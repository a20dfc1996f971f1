"""`ceml` by the fork: a process in which everything is imported already bears one command after the other.

Each child runs the real command line, from its first line to its exit status, in a process of its own that can be
killed like any other; what is saved is half a second of imports, so that a thousand may live in minutes. A child may
be given a fault: a method that raises at its n-th call, or a file system that is full.

    python -m tests.nursery    requests as JSON, one a line: {"words": [...], "log": PATH, "fault": []} or {"wait": PID}
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType

LOADED = (
    *(
        "ceml.cli",
        "ceml.commands.serve",
        "ceml.commands.restore",
        "ceml.runtime",
        "ceml.parts",
        "ceml.platforms.jetson",
    ),
    *("ceml.domain.response.overlap", "ceml.domain.response.paper", "ceml.domain.improvement", "ceml.domain.sampling"),
    *("ceml.domain.search", "ceml.domain.phase", "ceml.plugins.energy", "anyio._backends._asyncio"),
)
Fault = tuple[str, str, str, int]  # module, class, method, which call of it raises


class Child:
    """One command that lives, or did."""

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self.pid = pid
        self._nursery = nursery
        self._log = log

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; returns the exit status once it is gone, negative where the signal ended it."""
        os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> int:
        return self._nursery.ask(wait=self.pid)

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")


class Nursery:
    """Where children come from; ends with the context."""

    def __enter__(self) -> Nursery:
        root = Path(__file__).resolve().parent.parent
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CEML_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env=clean | {"OPENBLAS_NUM_THREADS": "1"},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def ceml(self, *words: object, log: Path, fault: Fault | None = None, state: Path | None = None) -> Child:
        """Start a command."""
        log.write_text("")
        said = [str(word) for word in words]
        pid = self.ask(words=said, log=str(log), fault=fault, state=None if state is None else str(state))
        return Child(self, pid, log)

    def ask(self, **request: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


# In the process that bears them ---------------------------------------------------------------------------------------


def main() -> None:
    for name in LOADED:
        import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]) if "wait" in request else bear(request)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def bear(request: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        for descriptor, path, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, request["log"], os.O_WRONLY | os.O_APPEND),
            (2, request["log"], os.O_WRONLY | os.O_APPEND),
        ):
            os.dup2(os.open(path, flags), descriptor)
        faulthandler.register(signal.SIGUSR1)  # where it hangs, should it ever
        if request.get("state"):
            os.environ["XDG_STATE_HOME"] = request["state"]
        if request.get("fault"):
            spoil(*request["fault"])
        status = import_module("ceml.cli").main(request["words"])
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def spoil(module: str, owner: str, method: str, at: int) -> None:
    """Have a method raise at its n-th call."""
    holder = getattr(import_module(module), owner) if owner else import_module(module)
    sound, calls = getattr(holder, method), 0

    def faulty(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise RuntimeError(f"made to fail in {owner}.{method}")
        return sound(*args, **options)

    setattr(holder, method, faulty)


if __name__ == "__main__":
    main()
