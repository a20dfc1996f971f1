"""Random plants of the default model's own family, and whole runs on them without any runtime around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ceml.domain.contracts import Score
from ceml.domain.improvement import improvement
from ceml.domain.knobs import Knob, KnobSpace
from ceml.domain.response.overlap import overlap
from ceml.domain.response.solving import Board
from ceml.domain.values import Observation, Situation

CPU = Knob(name="cpu_hz", levels=(0.4e9, 0.8e9, 1.2e9, 1.6e9, 2.0e9))
GPU = Knob(name="gpu_hz", levels=(0.2e9, 0.5e9, 0.8e9, 1.1e9, 1.3e9))
MEM = Knob(name="mem_hz", levels=(0.6e9, 1.3e9, 2.1e9))
SPACE = KnobSpace([CPU, GPU, MEM])


class EnergyPerStep:
    constraints = ()

    def cost(self, predicted, now):
        return predicted.power_w / predicted.rate_hz


class StepTime:
    """Cares for time alone, so that it works without a power sensor."""

    constraints = ()

    def cost(self, predicted, now):
        return -predicted.rate_hz


@dataclass
class AtMost:
    watts: float
    name: str = "power cap"

    def violation(self, predicted, now):
        return np.maximum(predicted.power_w / self.watts - 1.0, 0.0)


@dataclass
class Within:
    """A bound on the time of a step: on the run as a whole, as a deadline is."""

    seconds: float
    name: str = "step time"

    def violation(self, predicted, now):
        return np.maximum(1.0 / (predicted.rate_hz * self.seconds) - 1.0, 0.0)


def plant(space, seed):
    physics = Board(space).physics
    rng = np.random.default_rng(seed)
    theta = physics.mean + 0.7 * np.sqrt(physics.variance) * rng.standard_normal(len(physics.mean))
    theta[:2] = -1.0, 2.0
    values, _ = physics.evaluate(theta, Board(space).everywhere.inputs)
    seconds, watts = np.full((2, len(space.present)), np.nan)
    seconds[space.states], watts[space.states] = np.exp(values)
    return seconds, watts


def play(space, truth, *, objective=None, constraints=(), steps=600.0, known=True, seed=0, power=True, seen=None):
    """The stays of one run, and the windows they gave; `seen(watts)` is what the sensor makes of the power."""
    seconds, watts = truth
    model, sampler, rng = overlap(), improvement(), np.random.default_rng(seed)
    windows, stays, left, fit = [], [], steps, None
    while left > 0:
        fit = model.fit(space, windows, warm=fit)
        score = Score(fit, objective or EnergyPerStep(), constraints, Situation(remaining_work=left))
        stay = sampler.next(space, fit, score, windows, left if known else None, steps if known else None)
        stays.append(stay)
        count = float(np.ceil(max(stay.steps, stay.power_samples)))
        noisy = (1.0 + rng.normal(0.0, 0.02 / np.sqrt(count)), 1.0 + rng.normal(0.0, 0.025 / np.sqrt(count)))
        windows.append(
            Observation(
                configuration=space.configuration(stay.state),
                start_s=0.0,
                end_s=count * 0.1,
                beats=int(count),
                steps=count,
                rate_hz=1.0 / (seconds[stay.state] * noisy[0]),
                power_w=(seen or float)(watts[stay.state] * noisy[1]) if power else float("nan"),
                power_samples=int(count) if power else 0,
                step_cv=0.02,
                power_cv=0.025,
            )
        )
        left -= count
    return stays, windows


def committed(stays):
    return [stay.state for stay in stays if stay.commits][-1]
