"""A load of a chosen share on one device, in a process of its own: what `ceml calibrate` measures against.

    python -m ceml.apps.stress cpu|mem|gpu SHARE

It says `ready` once it is at work, and ends when whoever started it is gone. CPU: matrix products that stay in the
cache, on every processor that it may use. Memory: copies between arrays far larger than any cache. GPU: large matrix
products in torch or cupy, whichever is installed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("cpu", "mem", "gpu")
PERIOD_S = 0.04  # work and rest in turn: short against a sensor's period, long against the scheduler's
COPY_BYTES = 1 << 25
GPU_ROWS = 2048

_MISSING = 3  # exit status: what it needs is not installed


def main(kind: str, share: float) -> int:
    """Work until killed, or until the parent is gone."""
    parent = os.getppid()
    if kind == "gpu":
        work = _gpu()
        if work is None:
            sys.stderr.write("neither torch with a GPU nor cupy is installed\n")
            return _MISSING
        print("ready", flush=True)
        _work(work, share, parent)
        return 0
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one process a processor: threads of a library would only add to them
    work = _cpu() if kind == "cpu" else _mem()
    children = [child for _ in range(len(os.sched_getaffinity(0)) - 1) if (child := os.fork())] if share > 0 else []
    mine = os.getppid()
    if mine == parent:
        print("ready", flush=True)
    try:
        _work(work, share, mine)
    finally:
        for child in children if mine == parent else ():
            os.kill(child, signal.SIGKILL)
    return 0


def _work(work: Callable[[], object], share: float, parent: int) -> None:
    """Work for a share of each period. The periods' ends are fixed, so that the share is kept whatever work takes."""
    due_s = time.monotonic()
    while os.getppid() == parent:
        due_s = max(due_s + PERIOD_S, time.monotonic())
        until_s = due_s - (1.0 - share) * PERIOD_S
        while time.monotonic() < until_s:
            work()
        time.sleep(max(due_s - time.monotonic(), 0.0))


def _cpu() -> Callable[[], object]:
    import numpy as np

    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 64, 64))
    out = np.empty_like(left)

    def work() -> object:
        return np.matmul(left, right, out=out)

    return work


def _mem() -> Callable[[], object]:
    import numpy as np

    here, there = np.ones((2, COPY_BYTES // 8))

    def work() -> object:
        return np.copyto(there, here)

    return work


def _gpu() -> Callable[[], object] | None:
    return _by_torch() or _by_cupy()


def _by_torch() -> Callable[[], object] | None:
    try:
        from importlib import import_module

        torch: Any = import_module("torch")
        if not torch.cuda.is_available():  # ROCm answers to the same name
            return None
        matrix = torch.ones((GPU_ROWS, GPU_ROWS), device="cuda")
    except (ImportError, RuntimeError):
        return None

    def work() -> object:
        product = matrix @ matrix
        torch.cuda.synchronize()
        return product

    return work


def _by_cupy() -> Callable[[], object] | None:
    try:
        from importlib import import_module

        cupy: Any = import_module("cupy")
        matrix = cupy.ones((GPU_ROWS, GPU_ROWS), dtype=cupy.float32)
    except Exception:  # no CUDA, no driver, no device: each says it in its own way
        return None

    def work() -> object:
        product = matrix @ matrix
        cupy.cuda.runtime.deviceSynchronize()
        return product

    return work


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in KINDS:
        sys.exit(f"usage: python -m ceml.apps.stress {'|'.join(KINDS)} SHARE")
    sys.exit(main(sys.argv[1], min(max(float(sys.argv[2]), 0.0), 1.0)))
