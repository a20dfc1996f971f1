"""What the callbacks share: the steps of one run, said once, by one process of the machine."""

import _thread
import importlib
import os
import sys
import time
import weakref

from ceml.apps.client import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Dict, List, Optional, Tuple, Union

    from ceml.apps.client import Heartbeats

    Number = Union[int, float]

# In a training the caches are full of other things, and a beat of 3 us takes 10 to 20: steps that are shorter than this
# share one. Metrics cost more, and are for people.
BEAT_S = 0.05
METRICS_S = 0.5
MOST_METRICS = 16  # in one beat
# Of what launchers set, the rank on this machine before the rank among all: each machine has a house of its own.
RANKS = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID", "RANK", "PMI_RANK")

_KEY = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._"
_OURS = ("self", "work")  # what `Heartbeats.beat` calls something else by
_runs: "Dict[int, Tuple[Any, Any]]" = {}  # id of what is being run -> (reference to it, to who speaks for it)


def framework(name: str, least: "Tuple[int, ...]", install: str) -> "Any":
    """Import a framework.

    Raises:
        ImportError: It is not here, or older than `least`; the text says what to install.
    """
    wanted = "%s %s or newer" % (name.partition(".")[0], ".".join(map(str, least)))
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            "this callback needs %s, which cannot be imported here (%s): pip install %s" % (wanted, error, install)
        ) from error
    found = getattr(sys.modules[name.partition(".")[0]], "__version__", "")
    numbers = tuple(int(part) for part in str(found).split(".")[:2] if part.isdigit())
    if numbers and numbers < least:
        raise ImportError("this callback needs %s, and found %s: pip install -U %s" % (wanted, found, install))
    return module


def local_rank() -> int:
    """Which of the processes of a distributed training this is on its machine; 0 for the only one."""
    for name in RANKS:
        text = os.environ.get(name, "")
        if text.isdigit():
            return int(text)
    try:  # ranks that are started by hand say their number to the framework alone
        distributed = sys.modules.get("torch.distributed")
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return int(distributed.get_rank())
    except Exception:
        return 0
    return 0


class Beating:
    """Heartbeats of one run at a time; none at all in a process that is not to speak.

    Attributes:
        started: Whether a run began and did not end yet, be it mute.
    """

    def __init__(self, app: "Optional[str]", pipe: "Optional[str]" = None) -> None:
        self._app = app
        self._pipe = pipe
        self._forget()

    def _forget(self) -> None:
        self._beats: "Optional[Heartbeats]" = None
        self._hang_up: "Any" = None
        self._unsaid: "List[Number]" = []  # threads may share it: appending and popping are one instruction each
        self._beat_s = 0.0
        self._ahead: "List[int]" = []  # counts of the framework that were not looked at yet; appended to likewise
        self._count = [0]  # the highest that was
        self._ref: "Any" = None
        self._run = 0
        self._metrics_s = 0.0
        self._counting = _thread.allocate_lock()
        self.started = False

    def __getstate__(self) -> "Dict[str, Any]":
        # What is sent to another process, or copied, speaks for itself once it starts.
        return {"_app": self._app, "_pipe": self._pipe}

    def __setstate__(self, state: "Dict[str, Any]") -> None:
        self.__init__(state["_app"], state["_pipe"])

    def start(
        self,
        run: "Any",
        total_work: "Optional[Number]" = None,
        rank: "Optional[int]" = None,
        app: str = "training",
        step: int = 0,
    ) -> None:
        """A run begins; the one before is over, however it ended.

        Args:
            run: The object that stands for it: whoever comes second for the same one is mute.
            total_work: Steps that it will do from here on, where that is known.
            rank: Which process of the machine this is; None: as the launcher says.
            app: Name, where the person gave none.
            step: The framework's own count at the beginning.
        """
        try:
            if self._beats is not None and self._ref() is run:  # given twice: the hook is called twice
                return
            self.close()
            self._ref = weakref.ref(run)
            self.started = True
            self._count[0] = step
            if (local_rank() if rank is None else rank) == 0 and self._claim(run):
                self._beats = attach(self._app or app, total_work=total_work, pipe=self._pipe)
                self._hang_up = weakref.finalize(  # also where training raised
                    self, _hang_up, self._beats, self._unsaid, self._ahead, self._count
                )
        except Exception:
            self._beats = None

    def _claim(self, run: "Any") -> bool:
        known, speaker = _runs.get(id(run), (None, None))
        if known is not None and known() is run and speaker() not in (None, self):
            return False
        self._run = id(run)
        _runs[self._run] = (self._ref, weakref.ref(self))
        return True

    def reached(self, step: int) -> int:
        """Steps to say now, by the framework's own count: a hook called twice counts once; 0 until a beat is due.

        Keras calls from several threads at a time, not always in order; the sum is right all the same.
        """
        self._ahead.append(step)
        if time.monotonic() < self._beat_s:
            return 0
        with self._counting:
            return _counted(self._ahead, self._count)

    def restart(self) -> None:
        """The framework's own count begins anew, as with each epoch of Keras; what it came to before is said later."""
        with self._counting:
            work = _counted(self._ahead, self._count)
            self._count[0] = 0
        if work:
            self._unsaid.append(work)

    def wants_metrics(self) -> bool:
        """Whether it is time to say metrics again."""
        return self._beats is not None and time.monotonic() >= self._metrics_s

    def beat(self, work: "Number" = 1, metrics: "Optional[Mapping[Any, Any]]" = None) -> None:
        """Steps were done. Metrics on an accelerator are left out: reading them would wait for it.

        What is not a positive number counts as no steps.
        """
        if self._beats is None or not _positive(work):
            return
        self._unsaid.append(work)
        now_s = time.monotonic()
        if now_s < self._beat_s:
            return
        self._beat_s = now_s + BEAT_S
        if not metrics or now_s < self._metrics_s:
            self._beats.beat(_taken(self._unsaid))
            return
        self._metrics_s = now_s + METRICS_S
        self._beats.beat(_taken(self._unsaid), **_numbers(metrics))

    def close(self) -> None:
        """The run is over. Twice is no harm."""
        if self._hang_up is not None:
            self._hang_up()
        if self._beats is not None:
            _runs.pop(self._run, None)
        self._forget()


def _positive(work: "Any") -> bool:
    try:
        return bool(work > 0)
    except Exception:  # no number
        return False


def _taken(unsaid: "List[Number]") -> "Number":
    work: "Number" = 0
    while unsaid:
        try:
            work += unsaid.pop()
        except IndexError:  # another thread took it
            break
    return work


def _counted(ahead: "List[int]", count: "List[int]") -> int:
    """By how much the highest of the counts ahead is above what it was, which it then is."""
    before = count[0]
    while ahead:
        step = ahead.pop()
        if step > count[0]:
            count[0] = step
    return count[0] - before


def _hang_up(beats: "Heartbeats", unsaid: "List[Number]", ahead: "List[int]", count: "List[int]") -> None:
    beats.beat(_counted(ahead, count) + _taken(unsaid))
    beats.close()


def _numbers(metrics: "Mapping[Any, Any]") -> "Dict[str, float]":
    """Those that are one number each and at hand, under names that a heartbeat may carry: `train/loss`, train_loss."""
    numbers: "Dict[str, float]" = {}
    for name, value in metrics.items():
        if len(numbers) >= MOST_METRICS:
            break
        if name in _OURS:
            continue
        try:
            if getattr(getattr(value, "device", None), "type", "cpu") != "cpu":
                continue
            value = value.detach() if hasattr(value, "detach") else value
            key = "".join(letter if letter in _KEY else "_" for letter in str(name))
            numbers[key] = float(value)
        except Exception:  # no number at all
            continue
    return numbers
