"""The thread of one bus, in real time. Not covered: what is read in it (test_readings.py)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import anyio
import pytest

from ceml.errors import Temporary
from ceml.platforms import worker as module
from ceml.platforms.worker import Worker


def test_answers_and_errors_come_through_from_one_thread_that_is_not_ours():
    async def main() -> None:
        worker = Worker("bus")
        threads = {await worker.run(threading.get_ident) for _ in range(20)}
        assert len(threads) == 1
        assert threading.get_ident() not in threads
        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 // 0)
        assert await worker.run(lambda: 7) == 7

    anyio.run(main)


def test_who_comes_while_a_call_is_stuck_is_told_so_or_waits_for_its_end():
    gate = threading.Event()

    async def main() -> None:
        worker = Worker("bus")
        with anyio.move_on_after(0.05) as scope:
            await worker.run(gate.wait)
        assert scope.cancelled_caught
        with pytest.raises(Temporary, match="bus has not answered the call before"):
            await worker.run(lambda: 1)
        order: list[str] = []

        async def waits() -> None:
            await worker.run(lambda: order.append("second"), wait=True)

        async with anyio.create_task_group() as group:
            group.start_soon(waits)
            await anyio.sleep(0.05)
            order.append("gate")
            gate.set()
        assert order == ["gate", "second"]

    anyio.run(main)


def test_an_idle_thread_ends_and_the_next_call_begins_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "IDLE_S", 0.02)

    async def main() -> None:
        worker = Worker("a bus of its own name")
        for _ in range(30):  # around the very moment at which it ends, too
            assert await worker.run(lambda: 3) == 3
            await anyio.sleep(0.02)
        end_s = time.monotonic() + 5
        while any(thread.name == "a bus of its own name" for thread in threading.enumerate()):
            assert time.monotonic() < end_s
            await anyio.sleep(0.01)
        assert await worker.run(lambda: 4) == 4

    anyio.run(main)


def test_a_call_that_never_comes_back_does_not_keep_the_process():
    script = (
        "import anyio, threading\n"
        "from ceml.platforms.worker import Worker\n"
        "async def main():\n"
        "    with anyio.move_on_after(0.1):\n"
        "        await Worker('bus').run(threading.Event().wait)\n"
        "    print('over')\n"
        "anyio.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
