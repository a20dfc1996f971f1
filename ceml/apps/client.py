"""What runs in the user's process: says through a named pipe how much work is done. Never blocks, never raises.

    with ceml.attach("resnet", total_work=2000) as hb:
        for batch in data:
            train(batch)
            hb.beat()

One file, Python 3.6 and its standard library only, nothing of CEML: it may be copied beside any program.

SIGPIPE: Python ignores this signal from its start, and this file relies on it. A program that turned it back on
(`signal.signal(SIGPIPE, SIG_DFL)`) ends at its first beat after `ceml serve` ended, as with any other pipe.
"""

import _thread  # threading itself takes 6 ms to import
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Union

    Number = Union[int, float]

MOST_BYTES = 4096  # PIPE_BUF of Linux, pipe(7): up to here a write is whole or not at all
MOST_WORK = 10**9  # steps in one line
MOST_TOTAL = 10**18  # steps in all
MOST_S = 1e12  # on any sane clock
RETRY_S = 1.0  # between two attempts to open the pipe
CLOSE_S = 0.1  # the longest that `close` tries to get the last work into a full pipe

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NAME = _LETTERS + "0123456789._-"
_KEY = _LETTERS + "0123456789._"
_NO_METRICS = ("app", "src", "beat", "t", "work", "event", "rank")
_INFINITY = float("inf")


def attach(
    app: str,
    total_work: "Optional[Number]" = None,
    pipe: "Optional[str]" = None,
    clock: "Callable[[], float]" = time.monotonic,
) -> "Heartbeats":
    """Start sending heartbeats.

    Args:
        app: Name of the program. Characters other than A-Z a-z 0-9 . _ - become _, and 64 of them count.
        total_work: Steps that the program will do in all, where that is known.
        pipe: Path of the named pipe; else $CEML_PIPE; else $CEML_RUNTIME_DIR/beats; else
            $XDG_RUNTIME_DIR/ceml/beats, then /run/ceml/beats.
        clock: Seconds on the time base of the house; the monotonic clock, but for simulated boards.

    Returns:
        The handle. Without anybody listening it waits, and counts the work meanwhile.
    """
    return Heartbeats(app, total_work, pipe, clock)


class Heartbeats:
    """Heartbeats of one program. Several threads may share it.

    In a process made by fork the handle is mute: its beats count for nothing, there or in the parent, so that workers
    of a data loader, which are copies of the program, do not count its steps twice. A child that does the work (a
    daemon, a server that forks before it serves) calls `attach` itself. The steps of two processes are not added up,
    whatever their names are: one holds the machine, the other waits. Of parallel workers one should beat, for all.

    Work that could not be said, because nobody listens or the pipe is full, is carried over to the next beat. So is
    the work of a thread that finds another one writing: nobody ever waits here, not even in a signal handler.
    """

    def __init__(
        self, app: str, total_work: "Optional[Number]", pipe: "Optional[str]", clock: "Callable[[], float]"
    ) -> None:
        self._pid = os.getpid()
        self._clock = clock
        self._paths = _paths(pipe)
        source = "".join("%02x" % byte for byte in os.urandom(4))
        total = _positive(total_work)
        # Every line starts with a newline too: it ends what another writer may have left unfinished. Bytes all the
        # way, because bytes % numbers takes half the time of str % numbers and encode.
        self._head = ("\napp=%s src=%s " % (_app_name(app), source)).encode("ascii")
        self._stamped = self._head + b"beat=%d t=%.6f\n"
        self._join = self._head + b"event=join pid=%d" % self._pid
        if total:
            self._join += b" total_work=" + _text(total)
        self._join += b"\n"
        self._lock = _thread.allocate_lock()
        self._late: "list[Number]" = []
        self._work: "Number" = 0
        self._number = 0
        self._fd = -1
        self._joined = False
        self._retry_s = -_INFINITY
        self._closed = False
        with self._lock:
            self._say(b"")

    def __enter__(self) -> "Heartbeats":
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def beat(self, work: "Number" = 1, **metrics: float) -> None:
        """Say that `work` steps were completed since the beat before.

        Args:
            work: Steps; what is not a positive number counts as none.
            metrics: Anything else worth knowing, e.g. `loss=0.3, latency_s=0.02`. What is no finite number, and what
                does not fit into a line of 4096 bytes, is left out.
        """
        try:
            if os.getpid() != self._pid or self._closed:  # before the lock: a fork may have copied it locked
                return
            self._late.append(work)
            if self._lock.acquire(False):
                try:
                    self._send(metrics)
                finally:
                    self._lock.release()
        except Exception:  # a heartbeat is never worth the training run
            return

    def close(self) -> None:
        """Say the work that is still unsaid, and goodbye. Twice is no harm.

        Only here a full pipe is waited for, a tenth of a second at most: what is not said now is lost.
        """
        try:
            if os.getpid() != self._pid or self._closed:
                return
            self._closed = True
            if self._lock.acquire(True, 0.1):  # whoever holds it needs microseconds
                try:
                    self._goodbye()
                finally:
                    self._lock.release()
        except Exception:
            return

    # All below is called with the lock held ---------------------------------------------------------------------

    def _send(self, metrics: "dict[str, float]") -> None:
        self._collect()
        work = self._work
        if not work or (self._fd < 0 and time.monotonic() < self._retry_s):
            return
        if work > MOST_WORK:
            work = MOST_WORK
        line = self._beat_line(work)
        if metrics:
            room = MOST_BYTES - len(line) - len(self._join)
            line = line[:-1] + _metrics_text(metrics, room) + b"\n"
        if self._say(line):
            self._work -= work

    def _collect(self) -> None:
        late = self._late
        while late:
            work = late.pop()
            self._number += 1
            if work.__class__ is int and 0 < work <= MOST_TOTAL:
                self._work += work
            else:
                self._work += _positive(work)

    def _beat_line(self, work: "Number") -> bytes:
        line = b""
        try:
            now_s = self._clock()
            if 0 <= now_s < MOST_S:
                line = self._stamped % (self._number, now_s)
        except Exception:  # a clock that fails: then the time of arrival counts
            line = b""
        line = line or self._head + b"beat=%d\n" % self._number
        return line if work == 1 else line[:-1] + b" work=%s\n" % _text(work)

    def _goodbye(self) -> None:
        self._collect()
        self._number += 1  # the present one may be said already; gaps are no matter
        self._retry_s = -_INFINITY
        leave = self._head + b"event=leave\n"
        until_s = time.monotonic() + CLOSE_S
        while True:
            work = self._work if self._work < MOST_WORK else MOST_WORK
            last = work == self._work
            if self._say((self._beat_line(work) if work else b"") + (leave if last else b"")):
                self._work -= work
                self._number += 1
                if last:
                    break
            elif self._fd < 0 or time.monotonic() > until_s:  # nobody listens, or nobody reads
                break
            else:
                time.sleep(0.005)
        self._hang_up()

    def _say(self, line: bytes) -> bool:
        """Write a line, after a join where the other side has heard none yet. False: it did not go out."""
        if self._fd < 0 and not self._open():
            return False
        if not self._joined:
            line = self._join + line
        try:
            os.write(self._fd, line)
        except BlockingIOError:  # full: the work stays with us
            return False
        except OSError:  # nobody listens any more
            self._hang_up()
            self._retry_s = time.monotonic() + RETRY_S
            return False
        self._joined = True
        return True

    def _open(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._retry_s:
            return False
        self._retry_s = now_s + RETRY_S
        for path in self._paths:
            fd = -1
            try:
                # Never O_CREAT: that would leave a regular file where the pipe belongs. Never O_RDWR: then nobody
                # would tell us that the listener is gone.
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
                if stat.S_ISFIFO(os.fstat(fd).st_mode):
                    self._fd, self._joined = fd, False
                    return True
                os.close(fd)
            except (OSError, ValueError):  # absent, or nobody listens; a zero byte in the path
                if fd >= 0:
                    os.close(fd)
        return False

    def _hang_up(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _paths(pipe: "Optional[str]") -> "list[str]":
    named = pipe or os.environ.get("CEML_PIPE")
    if named:
        return [str(named)]
    directory = os.environ.get("CEML_RUNTIME_DIR")  # as the server takes it
    if directory:
        return [os.path.expanduser(directory) + "/beats"]
    session = os.environ.get("XDG_RUNTIME_DIR")
    return ([session + "/ceml/beats"] if session else []) + ["/run/ceml/beats"]


def _app_name(app: object) -> str:
    try:
        text = str(app)[:64]
    except Exception:
        text = ""
    return "".join(letter if letter in _NAME else "_" for letter in text) or "app"


def _positive(value: "Any") -> "Number":
    """The value as a positive number of steps; 0 for anything else."""
    try:
        number = int(value) if int(value) == value else float(value)
        return number if 0 < number <= MOST_TOTAL else 0
    except Exception:
        return 0


def _text(number: "Number") -> bytes:
    """Whole numbers without a point."""
    return b"%d" % number if number == int(number) else repr(float(number)).encode("ascii")


def _metrics_text(metrics: "dict[str, float]", room: int) -> bytes:
    """` key=value` for what is a proper metric, in at most `room` bytes."""
    text = ""
    for key, value in metrics.items():
        if key in _NO_METRICS or key.strip(_KEY) or key[:1] in ".0123456789":
            continue
        try:
            number = float(value)
        except Exception:
            continue
        if -_INFINITY < number < _INFINITY:
            word = " %s=%r" % (key, number)
            if len(text) + len(word) <= room:
                text += word
    return text.encode("ascii")
