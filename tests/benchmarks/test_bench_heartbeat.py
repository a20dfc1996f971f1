"""How fast a heartbeat is: in the user's process, on the pipe, in the house. `make bench` prints the figures.

Not covered: what the controller and its manager do with a beat. Nothing here passes or fails by a time.
"""

import fcntl
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from ceml.apps import client
from ceml.apps.client import attach
from ceml.apps.pipe import PipeListener
from ceml.apps.roster import Roster
from ceml.apps.wire import parse
from ceml.domain.events import AppLeft, Heartbeat

ROOT = Path(client.__file__).parents[2]
LINE = b"app=resnet src=0123abcd beat=%d t=%.6f work=2"
FLOOD = 100_000
FLOODER = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from ceml.apps.client import attach
with attach("flood", pipe=sys.argv[1]) as hb:
    for step in range(int(sys.argv[2])):
        hb.beat()
    while hb._work:
        time.sleep(0.001)
        hb.beat(0)
"""
PACER = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from ceml.apps.client import attach
with attach("pacer", pipe=sys.argv[1]) as hb:
    for step in range(int(sys.argv[2])):
        hb.beat()
        time.sleep(0.002)
"""


class Nobody:
    """No process is known."""

    def identify(self, pid: int) -> int | None:
        return None

    def alive(self, pid: int, identity: int) -> bool:
        return False


def drain(fd: int) -> None:
    try:
        while os.read(fd, 1 << 20):
            pass
    except BlockingIOError:
        return


@pytest.fixture
def fifo(tmp_path: Path):
    path = tmp_path / "beats"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 1 << 20)
    yield path, fd
    os.close(fd)


def test_write_alone_the_floor_under_a_beat(benchmark, fifo):
    path, fd = fifo
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    line = LINE % (1, 1.0)
    benchmark.pedantic(os.write, (writer, line), setup=lambda: drain(fd), rounds=100, iterations=1)
    os.close(writer)


def test_beat_into_a_pipe_that_is_read(benchmark, fifo):
    path, fd = fifo
    hb = attach("resnet", pipe=str(path))

    def hundred():
        for _ in range(100):
            hb.beat()

    benchmark.extra_info["beats"] = 100
    benchmark.pedantic(hundred, setup=lambda: drain(fd), rounds=300)
    if benchmark.stats:
        benchmark.extra_info["us_per_beat"] = round(benchmark.stats.stats.median / 100 * 1e6, 2)
    assert not hb._work
    hb.close()


def test_beat_with_nobody_listening(benchmark, tmp_path):
    hb = attach("resnet", pipe=str(tmp_path / "absent"))
    benchmark(hb.beat)
    assert hb._work
    hb.close()


def test_parse_a_plain_line(benchmark):
    assert benchmark(parse, LINE % (123456, 12345.678901)).work == 2.0


def test_parse_a_line_with_two_metrics(benchmark):
    assert len(benchmark(parse, LINE % (123456, 12345.678901) + b" loss=0.25 latency_s=0.0125").metrics) == 2


def test_parse_and_roster(benchmark):
    roster, lines = Roster(Nobody()), [LINE % (number, number / 1e4) for number in range(1000)]
    numbers = iter(range(1, 1 << 60))

    def thousand():
        # Each round is the same beats of another source, so that all of them are accepted.
        source = b"src=%08x" % next(numbers)
        for line in lines:
            line = line.replace(b"src=0123abcd", source)
            said = parse(line)
            for _ in roster.hear(said, said.t, line):
                pass
        roster._sessions.clear()

    benchmark.pedantic(thousand, rounds=50)
    if benchmark.stats:
        benchmark.extra_info["us_per_beat"] = round(benchmark.stats.stats.median / 1000 * 1e6, 2)
    assert not roster.refused


def listen(path: Path, code: str, beats: int) -> tuple[list, list[float]]:
    """The heartbeats of a writer process, and when each was published."""
    events, times = [], []

    def publish(event) -> None:
        events.append(event)
        times.append(time.monotonic())

    async def main() -> None:
        listener = PipeListener(path)
        async with anyio.create_task_group() as group:
            await group.start(listener.run, publish)
            writer = subprocess.Popen([sys.executable, "-I", "-c", code, str(path), str(beats)])
            while not events or not isinstance(events[-1], AppLeft):
                await anyio.sleep(0.02)
            writer.wait()
            group.cancel_scope.cancel()

    anyio.run(main)
    return events, times


def test_throughput_of_a_real_pipe(benchmark, tmp_path):
    def flood():
        events, times = listen(tmp_path / "beats", FLOODER, FLOOD)
        beats = [event for event in events if isinstance(event, Heartbeat)]
        assert sum(beat.work for beat in beats) == FLOOD
        rates.append(len(beats) / (times[-1] - times[0]))
        lines.append(len(beats))

    rates, lines = [], []
    benchmark.pedantic(flood, rounds=3)
    benchmark.extra_info.update(beats_per_s=round(statistics.median(rates)), lines=lines, work_lost=0)


def test_latency_from_the_writers_clock_to_the_published_event(benchmark, tmp_path):
    def pace():
        events, times = listen(tmp_path / "beats", PACER, 500)
        took = [at - event.at_s for event, at in zip(events, times, strict=True) if isinstance(event, Heartbeat)]
        latencies.extend(took[10:])

    latencies = []
    benchmark.pedantic(pace, rounds=1)
    benchmark.extra_info["median_us"] = round(statistics.median(latencies) * 1e6, 1)
    benchmark.extra_info["p99_us"] = round(statistics.quantiles(latencies, n=100)[98] * 1e6, 1)
