"""Random boards and programs whose physics is none of the model's: what a board nobody has seen may be like.

Steps add or overlap, voltages have a floor, memory levels do not order as 1/f, cores hurt beyond some count, single
levels are off, a part of the power belongs to nobody; 2 to 5 knobs, some 60 to 5000 states. The same seed gives the
same board.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ceml.domain.knobs import Knob, KnobKind, KnobSpace
from ceml.plant.machine import Plant

Numbers = NDArray[np.float64]

MOST_STATES = 5000


def random_plant(seed: int) -> tuple[Plant, float]:
    """A board with a program, and the noise (CV) of one step and one power sample on it, 2 to 6 %."""
    rng = np.random.default_rng(seed)
    space = _space(rng)
    values = np.transpose(space.values(space.states))
    share = {knob.name: row / row.max() for knob, row in zip(space.knobs, values, strict=True)}
    parts: list[Numbers] = []
    watts = np.full(len(space), rng.uniform(0.5, 4.0))
    for device in ("cpu", "gpu", "mem", "dla"):
        clock = share.get(f"{device}_hz")
        if clock is None:
            continue
        own = rng.lognormal(-1.0, 0.8) * clock ** -rng.uniform(0.6, 1.1)
        own *= _wiggle(rng, clock, 0.15 if device == "mem" else 0.02)
        if device == "cpu" and "cpu_cores" in share:
            cores = values[[knob.name for knob in space.knobs].index("cpu_cores")]
            own *= (1.0 + rng.uniform(0.05, 0.6) * (cores - 1.0) + rng.uniform(0.0, 0.02) * cores**2) / cores
        parts.append(own)
    total = (
        np.sum(parts, axis=0)
        if rng.random() < 0.4
        else np.sum(np.array(parts) ** (p := rng.uniform(1.5, 8.0)), axis=0) ** (1 / p)
    )
    seconds = rng.lognormal(-2.5, 0.8) * (rng.uniform(0.0, 0.3) + total)
    busy = [own / total for own in parts]
    clocks = [row for name, row in share.items() if name.endswith("_hz")]
    for clock, use in zip(clocks, busy, strict=True):
        volts = np.maximum(rng.uniform(0.5, 0.75), rng.uniform(0.3, 0.6) + rng.uniform(0.4, 0.7) * clock)
        moving = volts**2 * clock
        spread = share.get("cpu_cores", np.ones(len(space))) if clock is share.get("cpu_hz") else 1.0
        watts = watts + rng.uniform(0.1, 1.5) * moving * spread + rng.uniform(0.5, 6.0) * moving * np.minimum(use, 1.0)
        watts = watts + rng.uniform(0.0, 0.3) * volts
    watts = watts * _wiggle(rng, clocks[0], 0.01)
    step_s, power_w = np.full((2, space.present.size), np.nan)
    step_s[space.states], power_w[space.states] = seconds, watts
    plant = Plant(
        space=space,
        workload=f"random-{seed}",
        machine="random",
        step_s=step_s,
        power_w=power_w,
        rail_w={"total": power_w},
    )
    return plant, float(rng.uniform(0.02, 0.06))


def _space(rng: np.random.Generator) -> KnobSpace:
    kinds = ["gpu", "cpu", "mem", "cores", "dla"][: rng.integers(2, 6)]
    counts: dict[str, int] = {}
    left = MOST_STATES
    for at, kind in enumerate(kinds):
        most = {"gpu": 14, "cpu": 14, "mem": 6, "cores": 6, "dla": 4}[kind]
        least = 8 if at < 2 else 2
        counts[kind] = int(min(rng.integers(least, most + 1), max(2, left // (3 ** (len(kinds) - at - 1)))))
        left //= counts[kind]
    knobs: list[Knob] = []
    for kind, count in counts.items():
        if kind == "cores":
            levels = tuple(float(n) for n in np.unique(np.linspace(1, 2 * count, count).astype(int)))
            knobs.append(Knob(name="cpu_cores", levels=levels, kind=KnobKind.COUNT))
        else:
            low, top = rng.uniform(0.08, 0.4), rng.uniform(0.9e9, 2.4e9)
            levels = tuple(float(hz) for hz in np.linspace(low, 1.0, count) * top)
            knobs.append(Knob(name=f"{kind}_hz", levels=levels))
    return KnobSpace(knobs)


def _wiggle(rng: np.random.Generator, clock: Numbers, sd: float) -> Numbers:
    """A factor for each level of a clock: what is off about single levels."""
    levels, at = np.unique(clock, return_inverse=True)
    return np.exp(rng.normal(0.0, sd, len(levels)))[at]
