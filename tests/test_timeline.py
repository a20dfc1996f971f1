"""Virtual and scaled time. Not covered: the house living in it (test_house); worker threads, which are forbidden."""

from __future__ import annotations

import asyncio
import os
from time import monotonic
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.timeline import ScaledLoop, VirtualLoop, next_tick, scaled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

VIRTUAL = {"loop_factory": VirtualLoop}


def live(main: Callable[[], Awaitable[object]]) -> object:
    return anyio.run(main, backend_options=VIRTUAL)


def test_virtual_time_starts_at_zero_and_passes_by_sleeping_alone() -> None:
    async def main() -> list[float]:
        seen = [anyio.current_time()]
        await anyio.sleep(1.5)
        seen.append(anyio.current_time())
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        seen.append(anyio.current_time())
        return seen

    assert live(main) == [0.0, 1.5, 1.5]


def test_sums_of_sleeps_are_exact_to_the_nanosecond() -> None:
    async def main() -> float:
        for _ in range(3600):
            await anyio.sleep(0.1)
        return anyio.current_time()

    assert live(main) == 360.0


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=8))
def test_sleepers_wake_in_order_and_none_before_its_time(naps: list[float]) -> None:
    async def main() -> list[tuple[float, float]]:
        woken: list[tuple[float, float]] = []

        async def nap(for_s: float) -> None:
            await anyio.sleep(for_s)
            woken.append((for_s, anyio.current_time()))

        async with anyio.create_task_group() as group:
            for for_s in naps:
                group.start_soon(nap, for_s)
        return woken

    woken = live(main)
    assert isinstance(woken, list)
    assert [for_s for for_s, _ in woken] == pytest.approx(sorted(naps), abs=2e-9)
    assert all(at_s == pytest.approx(for_s, abs=2e-9) for for_s, at_s in woken)


def test_a_long_time_passes_at_once() -> None:
    async def main() -> float:
        with anyio.move_on_after(1e6):
            await anyio.sleep_forever()
        return anyio.current_time()

    assert live(main) == 1e6


def test_a_real_fifo_still_works_and_without_timers_the_loop_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    async def main() -> tuple[bytes, float]:
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            child = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 0.05; printf hello >&3"], os.environ, file_actions=[
                (os.POSIX_SPAWN_DUP2, writer, 3)])  # fmt: skip
            await anyio.wait_readable(reader)
            text = os.read(reader, 100)
            os.waitpid(child, 0)
            return text, anyio.current_time()
        finally:
            os.close(reader)
            os.close(writer)

    assert live(main) == (b"hello", 0.0)


def test_scaled_seconds_pass_faster_on_one_clock_shared_by_origin_and_speed() -> None:
    async def main() -> tuple[float, float, float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ScaledLoop)
        clock, before = monotonic(), anyio.current_time()
        await anyio.sleep(5)
        after, shared = anyio.current_time(), loop.origin_s + (monotonic() - loop.origin_s) * loop.speed
        return after - before, (monotonic() - clock), after, shared

    slept_s, real_s, after, shared = anyio.run(main, backend_options={"loop_factory": scaled(100)})
    assert slept_s >= 4.99
    assert real_s >= 0.0499
    assert slept_s / 100 <= real_s
    assert shared >= after


@given(st.floats(0.0, 1e7), st.sampled_from([0.001, 0.1, 0.25, 0.3, 0.5, 1.0, 7.0]))
def test_a_tick_lies_ahead_less_than_a_period_away_and_is_the_same_for_all_who_ask_meanwhile(
    at_s: float, period_s: float
) -> None:
    tick_s = next_tick(at_s, period_s)
    assert at_s < tick_s <= at_s + period_s * (1 + 2e-6)
    assert next_tick((at_s + tick_s) / 2, period_s) == pytest.approx(tick_s)


@given(st.integers(0, 10**8), st.sampled_from([0.001, 0.1, 0.25, 0.3, 0.5, 1.0, 7.0]))
def test_ticks_follow_each_other_without_gap_or_double(number: int, period_s: float) -> None:
    assert next_tick(number * period_s, period_s) == pytest.approx((number + 1) * period_s)
    assert next_tick(number * period_s - 1e-9 * period_s, period_s) == pytest.approx((number + 1) * period_s)


def test_ticks_of_a_multiple_are_ticks_of_its_part() -> None:
    slow = [next_tick(at_s, 1.0) for at_s in range(1000)]
    fast = {round(next_tick(at_tenths / 10, 0.1), 9) for at_tenths in range(10_000)}
    assert set(slow) <= fast
