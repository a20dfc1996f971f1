"""`ceml doctor --probe` on fake kernels with delays and clamps: measured, kept, used by serve, and all put back.

Not covered here: what else doctor says (test_doctor.py).
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import anyio
import pytest

from ceml.control.probing import probe_actuator, probe_sensor
from ceml.domain.knobs import Configuration, Knob, KnobSpace
from ceml.domain.memory import reachable
from ceml.domain.values import Sample
from ceml.errors import Temporary
from ceml.parts import choose
from ceml.platforms.jetson import jetson
from ceml.sources import load
from ceml.store.knowledge import KnowledgeStore
from ceml.store.paths import PlatformContext
from ceml.testing.fuse import available, mounted
from ceml.testing.jetson import FakeJetson
from tests.control.lived import KNOBS, Dial
from tests.platforms.test_jetson import settings_of
from tests.test_serve import CEML, CLEAN, ceml, wait_until

WHY_NOT = available()
with_fuse = pytest.mark.skipif(WHY_NOT is not None, reason=f"NO FUSE FACE HERE, NOTHING IS PROBED: {WHY_NOT}")


def probe(root: Path, folder: Path, *words: object):
    return ceml("doctor", "--probe", "--root", root, "--runtime-dir", folder, "--knowledge", folder / "known", *words)


@with_fuse
def test_delays_and_clamps_are_found_kept_and_used_and_every_file_is_as_before(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-tx2")
    kernel.gpu.clock.delay_s = 0.03
    kernel.memory.clock.cap = 1_600_000_000
    before = settings_of(kernel)
    with mounted(kernel, tmp_path / "board") as root:
        done = probe(root, tmp_path, "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)["probe"]
        assert settings_of(kernel) == before
        assert not (tmp_path / "journal.json").exists()
        knobs = {knob["name"]: knob for knob in told["knobs"]}
        assert knobs["cpu_hz"]["changes"] == 2 * 12 - 2
        assert 0.03 <= knobs["gpu_hz"]["settle_s"] < 0.06
        assert [missed["level"] for missed in knobs["mem_hz"]["unreached"]] == [1866e6]
        assert knobs["gpu_hz"]["unreached"] == knobs["cpu_hz"]["unreached"] == []
        assert {sensor["name"] for sensor in told["sensors"]} >= {"power rails"}
        assert all(0 < sensor["read_s"] < 1 for sensor in told["sensors"])

        flags = {"platform": f"jetson:root={root}", "knowledge": tmp_path / "known"}
        parts = choose(load(None, flags, {}), PlatformContext(runtime_dir=tmp_path))
        settle = {knob.name: knob.settle_s for knob in parts.platform.space.knobs}
        assert settle["gpu_hz"] == knobs["gpu_hz"]["settle_s"]
        left = reachable(parts.platform.space, parts.mind.knowledge)
        assert len(left) == 9 * 10 * 5
        assert not len(left.having({"mem_hz": 1866e6}))

        text = ceml("doctor", "--root", root, "--knowledge", tmp_path / "known").stdout
    for said in (text, ceml("knowledge", "show", "--knowledge", tmp_path / "known").stdout):
        assert "gpu_hz" in said
        assert "probed" in said
        assert "mem_hz=1866MHz" in said


@with_fuse
@pytest.mark.parametrize("from_the_start", [True, False])
def test_what_the_kernel_cools_teaches_nothing(tmp_path: Path, from_the_start: bool) -> None:
    kernel, cooling = FakeJetson("jetson-tx2"), {"state": 3 if from_the_start else 0}
    kernel.constant("/sys/class/thermal/cooling_device0/type", "thermal-cpufreq-0")
    kernel.add("/sys/class/thermal/cooling_device0/cur_state", lambda: f"{cooling['state']}")
    before, wrote = settings_of(kernel), kernel.write

    def write(path: str, data: bytes) -> None:
        cooling["state"] = 3
        wrote(path, data)

    kernel.write = write  # type: ignore[method-assign]
    with mounted(kernel, tmp_path / "board") as root:
        done = probe(root, tmp_path)
    assert done.returncode == 2
    assert "try again once it has cooled" in done.stderr
    assert settings_of(kernel) == before
    assert not list((tmp_path / "known").rglob("machine.json"))


@with_fuse
def test_a_second_probe_takes_back_what_is_reached_again(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-orin-nx")
    store = KnowledgeStore(tmp_path / "known", "jetson-orin-nx")
    with mounted(kernel, tmp_path / "board") as root:
        (actuator,) = jetson(PlatformContext(runtime_dir=tmp_path), root=str(root)).actuators
        for cap, unreachable in ((2_133_000_000, [{"mem_hz": 3199e6}]), (None, [])):
            kernel.memory.clock.cap = cap
            store.keep_probed(anyio.run(probe_actuator, actuator), ())
            assert list(store.machine_file().unreachable) == unreachable


@with_fuse
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_probe_that_is_ended_leaves_every_file_as_it_was(tmp_path: Path, number: int) -> None:
    kernel = FakeJetson("jetson-tx2", latency_s=0.02)
    before = settings_of(kernel)
    with mounted(kernel, tmp_path / "board") as root:
        words = [*CEML, "doctor", "--probe", "--root", root, "--runtime-dir", tmp_path, "--knowledge", tmp_path / "k"]
        probing = subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, text=True, env=CLEAN)
        wait_until(lambda: len(kernel.written) > 10, "the first changes")
        probing.send_signal(number)
        _, said = probing.communicate(timeout=30)
        if number == signal.SIGKILL:
            refused = probe(root, tmp_path)
            assert (refused.returncode, "ceml restore" in refused.stderr) == (2, True)
            assert ceml("restore", "--runtime-dir", tmp_path).returncode == 0
        else:
            assert (probing.returncode, "every knob is back" in said) == (2, True)
        assert settings_of(kernel) == before
        assert not (tmp_path / "k").exists()


def test_where_there_is_nothing_to_turn_a_probe_says_so_and_fails_as_a_look_does(tmp_path: Path) -> None:
    look = ceml("doctor", "--root", tmp_path)
    done = probe(tmp_path, tmp_path)
    assert (look.returncode, done.returncode, done.stderr) == (1, 1, "")
    assert "nothing was probed: there is no knob of this machine" in done.stdout
    assert not list(tmp_path.iterdir())


@with_fuse
def test_nothing_is_probed_beside_a_server(tmp_path: Path) -> None:
    kernel = FakeJetson("jetson-nano")
    with mounted(kernel, tmp_path / "board") as root:
        words = ["serve", "--runtime-dir", tmp_path, "--platform", f"jetson:root={root}"]
        server = subprocess.Popen([*CEML, *map(str, words)], stderr=subprocess.PIPE, env=CLEAN)
        wait_until((tmp_path / "beats").exists, "the server")
        done = probe(root, tmp_path)
        assert kernel.written == []
        server.terminate()
        server.communicate(timeout=30)
    assert (done.returncode, "controls this machine" in done.stderr) == (2, True)


# The probing itself, in virtual time ----------------------------------------------------------------------------------


def test_latencies_are_those_of_the_device(virtually) -> None:
    dial = Dial(KNOBS[0], delay_s=0.004)
    (found,) = virtually(lambda: probe_actuator(dial))
    assert found.settle_s == pytest.approx(0.0)  # looking alone costs as much here: it is what was looked for beside
    assert (found.unreached, found.problem, dial.level) == ({}, "", 2e9)


class Late(Dial):
    """Answers at once where nothing changes."""

    async def apply(self, wanted: Configuration) -> Configuration:
        if wanted[self.knobs[0].name] != self.level:
            await anyio.sleep(0.007)
        return await super().apply(wanted)


def test_what_looking_costs_is_taken_off(virtually) -> None:
    (found,) = virtually(lambda: probe_actuator(Late(KNOBS[0], delay_s=0.002)))
    assert found.settle_s == pytest.approx(0.007)


def test_a_refused_level_is_unreached_and_a_knob_that_refuses_all_teaches_nothing(virtually) -> None:
    some, every = Dial(KNOBS[0], refuses=(0.8e9,)), Dial(KNOBS[1], refuses=KNOBS[1].levels)
    (found,) = virtually(lambda: probe_actuator(some))
    assert list(found.unreached) == [0.8e9]
    (found,) = virtually(lambda: probe_actuator(every))
    assert (found.unreached, "not for me" in found.problem) == ({}, True)


def test_a_knob_that_hangs_or_is_busy_is_told_and_costs_no_level(virtually) -> None:
    for dial in (Dial(KNOBS[0], delay_s=1e6), Dial(KNOBS[0], busy=10_000)):
        (found,) = virtually(lambda dial=dial: probe_actuator(dial))
        assert found.problem
        assert found.unreached == {}
        assert dial.level == 2e9


def test_a_knob_of_one_level_teaches_nothing(virtually) -> None:
    (found,) = virtually(lambda: probe_actuator(Dial(Knob(name="cpu_hz", levels=(1e9,)))))
    assert (found.latencies_s, found.unreached, found.settle_s) == ((), {}, 0.0)


def test_a_sensor_is_timed_and_its_steps_are_seen(virtually) -> None:
    class Ramp:
        name, period_s, lag_s, reads = "ramp", 0.1, 0.0, 0

        async def read(self) -> Sample:
            await anyio.sleep(0.01)
            self.reads += 1
            if self.reads % 4 == 0:
                raise Temporary("not now")
            return Sample(at_s=anyio.current_time(), rails_w={"cpu": 0.5 * self.reads, "gpu": 1.0})

    found = virtually(lambda: probe_sensor(Ramp()))
    assert found.read_s == pytest.approx(0.01)
    assert found.steps == {"cpu": 0.5}


def test_longer_settle_times_count_and_shorter_ones_do_not() -> None:
    space = KnobSpace(KNOBS).settling({"cpu_hz": 0.02, "no such knob": 1.0})
    assert [knob.settle_s for knob in space.knobs] == [0.02, 0.005]
