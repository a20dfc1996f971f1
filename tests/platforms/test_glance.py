"""What a driver reads to see whether somebody else turned a knob: enough, and nothing that disturbs. On fakes.

Not covered here: what comes of it (tests/control/test_readback.py), whole runs (test_jetson_serve.py).
"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from ceml.domain.knobs import Configuration
from ceml.platforms import profiles
from ceml.testing.jetson import FakeJetson
from ceml.testing.kernel import Attribute
from tests.platforms.test_jetson import run_on, with_fuse

CPU = "/sys/devices/system/cpu/cpufreq/policy0"
EMC = "/sys/kernel/debug/bpmp/debug/clk/emc"
GPU = "/sys/class/devfreq/17000000.gp10b"


@with_fuse
@pytest.mark.parametrize("board", sorted(profiles.shipped()))
def test_what_was_ordered_reads_as_ordered_on_every_board(tmp_path: Path, board: str) -> None:
    async def main(made, actuator) -> None:
        saved = await actuator.save()
        for state in (made.space.min_state, made.space.max_state):
            wanted = made.space.configuration(state)
            assert await actuator.apply(wanted) == wanted
            assert await actuator.glance() == wanted
        await actuator.restore(saved)
        assert not set((await actuator.glance()).values()) & set(made.space.configuration(0).values())

    run_on(FakeJetson(board), tmp_path, main)


@with_fuse
@pytest.mark.parametrize(
    ("path", "text", "knob"),
    [
        (f"{CPU}/scaling_governor", b"performance", "cpu_hz"),
        (f"{CPU}/scaling_setspeed", b"1113600", "cpu_hz"),
        (f"{CPU}/scaling_max_freq", b"652800", "cpu_hz"),
        (f"{GPU}/min_freq", b"114750000", "gpu_hz"),
        (f"{EMC}/rate", b"1331200000", "mem_hz"),
        (f"{EMC}/mrq_rate_locked", b"0", "mem_hz"),
    ],
)
def test_each_file_that_holds_a_clock_is_watched(tmp_path: Path, path: str, text: bytes, knob: str) -> None:
    kernel = FakeJetson("jetson-tx2")

    async def main(made, actuator) -> None:
        wanted = await actuator.apply(Configuration({"cpu_hz": 960e6, "gpu_hz": 522.75e6, "mem_hz": 800e6}))
        kernel.write(path, text)
        found = await actuator.glance()
        assert {name for name in found if found[name] != wanted[name]} == {knob}

    run_on(kernel, tmp_path, main)


@with_fuse
def test_a_clock_that_does_not_obey_is_nobody_elses_doing(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")

    async def main(made, actuator) -> None:
        top = made.space.configuration(made.space.max_state)
        for policy in kernel.policies:
            policy.clock.cap = 960_000
        effective = await actuator.apply(top)
        assert effective["cpu_hz"] == 960e6
        assert (await actuator.glance())["cpu_hz"] == top["cpu_hz"]

    run_on(kernel, tmp_path, main)


@with_fuse
def test_a_limit_by_cooling_shows(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2", kernel="6.1")

    async def main(made, actuator) -> None:
        top = made.space.configuration(made.space.max_state)
        await actuator.apply(top)
        kernel.gpu.limits.held = 726_750_000
        kernel.policies[1].limits.held = 1_113_600
        assert await actuator.glance() == Configuration({**top, "gpu_hz": 726.75e6, "cpu_hz": 1113.6e6})

    run_on(kernel, tmp_path, main)


@with_fuse
def test_the_clock_itself_is_not_read_in_a_glance(tmp_path: Path) -> None:
    """Reading cpuinfo_cur_freq may make the kernel ask the driver again (kernel.md, point 4)."""
    kernel, reads = FakeJetson("jetson-tx2"), []
    path = f"{CPU}/cpuinfo_cur_freq"
    file = kernel.files[path]

    def counted() -> str:
        reads.append(path)
        return file.read()

    kernel.files[path] = Attribute(counted, None, secret=True)

    async def main(made, actuator) -> None:
        await actuator.apply(made.space.configuration(made.space.min_state))
        before = len(reads)
        for _ in range(5):
            await actuator.glance()
            await anyio.sleep(0)
        assert len(reads) == before > 0

    run_on(kernel, tmp_path, main)
