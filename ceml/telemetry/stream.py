"""What a log is written to: it may fill up, be closed, or lose its reader, and a run goes on all the same."""

from __future__ import annotations

from typing import Protocol


class Stream(Protocol):
    """What the log is written to: a text stream, or one of those below."""

    def write(self, text: str, /) -> int:
        """Write text."""
        ...

    def flush(self) -> None:
        """Write out what is buffered."""
        ...

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        ...


class Lossy:
    """A stream that drops what cannot be written: a line of a log is no reason to end a run."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if that is possible."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # a full disk, a reader or a terminal that left; a stream that was closed
            return len(text)

    def flush(self) -> None:
        """Write out what is buffered, if that is possible; later it is tried again."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()
