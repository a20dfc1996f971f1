"""A program that runs on a fake board, as a process of its own: it steps as fast as the board's clocks let it.

    python -m ceml.testing.program STEP_FILE PIPE [STEPS]

It knows the daemon by its pipe only, and the board by one number that silicon would tell it: how long a step takes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ceml.apps.client import attach


def main(step_file: Path, pipe: str, steps: int) -> int:
    """Step and beat until done, or until the board is gone."""
    with attach("on-a-fake", total_work=steps, pipe=pipe) as beats:
        due_s = time.monotonic()
        for _ in range(steps):
            try:
                due_s += float(step_file.read_text())
            except (OSError, ValueError):  # the board went away, or is just being written
                due_s += 0.01
            time.sleep(max(due_s - time.monotonic(), 0.0))
            due_s = max(due_s, time.monotonic() - 0.1)  # stopped for long: that time was not worked in
            beats.beat()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 10**9))
