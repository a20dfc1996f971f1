"""What a machine is (its plant) and which state of it is in force when (its dynamics). Pure: time is an argument."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ceml.domain.knobs import Configuration, level_text
from ceml.domain.values import Prediction
from ceml.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ceml.domain.knobs import Knob, KnobSpace, Level, States

    Truth = NDArray[np.float64]  # (product of level counts,), NaN where the state is absent

CLOCK_S = 1e-9  # virtual time counts whole nanoseconds, so nothing shorter can be waited for


@dataclass(frozen=True, kw_only=True, eq=False)
class Plant:
    """How one program runs on one machine: the noise-free truth of every state, as arrays over the full product.

    Attributes:
        space: The states of the machine; its mask says which are present.
        workload: The program.
        machine: The board's name, the same for all its programs.
        step_s: Seconds per step in each state, NaN where absent.
        power_w: Watts of the whole board, NaN where absent or never measured.
        rail_w: Watts per rail; `total` is the whole board. Empty: power was never measured.
        busy: Utilisation per device, 0 to 1.
        idle_rail_w: Watts per rail while no program runs; empty: not known.
        quantum_w: Smallest step of the sensor behind each rail; a rail that is missing is not rounded.
        labels: What must be said wherever these numbers are printed.
    """

    space: KnobSpace
    workload: str
    machine: str
    step_s: Truth
    power_w: Truth
    rail_w: Mapping[str, Truth] = field(default_factory=dict)  # type: ignore[assignment]
    busy: Mapping[str, Truth] = field(default_factory=dict)  # type: ignore[assignment]
    idle_rail_w: Mapping[str, Truth] = field(default_factory=dict)  # type: ignore[assignment]
    quantum_w: Mapping[str, float] = field(default_factory=dict[str, float])
    labels: tuple[str, ...] = ()

    def rails_w(self, state: int) -> dict[str, float]:
        """Watts per rail while the program runs in this state."""
        return {rail: float(watts[state]) for rail, watts in self.rail_w.items()}

    def idle_rails_w(self, state: int) -> dict[str, float]:
        """Watts per rail while no program runs; empty where that is not known."""
        return {rail: float(watts[state]) for rail, watts in self.idle_rail_w.items()}

    def utilisation(self, state: int) -> dict[str, float]:
        """Busy share per device while the program runs in this state."""
        return {device: float(share[state]) for device, share in self.busy.items()}

    def changed(self, *, step_time: float = 1.0, power: float = 1.0) -> Plant:
        """Another phase of the program: every step takes so many times as long, every watt becomes so many."""
        rail_w = {rail: watts * power for rail, watts in self.rail_w.items()}
        return replace(self, step_s=self.step_s * step_time, power_w=self.power_w * power, rail_w=rail_w)

    def truth(self, states: States) -> Prediction:
        """The truth of n states in the shape of a prediction, so that objectives and constraints can judge it."""
        return Prediction(
            rate_hz=1.0 / self.step_s[states],
            power_w=self.power_w[states],
            rail_w={rail: watts[states] for rail, watts in self.rail_w.items()},
        )


def progress(left: float, step_s: float, noise: float, available_s: float) -> tuple[float, float]:
    """Work on one step for a while: the arithmetic of the replayed and of the simulated program alike.

    A step takes `step_s * noise` seconds as long as one state is in force; over several states it progresses
    piecewise, each state contributing its time divided by what the whole step would take in it.

    Args:
        left: Share of the step that is still to do, 0 to 1.
        step_s: Seconds that a whole step truly takes in the state in force.
        noise: Factor of this very step, mean 1.
        available_s: Seconds until the state changes, or until now.

    Returns:
        The share left after that, exactly 0 when the step is complete, and the seconds that were needed.
    """
    needed_s = left * step_s * noise
    if needed_s <= available_s:
        return 0.0, needed_s
    return max(0.0, left - available_s / (step_s * noise)), available_s


def landing(space: KnobSpace, current: int, wanted: Mapping[str, Level]) -> int:
    """Where a request ends up: a number on the next level up (the highest if above all), as on a Jetson TX2.

    Raises:
        Refused: An unknown knob or name of a level, no number where one is needed, or a state that is absent.
    """
    levels = dict(space.configuration(current))
    for name, asked in wanted.items():
        knob = next((knob for knob in space.knobs if knob.name == name), None)
        if knob is None:
            known = ", ".join(knob.name for knob in space.knobs)
            raise Refused(f"{name}={asked!r}: this board has no such knob; it has {known}", knob=name)
        levels[name] = _level(knob, asked)
    state = space.find(levels)
    if state is None:
        turned = next((name for name in wanted if levels[name] != space.configuration(current)[name]), "")
        raise Refused(f"{Configuration(levels)} is not a state of this board: it was never measured", knob=turned)
    return state


def _level(knob: Knob, asked: Level) -> Level:
    known = ", ".join(level_text(knob.name, level) for level in knob.levels)
    if not knob.ordered:
        if asked not in knob.levels:
            raise Refused(f"{knob.name}={asked!r}: this board knows {known}", knob=knob.name)
        return asked
    if isinstance(asked, str) or not math.isfinite(asked) or (asked <= 0.0 and asked not in knob.levels):
        raise Refused(f"{knob.name}={asked!r} is no number above 0; this board knows {known}", knob=knob.name)
    return next((level for level in knob.levels if float(level) >= asked), knob.levels[-1])


class Machine:
    """Which state is in force when, and how much work was done in each: the truth of one run.

    A machine is found with every knob at its highest level. A change is in force after the slowest settle time of
    the knobs that change, and costs no energy of its own; a newer one replaces a change that is not yet in force.

    Attributes:
        plant: How the program runs on it, in its latest phase.
        phases: `(from, plant)` of each phase of the program, ascending.
        transitions: `(in force from, state)`, ascending; the last one may still lie ahead.
        steps_in: Steps done in each state, parts of steps included.
        energy_j: True time x true power of all that was done, the noise of single steps left out.
        start_s: When the first step began; NaN before.
        end_s: When the latest work ended; NaN before.
        rests: `(from, to)` of the times in between when the program was away, ascending.
    """

    def __init__(self, plant: Plant, at_s: float = 0.0, state: int | None = None) -> None:
        self.plant = plant
        self.phases: list[tuple[float, Plant]] = [(at_s, plant)]
        self.transitions: list[tuple[float, int]] = [(at_s, plant.space.max_state if state is None else state)]
        self.steps_in: dict[int, float] = {}
        self.energy_j = 0.0
        self.start_s = math.nan
        self.end_s = math.nan
        self.rests: list[tuple[float, float]] = []

    def put(self, state: int, at_s: float) -> float:
        """Ask for a state; returns from when on it is in force. Asking again for what is on its way changes nothing."""
        if self.transitions[-1][1] == state:
            return max(at_s, self.transitions[-1][0])
        if self.transitions[-1][0] > at_s:
            self.transitions.pop()
        before = self.transitions[-1][1]
        if before == state:
            return at_s
        space = self.plant.space
        settle_s = space.settle_s(space.configuration(before), space.configuration(state))
        in_force_s = round(at_s + settle_s, 9)
        self.transitions.append((in_force_s, state))
        return in_force_s

    def become(self, plant: Plant, at_s: float) -> None:
        """The program begins another phase, or is another program, on the same states."""
        self.plant = plant
        self.phases.append((at_s, plant))

    def plant_at(self, at_s: float) -> Plant:
        """How the program ran at a moment."""
        return self.phases[max(0, bisect_right(self.phases, at_s + CLOCK_S, key=lambda phase: phase[0]) - 1)][1]

    @property
    def target(self) -> int:
        """The state that was asked for last, in force or on its way."""
        return self.transitions[-1][1]

    def state_at(self, at_s: float) -> int:
        """The state in force at a moment."""
        last_s, last = self.transitions[-1]
        if at_s >= last_s - CLOCK_S:
            return last
        return self.transitions[max(0, bisect_right(self.transitions, at_s + CLOCK_S, key=lambda t: t[0]) - 1)][1]

    def next_change_s(self, at_s: float) -> float:
        """When the state will change next, infinity if nothing is on its way."""
        last_s = self.transitions[-1][0]
        return last_s if last_s - CLOCK_S > at_s else math.inf

    def work(self, state: int, share: float, from_s: float, to_s: float) -> None:
        """Note that `share` of a step was done in a state between two moments."""
        if not self.start_s <= from_s:  # the first work, NaN included
            self.start_s = from_s
        self.end_s = to_s
        if share > 0.0:
            plant = self.plant_at(from_s) if len(self.phases) > 1 else self.plant
            self.steps_in[state] = self.steps_in.get(state, 0.0) + share
            self.energy_j += share * float(plant.step_s[state] * plant.power_w[state])

    def timeline(self) -> Iterator[tuple[float, float, int]]:
        """`(from, to, state)` of every state in force between the first and the latest work, rests left out.

        Cut where a phase of the program begins.
        """
        cuts = [at_s for at_s, _ in self.phases[1:]]
        for begin, end, state in self._stretches():
            for cut_s in (*(at_s for at_s in cuts if begin < at_s < end), end):
                yield begin, cut_s, state
                begin = cut_s

    def _stretches(self) -> Iterator[tuple[float, float, int]]:
        ends = [at_s for at_s, _ in self.transitions[1:]] + [math.inf]
        for (from_s, state), to_s in zip(self.transitions, ends, strict=True):
            begin, end = max(from_s, self.start_s), min(to_s, self.end_s)
            for rest_s, again_s in self.rests:
                if begin < min(rest_s, end):
                    yield begin, min(rest_s, end), state
                begin = max(begin, again_s)
            if begin < end:
                yield begin, end, state
