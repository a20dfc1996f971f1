"""The line format between applications and the house: one ASCII line per event, `key=value`, single spaces.

    app=NAME [src=HEX8] beat=N [t=MONOTONIC_S] [work=STEPS] [METRIC=FLOAT ...]
    app=NAME [src=HEX8] event=join [total_work=STEPS] [pid=PID]
    app=NAME [src=HEX8] event=leave

The order of the pairs is free. An empty line says nothing and is passed over by the listener: the client writes a
newline before each line too, so that the unfinished line of another writer cannot swallow its own.

Standard library and Python 3.6 only. No regular expressions: `text.strip(ALLOWED) == ""` asks the same question
("only allowed characters?") at a third of the price.
"""

from typing import Dict, NamedTuple, Optional, Union

MAX_LINE_BYTES = 4096  # PIPE_BUF of Linux: a longer write may be torn apart by other writers, pipe(7)
MAX_APP_LENGTH = 64
MAX_WORK = 1e9  # steps in one beat
MAX_TOTAL_WORK = 1e18
MAX_BEAT = 2**63
MAX_PID = 2**31 - 1

REASONS = (
    "too_long",  # more than MAX_LINE_BYTES
    "not_ascii",  # a byte that is not a printable ASCII character
    "bad_pair",  # not key=value, an empty value, or two spaces
    "bad_key",  # not a name for a metric
    "duplicate_key",
    "bad_app",  # absent, or not [A-Za-z0-9._-]{1,64}
    "bad_source",  # not eight hexadecimal digits
    "bad_event",  # neither a beat nor join nor leave, or both
    "bad_number",  # not a number, or out of range
)
"""Why a line can be refused: a closed set, because refusals are counted by reason."""

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_APP = _LETTERS + _DIGITS + "._-"
_HEX = _DIGITS + "abcdefABCDEF"
_INFINITY = float("inf")


class WireError(ValueError):
    """A line that is no good.

    Attributes:
        reason: One of `REASONS`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Beat(NamedTuple):
    """`work` steps were completed since the beat before; `t` is None where the line says no time.

    `dropped` counts metrics left out because they were not finite.
    """

    app: str
    source: str
    beat: int
    t: Optional[float]
    work: float
    metrics: Dict[str, float]
    dropped: int


class Join(NamedTuple):
    """An application announces itself."""

    app: str
    source: str
    total_work: Optional[float]
    pid: Optional[int]


class Leave(NamedTuple):
    """An application says goodbye."""

    app: str
    source: str


def parse(line: bytes) -> Union[Beat, Join, Leave]:
    """Read one line, without its newline.

    Args:
        line: What stood between two newlines.

    Returns:
        What it says. `src` absent is an empty source. Pairs that a join or a leave does not know are passed over.

    Raises:
        WireError: The line is no good; nothing else is ever raised for any bytes.
    """
    if len(line) > MAX_LINE_BYTES:
        raise WireError("too_long")
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        raise WireError("not_ascii") from None
    if not text.isprintable():
        raise WireError("not_ascii")
    pairs: Dict[str, str] = {}
    for word in text.split(" "):
        key, _, value = word.partition("=")
        pairs[key] = value
    if "" in pairs or "" in pairs.values():
        raise WireError("bad_pair")
    if len(pairs) <= text.count(" "):
        raise WireError("duplicate_key")
    app = pairs.pop("app", "")
    if not 0 < len(app) <= MAX_APP_LENGTH or app.strip(_APP):
        raise WireError("bad_app")
    source = pairs.pop("src", "")
    if source and (len(source) != 8 or source.strip(_HEX)):
        raise WireError("bad_source")
    if "beat" in pairs:
        return _beat(app, source, pairs)
    return _event(app, source, pairs)


def _beat(app: str, source: str, pairs: Dict[str, str]) -> Beat:
    number = _whole(pairs.pop("beat"), MAX_BEAT)
    if "event" in pairs:
        raise WireError("bad_event")
    t = _number(pairs.pop("t")) if "t" in pairs else None
    work = 1.0
    if "work" in pairs:
        work = _number(pairs.pop("work"))
        if not 0.0 < work <= MAX_WORK:
            raise WireError("bad_number")
    if not pairs:
        return Beat(app, source, number, t, work, {}, 0)
    pairs.pop("rank", None)  # reserved for programs of several processes
    metrics: Dict[str, float] = {}
    for key, value in pairs.items():
        name = key.replace(".", "_")  # ASCII already, so an identifier is [A-Za-z_][A-Za-z0-9_]*
        if not name.isidentifier() or key[0] == ".":
            raise WireError("bad_key")
        metric = _float(value)
        if -_INFINITY < metric < _INFINITY:
            metrics[key] = metric
    return Beat(app, source, number, t, work, metrics, len(pairs) - len(metrics))


def _event(app: str, source: str, pairs: Dict[str, str]) -> Union[Join, Leave]:
    event = pairs.get("event")
    if event == "leave":
        return Leave(app, source)
    if event != "join":
        raise WireError("bad_event")
    total_work: Optional[float] = None
    if "total_work" in pairs:
        total_work = _number(pairs["total_work"])
        if not 0.0 < total_work <= MAX_TOTAL_WORK:
            raise WireError("bad_number")
    pid = _whole(pairs["pid"], MAX_PID) if "pid" in pairs else None
    if pid == 0:
        raise WireError("bad_number")
    return Join(app, source, total_work, pid)


def _whole(text: str, most: int) -> int:
    """A whole number from 0 to `most`. The length is bounded first: int() takes quadratic time."""
    if len(text) > 19 or not text.isdigit():
        raise WireError("bad_number")
    number = int(text)
    if number > most:
        raise WireError("bad_number")
    return number


def _number(text: str) -> float:
    """A finite number, not negative."""
    number = _float(text)
    if not 0.0 <= number < _INFINITY:  # nan fails too
        raise WireError("bad_number")
    return number


def _float(text: str) -> float:
    """Any number, `nan` and `inf` included: programs print them, and a metric is no reason to lose the beat."""
    try:
        number = float(text)
    except ValueError:
        raise WireError("bad_number") from None
    if "_" in text:  # 1_000 is Python's own spelling
        raise WireError("bad_number")
    return number
