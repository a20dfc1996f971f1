"""Work in a process of its own: what never answers can be ended, and what ends its interpreter does not end us."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ceml.errors import CemlError

if TYPE_CHECKING:
    from collections.abc import Callable

    Say = Callable[[str, str], None]

GRACE_S = 5.0  # to put back what it turned, where a person ended us both


class Silent(CemlError):
    """Nothing was heard of it for too long, or it is gone without having come to its end."""


class Apart:
    """What a process of its own says, word by word.

    Args:
        work: What to do there. It is given `say(kind, text)`; an error meant for a person is said as `error`.
    """

    def __init__(self, work: Callable[[Say], None]) -> None:
        self._heard = b""
        self._status: int | None = None
        self._ear, mouth = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # what waits there is ours to write, and would be written twice
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of numpy's library, which minds forks itself
            self._pid = os.fork()
        if self._pid == 0:
            os.close(self._ear)
            _work(work, mouth)
        os.close(mouth)

    def next(self, quiet_s: float) -> tuple[str, str] | None:
        """What it says next, kind and text; None: it came to its end.

        Raises:
            Silent: It says nothing for `quiet_s`, or is gone.
        """
        until_s = time.monotonic() + quiet_s
        while b"\n" not in self._heard:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not select.select([self._ear], [], [], left_s)[0]:
                os.kill(self._pid, signal.SIGKILL)
                raise Silent(
                    f"it gave no answer within {quiet_s:g} s and could not be interrupted: its process was ended"
                )
            more = os.read(self._ear, 65536)
            if not more:
                raise Silent(f"it ended the process that it was asked in ({self._ended()})")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        kind, text = json.loads(line)
        return None if kind == "end" else (kind, text)

    def _ended(self) -> str:
        _, status = os.waitpid(self._pid, 0)
        self._status = os.waitstatus_to_exitcode(status)
        if self._status >= 0:
            return f"exit status {self._status}"
        try:
            return signal.Signals(-self._status).name
        except ValueError:
            return f"signal {-self._status}"

    def close(self, *, grace_s: float = 0.0) -> None:
        """End it, if it has not ended within `grace_s`."""
        os.close(self._ear)
        until_s = time.monotonic() + grace_s
        while self._status is None and time.monotonic() < until_s:
            gone, status = os.waitpid(self._pid, os.WNOHANG)
            if gone:
                self._status = status
            else:
                time.sleep(0.01)
        if self._status is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)  # Ctrl-C, which came to it as well
        self.close(grace_s=GRACE_S if interrupted or kind is None else 0.0)


def _work(work: Callable[[Say], None], mouth: int) -> None:
    """In the new process; never returns."""

    def say(kind: str, text: str) -> None:
        left = json.dumps([kind, text]).encode() + b"\n"
        while left:
            left = left[os.write(mouth, left) :]

    status: Any = 1
    try:
        work(say)
        say("end", "")
        status = 0
    except CemlError as error:
        say("error", str(error))
        status = 2
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
