"""A stress program for a fake board, as a process of its own: it keeps one device busy until it is ended.

    python -m ceml.testing.loading FILE SHARE

FILE is the fake's `fake/load_<device>`, which stands for the silicon that a real one would heat.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def main(file: Path, share: str) -> int:
    """Load until SIGTERM, or until whoever started it is gone."""
    parent, ended = os.getppid(), False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    while not ended and os.getppid() == parent:
        file.write_text(share)
        time.sleep(0.05)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    file.write_text("0")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
