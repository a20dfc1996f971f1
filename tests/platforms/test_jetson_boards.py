"""Every board: detected, profiled, a state chosen with the default model, left as it was found. On fake kernels.

The truth that the choice must save against is the fake's own. Not covered here: how good choices are (real time on a
busy machine is no judge of that: tests/bench), how else a run may end (test_jetson_endings.py).
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ceml.domain.knobs import Configuration, Knob, KnobSpace
from ceml.platforms import profiles
from ceml.testing.fuse import available
from ceml.testing.jetson import FakeJetson
from tests.nursery import Nursery
from tests.platforms.test_jetson import settings_of
from tests.platforms.test_jetson_endings import beat
from tests.platforms.test_jetson_serve import board
from tests.test_serve import wait_until

WHY_NOT = available()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"NO FUSE FACE HERE, NO BOARD IS TUNED: {WHY_NOT}")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


def joules(kernel: FakeJetson, configuration: Configuration) -> float:
    """True energy of a step of the made-up program in a state."""
    for policy in kernel.policies:
        policy.clock.ask(round(float(configuration["cpu_hz"]) / 1e3))
    kernel.gpu.clock.ask(round(float(configuration["gpu_hz"])))
    kernel.memory.clock.ask(round(float(configuration["mem_hz"])))
    profile = kernel.profile
    return kernel.step_s() * sum(kernel.watts(label) for label, rail in profile.rails.items() if rail in profile.total)


@pytest.mark.parametrize("name", sorted(profiles.shipped()))
def test_the_whole_loop_runs_on_every_board(tmp_path: Path, nursery: Nursery, name: str) -> None:
    record, stop = tmp_path / "run.jsonl", threading.Event()

    def events(kind: str) -> list[dict]:
        lines = record.read_text().splitlines() if record.exists() else []
        return [event for line in lines if line.endswith("}") and (event := json.loads(line))["event"] == kind]

    with board(tmp_path, name) as (kernel, root):
        before = settings_of(kernel)
        words = ("--runtime-dir", tmp_path, "--record", record, "--platform", f"jetson:root={root}")
        server = nursery.ceml("serve", *words, "--sensor-period-s", 0.02, log=tmp_path / "log", state=tmp_path / "s")
        player = threading.Thread(target=beat, args=(tmp_path / "beats", kernel, stop))
        player.start()
        try:
            wait_until(lambda: bool(events("decided")), "a decision", seconds=60)
        finally:
            stop.set()
            player.join()
            status = server.end(signal.SIGTERM)
        assert status == 0, server.said
        assert settings_of(kernel) == before
        assert not (tmp_path / "journal.json").exists()
    (begun,), chosen = events("run_started"), Configuration(events("decided")[0]["configuration"])
    assert begun["platform"] == name
    tried = {json.dumps(event["effective"], sort_keys=True) for event in events("configuration_applied")}
    assert len(tried) >= 4
    truth = FakeJetson(name)
    space = KnobSpace([Knob(name=knob, levels=tuple(levels)) for knob, levels in begun["knobs"].items()])
    assert joules(truth, chosen) < joules(truth, space.configuration(space.max_state))
