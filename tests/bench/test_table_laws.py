"""Laws of whole runs on random small tables, read from text and played in virtual time by all that a user runs.

Not covered: the same laws of model and sampler alone, on more plants (test_choices.py, test_improvement.py,
test_overlap.py); figures on measured boards (the bench).
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ceml.bench.play import play
from ceml.domain.events import ConfigurationApplied, Decided, ModelFitted, WindowClosed
from ceml.plant.table import Table
from ceml.platforms.played import played
from ceml.sources import load

STEPS = 250
CPU_LEVELS, GPU_LEVELS = 4, 5
PERIOD_S, LONGEST_S = 0.1, 60.0

seeds = st.integers(0, 2**16)
few = settings(max_examples=5, deadline=None)


def table(seed, *, slower=1.0, hotter=1.0):
    """Rows of a random board with two clocks; single levels and states are off, so that no model fits exactly."""
    rng = np.random.default_rng(seed)
    rest, by_cpu, by_gpu = rng.lognormal((-3.0, -2.5, -2.0), 0.7)
    idle, cpu_w, gpu_w = rng.lognormal((0.7, 0.5, 1.2), 0.6)
    off = np.exp(rng.normal(0.0, 0.05, (2, CPU_LEVELS, 1)) + rng.normal(0.0, 0.02, (2, CPU_LEVELS, GPU_LEVELS)))
    rows = []
    for cpu in range(CPU_LEVELS):
        for gpu in range(GPU_LEVELS):
            x, y = (cpu + 1) / CPU_LEVELS, (gpu + 1) / GPU_LEVELS
            seconds = (rest + by_cpu / x + by_gpu / y) * off[0, cpu, gpu]
            watts = (idle + cpu_w * x**2.5 + gpu_w * y**2.5) * off[1, cpu, gpu]
            rows.append(
                {
                    "workload": "w",
                    "cpu_hz": x * 2e9,
                    "gpu_hz": y * 1.3e9,
                    "step_s": float(seconds) * slower,
                    "power_w": float(watts) * hotter,
                }
            )
    return rows


def run(rows, seed, *, eyes=(), stretched=1.0):
    """Every configuration that was put in force, in order; all that has seconds may be stretched with the steps."""
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    plant = Table.parse(lines, "t.csv").grid("w")
    board = played(plant, steps=STEPS, seed=seed, sensor_period_s=PERIOD_S * stretched)
    loaded = load(None, {"objective": "energy", "seed": seed, "longest_stay_s": LONGEST_S * stretched}, {})
    seen = []

    def look(event):
        if isinstance(event, ConfigurationApplied):
            seen.append((event.requested["cpu_hz"], event.requested["gpu_hz"]))

    play(loaded, steps=STEPS, platform=board, timed=False, eyes=[look, *(eye(plant) for eye in eyes)])
    assert len(seen) > 1
    return seen


@few
@given(seeds, st.floats(0.01, 100.0))
def test_scaling_all_watts_changes_no_configuration(seed, hotter):
    assert run(table(seed, hotter=hotter), seed) == run(table(seed), seed)


@few
@given(seeds, st.floats(0.1, 10.0))
def test_scaling_all_seconds_those_of_the_sensor_too_changes_no_configuration(seed, slower):
    assert run(table(seed, slower=slower), seed, stretched=slower) == run(table(seed), seed)


@few
@given(seeds, st.permutations(range(5)), st.permutations(range(CPU_LEVELS * GPU_LEVELS)))
def test_the_order_of_columns_and_of_rows_changes_no_configuration(seed, columns, order):
    rows = table(seed)
    names = [list(rows[0])[at] for at in columns]
    assert run([{name: rows[at][name] for name in names} for at in order], seed) == run(rows, seed)


@few
@given(seeds, st.sampled_from(["cpu_hz", "gpu_hz"]), st.sampled_from(["a_hz", "gpu2_hz", "video_hz"]))
def test_a_column_that_says_the_same_as_another_or_nothing_changes_no_configuration(seed, twin_of, name):
    """A second clock in the same proportion is no second device, whatever it is called, but for another known one."""
    if (name, twin_of) == ("gpu2_hz", "cpu_hz"):
        name = "cpu2_hz"
    rows = table(seed)
    wide = [{"board_hz": 1e9, name: 0.7 * row[twin_of], **row} for row in rows]
    assert run(wide, seed) == run(rows, seed)


@few
@given(seeds)
def test_the_same_seed_gives_the_same_run(seed):
    assert run(table(seed), seed) == run(table(seed), seed)


class Commitments:
    """Holds each decision against the truth of all that was measured until then."""

    def __init__(self, plant):
        self.space, self.cost = plant.space, np.log(plant.step_s * plant.power_w)
        self.measured, self.fit, self.count = set(), None, 0

    def __call__(self, event):
        if isinstance(event, WindowClosed) and event.observation.beats:
            self.measured.add(self.space.find(event.observation.configuration))
        elif isinstance(event, ModelFitted):
            self.fit = event.fit
        elif isinstance(event, Decided):
            self.count += 1
            chosen = self.space.find(event.configuration)
            assert chosen in self.measured
            best = min(self.measured, key=lambda state: self.cost[state])
            doubts = np.sqrt(self.fit.predict(np.array([chosen, best])).covariance.sum(axis=(1, 2)))
            assert self.cost[chosen] - self.cost[best] <= 2.0 * doubts.sum()


@few
@given(seeds)
def test_no_commitment_is_truly_worse_than_the_best_measured_state_by_more_than_the_stated_doubt(seed):
    kept = []

    def commitments(plant):
        kept.append(Commitments(plant))
        return kept[-1]

    run(table(seed), seed, eyes=[commitments])
    assert kept[0].count
