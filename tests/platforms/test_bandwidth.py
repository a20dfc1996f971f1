"""Processors and processor time of a real program on this machine. Not covered: whether estimated watts are right."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from ceml.domain.knobs import Configuration
from ceml.errors import Refused, SettingsError, Unavailable
from ceml.platforms import affinity
from ceml.platforms.bandwidth import QuotaLever, bandwidth, find_quota, look
from ceml.platforms.levers import LeverActuator
from ceml.saved import Item
from ceml.store.paths import PlatformContext
from ceml.testing.checks import check_actuator, check_sensor
from tests.test_serve import CLEAN, Server, ceml, wait_until

CPUS = sorted(os.sched_getaffinity(0))
several = pytest.mark.skipif(len(CPUS) < 2, reason="one processor: there is no affinity to turn")

SLEEPER = """
import subprocess, sys, threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
child.wait()
"""

# A training loop, if a small one: a linear model fitted by gradient descent, one step a beat.
TRAINER = """
import sys
import numpy as np
from ceml.apps.client import attach
rng = np.random.default_rng(0)
inputs = rng.normal(size=(256, 64)); targets = inputs @ rng.normal(size=64); weights = np.zeros(64)
with attach("trainer", pipe=sys.argv[1]) as beats:
    while True:
        for _ in range(40):
            weights -= 0.01 * inputs.T @ (inputs @ weights - targets) / 256
        beats.beat()
"""

WATTS = '''
from types import SimpleNamespace


def watts():
    """Least watts (W)."""
    return SimpleNamespace(constraints=(), cost=lambda predicted, now: predicted.power_w)
'''


@contextmanager
def running(code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=CLEAN
    )
    try:
        yield process
    finally:
        for child in affinity.family(process.pid):
            if child != process.pid:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
        process.communicate()


def platform(folder: Path, pid: int, **options):
    return bandwidth(PlatformContext(runtime_dir=folder), pid=pid, sensor_period_s=0.05, **options)


def masks(pid: int) -> set[tuple[int, ...]]:
    return {tuple(sorted(os.sched_getaffinity(thread))) for thread in affinity.family(pid)}


@several
def test_a_real_program_and_its_children_keep_their_promises(tmp_path: Path) -> None:
    with running(SLEEPER) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(affinity.family(process.pid)) == 3

        async def main() -> None:
            made = platform(tmp_path, process.pid)
            assert made.labels == ("power estimated from processor load",)
            (actuator,) = made.actuators

            async def disturb() -> None:
                os.sched_setaffinity(process.pid, CPUS[-1:])

            await check_actuator(actuator, disturb=disturb)
            saved = await actuator.save()
            await actuator.apply(Configuration({"cpu_cores": 1.0}))
            assert masks(process.pid) == {(CPUS[0],)}
            assert await actuator.restore(saved) == ()
            assert masks(process.pid) == {tuple(CPUS)}
            (sensor,) = made.sensors
            samples = await check_sensor(sensor)
            watts = [sample.rails_w["estimated"] for sample in samples if sample.rails_w]
            assert all(10.0 <= w <= 10.0 + 5.0 * (os.cpu_count() or 1) for w in watts)

        anyio.run(main)


@several
def test_threads_born_while_turned_are_put_back_and_a_dead_program_needs_nothing(tmp_path: Path) -> None:
    with running(SLEEPER) as process:
        assert process.stdout is not None
        process.stdout.readline()
        born = affinity.started(process.pid)
        known = Item(affinity.KIND, f"{process.pid}:{born}", json.dumps({str(process.pid): CPUS}))
        for thread in affinity.family(process.pid):
            os.sched_setaffinity(thread, CPUS[:1])
        for _ in range(2):
            assert affinity.put_back([known, Item("other", "x", "1")]) == ()
            assert masks(process.pid) == {tuple(CPUS)}
    assert affinity.put_back([known]) == ()
    (left,) = affinity.put_back([Item(affinity.KIND, "nonsense", "{}")])
    assert "journal" in left.reason


def test_what_cannot_be_turned_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no such process"):
        platform(tmp_path, 2**22 + 1)
    with pytest.raises(Unavailable, match="ceml itself"):
        platform(tmp_path, os.getpid())
    with running("import time; time.sleep(600)") as process:
        with pytest.raises(SettingsError, match="idle_w"):
            platform(tmp_path, process.pid, idle_w=-1.0)
        assert "of its own" in str(find_quota(process.pid))  # a child of ours, in our cgroup


def test_the_first_process_who_started_us_and_threads_of_the_kernel_are_refused_by_name() -> None:
    for pid, words in ((1, "is init"), (os.getppid(), "started ceml|is init"), (os.getpid(), "is ceml itself")):
        with pytest.raises(Unavailable, match=rf"pid={pid} ({words}).*give the number of the program"):
            look(pid)
    assert not affinity.of_kernel(os.getpid())
    everything = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    for kernel in filter(affinity.of_kernel, everything):
        with pytest.raises(Unavailable, match="is a thread of the kernel"):
            look(kernel)


@pytest.mark.skipif(os.geteuid() != 0, reason="ONLY ROOT CAN BECOME SOMEBODY ELSE: other users' programs are not tried")
def test_a_program_of_another_user_is_refused_with_the_remedy_and_one_of_the_same_user_is_not() -> None:
    asks = (
        "import os, sys\nfrom ceml.platforms.bandwidth import _reason_against\n"
        "os.setuid(int(sys.argv[1]))\nprint(_reason_against(int(sys.argv[2])))"
    )

    def asked(user: int, pid: int) -> str:
        words = [sys.executable, "-c", asks, str(user), str(pid)]
        return subprocess.run(words, capture_output=True, text=True, env=CLEAN, check=True).stdout.strip()

    with running("import os, sys, time; os.setuid(12345); print(flush=True); time.sleep(600)") as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert affinity.users(process.pid) == {12345}
        assert look(process.pid) or len(CPUS) == 1  # root may
        assert asked(12345, process.pid) == "None"
        told = asked(12346, process.pid)
    assert told.startswith("belongs to user 12345, and this is user 12346 without CAP_SYS_NICE")
    assert "run ceml serve as that user or as root" in told


SPINNER = """
import os, sys, time
def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
for _ in range(3):
    if os.fork() == 0:
        spin(0.1); os._exit(0)
    os.wait()
spin(0.2)
print("spun", flush=True)
sys.stdin.read()
"""


def test_the_processor_time_of_a_program_counts_its_children_alive_and_done_and_nobody_else(tmp_path: Path) -> None:
    with running(
        "import sys; print(flush=True); exec(sys.stdin.readline().encode().decode('unicode_escape'))"
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        made = platform(tmp_path, process.pid, estimate="program", idle_w=2.0, core_w=7.0)
        assert made.labels == ("power estimated from the processor time of the program",)
        assert made.board["power"] == "estimated from the load of the program"

        async def main() -> None:
            (sensor,) = made.sensors
            assert (await sensor.read()).rails_w == {}  # the first has nothing to compare with
            process.stdin.write(SPINNER.replace("\n", "\\n") + "\n")
            process.stdin.flush()
            await anyio.to_thread.run_sync(process.stdout.readline)
            sample = await sensor.read()
            joules = sample.rails_w["estimated"] * sample.covers_s
            spun_s = 3 * 0.1 + 0.2
            assert joules == pytest.approx(2.0 * sample.covers_s + 7.0 * spun_s, rel=0.25)
            process.kill()
            process.wait()
            with pytest.raises(Unavailable, match="is gone"):
                await sensor.read()

        anyio.run(main)


@contextmanager
def cgroup() -> Iterator[Path]:
    """A cgroup of one's own; skipped where there is none to be had."""
    for base in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")):
        folder = base / f"ceml-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if (folder / "cpu.cfs_quota_us").exists() or (folder / "cpu.max").exists():
                yield folder
                return
        finally:
            deadline = time.monotonic() + 5
            while (folder / "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
                time.sleep(0.01)
            folder.rmdir()
    pytest.skip("NO CGROUP CAN BE MADE HERE: the quota is not tested")


def test_a_real_cgroup_keeps_its_promises_and_really_slows_the_program_down(tmp_path: Path) -> None:
    with cgroup() as folder, running("while True: pass") as process:
        (folder / "cgroup.procs").write_text(str(process.pid))
        levers = [lever for lever in look(process.pid) if isinstance(lever, QuotaLever)]
        actuator = LeverActuator("quota", levers)

        async def main() -> None:
            await check_actuator(actuator, levels_per_knob=4)
            saved = await actuator.save()
            effective = await actuator.apply(Configuration({"cpu_share": 0.25}))
            assert effective["cpu_share"] == 0.25
            quota = (
                (folder / ("cpu.max" if (folder / "cpu.max").exists() else "cpu.cfs_quota_us")).read_text().split()[0]
            )
            assert 0 < int(quota) < 100_000 * len(CPUS)
            with pytest.raises(Refused):
                await actuator.apply(Configuration({"cpu_share": 0.3}))
            assert await actuator.restore(saved) == ()

        anyio.run(main)
        unified = (folder / "cpu.max").exists()
        allowed = folder / ("cpu.max" if unified else "cpu.cfs_quota_us")
        allowed.write_text("50000 100000" if unified else "50000")  # as docker --cpus=0.5 does
        (lever,) = [lever for lever in look(process.pid) if isinstance(lever, QuotaLever)]
        assert lever.look() == 1.0
        for share, quota in ((0.5, "25000"), (1.0, "50000")):
            assert lever.put(share) == share
            assert allowed.read_text().split()[0] == quota, "nobody's limit is lifted"
        process.kill()


@several
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_real_training_process_is_tuned_and_left_as_it_was_found(tmp_path: Path, end: signal.Signals) -> None:
    with running(TRAINER, str(tmp_path / "beats")) as process:
        own = tmp_path / "watts.py"
        own.write_text(WATTS)  # fewer processors are what it likes best, whatever else this machine is busy with
        words = ("--objective", f"{own}:watts", "--beats-per-state", 1000, "--longest-stay-s", 1.5)
        server = Server(tmp_path, "--platform", f"bandwidth:pid={process.pid}", *words).up()
        wait_until(lambda: bool(server.events("configuration_applied")), "the first state")
        if end is signal.SIGTERM:
            wait_until(lambda: bool(server.events("decided")), "a decision", seconds=60)
        else:
            wait_until(lambda: masks(process.pid) != {tuple(CPUS)}, "fewer processors", seconds=60)
        started = server.events("run_started")[0]
        code, out = server.end(end)
        if end is signal.SIGTERM:
            assert (code, "estimated" in out) == (0, True)
        else:
            done = ceml("restore", "--runtime-dir", tmp_path)
            assert done.returncode == 0, done.stderr
        assert started["labels"] == ["power estimated from processor load"]
        assert masks(process.pid) == {tuple(CPUS)}
