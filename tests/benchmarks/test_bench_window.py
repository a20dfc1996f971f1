"""What a beat costs on the ground floor: a window alone, and a manager that is idle. `make bench` prints the figures.

Not covered: the pipe and the bus (test_bench_heartbeat.py). Nothing here passes or fails by a time.
"""

from __future__ import annotations

import random

import pytest

from ceml.domain.events import AppJoined, Heartbeat, Sampled
from ceml.domain.manager import RuntimeManager
from ceml.domain.values import Stay
from ceml.domain.windows import Window
from tests.domain.test_manager import SPACE, Script, World, mind

BEATS = 20_000


def steps(cv: float, since_s: float) -> list[Heartbeat]:
    rng, at_s, beats = random.Random(0), since_s, []
    for _ in range(BEATS):
        at_s += 2e-5 * rng.lognormvariate(0.0, cv)
        beats.append(Heartbeat(at_s=at_s, app="a"))
    return beats


@pytest.mark.parametrize("cv", [0.02, 0.14])
def test_beats_into_a_window(benchmark, cv):
    beats = steps(cv, 0.0)

    def fold() -> None:
        window = Window(SPACE.configuration(0), opens_s=0.0, total_rails=("total",))
        for beat in beats:
            window.beat(beat)
        assert window.beats == BEATS - 1

    benchmark.pedantic(fold, rounds=10)
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_beat"] = round(benchmark.stats.stats.median / BEATS * 1e6, 2)


def test_beats_into_an_idle_manager_with_samples_at_10_hz(benchmark):
    sampler = Script(Stay(state=5, steps=3), Stay(state=5, steps=1e9, commits=True))
    joined = AppJoined(at_s=0.0, app="a")
    world = World(RuntimeManager(joined, SPACE, mind(sampler=sampler)))
    world.give(joined)
    world.run(20)
    manager = world.manager

    def events() -> tuple[tuple[list], dict]:
        mixed: list = []
        for beat in steps(0.02, world.at_s):
            if beat.at_s - world.at_s > 0.1:
                world.at_s = beat.at_s
                mixed.append(Sampled(at_s=beat.at_s, sensor="ina", rails_w={"total": 5.0}))
            mixed.append(beat)
        world.at_s = mixed[-1].at_s
        return (mixed,), {}

    def hear(mixed: list) -> None:
        for event in mixed:
            manager.on(event)

    benchmark.pedantic(hear, setup=events, rounds=20)
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_beat"] = round(benchmark.stats.stats.median / BEATS * 1e6, 2)
