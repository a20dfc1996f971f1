"""What each figure of a run means: a run on a plant is scored on the plant's noise-free truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ceml.domain.budget import Deadline, EnergyAllowance
from ceml.domain.keeping import SURELY_Z
from ceml.domain.schedule import mixed
from ceml.domain.values import Situation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Constraint, Fit, Objective
    from ceml.domain.knobs import KnobSpace, Level, States
    from ceml.domain.values import Prediction
    from ceml.plant.machine import Machine, Plant

    Caps = Sequence[tuple[float, float | None]]  # (from when on, watts; None: no cap), ascending

TOLERANCE = 0.02  # a constraint broken by more than this is broken; also the band above a cap that is not counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one run. Plain numbers; ratios bare (0.02 = 2 %); None where something was not measured.

    "Best", "max" and all errors are taken over the states of the plant's space.

    Attributes:
        states: How many states the space has.
        states_tried: Distinct states in force during any step.
        chosen: The last commitment, knob by knob; None where there was none. Of a two-state schedule the state for more
            of the time.
        schedule: Both states of a two-state schedule with their shares of the time; None for a constant state. What is
            said of the chosen state is then said of the mean of both, and a deadline or an energy allowance is held
            against the run itself. The best is a constant state, so that figures against it may be below 0.
        chosen_energy_j: Its true joules per step.
        feasible: Whether it breaks no constraint by more than 2 %; None without a commitment.
        best: The feasible state of least true cost, knob by knob; None where no state is feasible.
        best_energy_j: Least true joules per step among the feasible states.
        regret: Cost of the chosen state above the best: cost(chosen) / cost(best) - 1, for negative costs
            cost(best) / cost(chosen) - 1; below 0 counts as 0.
        max_state_energy_j: True joules per step with every knob at its highest value.
        saving: 1 - run_energy_j / (steps * max_state_energy_j).
        possible_saving: 1 - best_energy_j / max_state_energy_j.
        run_energy_j: Sum over steps of true time x true power of the states in force.
        run_excess: run_energy_j / (steps * best_energy_j) - 1; for objective `energy` and programs of one phase only.
        run_s: Seconds from the start of the first step to the end of the last.
        seconds_above_cap: Time with true power above 1.02 x the cap in force.
        max_over_cap_w: Largest true power above the cap in force, 0 if never.
        energy_above_cap: Integral of the power above the cap, as share of the energy of the same time.
        settled_short: By how much the rate from settling to the end, later trials included, falls short of the best
            state's: 1 - steps per true second / rate(best), below 0 where turns beat every constant state; None where
            nothing settled or the program changed phase.
        rate_error: Mean absolute relative error of the rates that the model predicted at the first commitment, over
            the states for which it predicts any.
        power_error: The same for power.
        rate_coverage: Share of the states whose true rate lies in the 90 % interval that this model stated; None where
            it states none.
        power_coverage: The same for power.
    """

    states: int
    states_tried: int
    chosen: dict[str, Level] | None
    schedule: list[tuple[dict[str, Level], float]] | None
    chosen_energy_j: float | None
    feasible: bool | None
    best: dict[str, Level] | None
    best_energy_j: float | None
    regret: float | None
    max_state_energy_j: float | None
    saving: float | None
    possible_saving: float | None
    run_energy_j: float | None
    run_excess: float | None
    run_s: float
    seconds_above_cap: float | None
    max_over_cap_w: float | None
    energy_above_cap: float | None
    settled_short: float | None
    rate_error: float | None
    power_error: float | None
    rate_coverage: float | None
    power_coverage: float | None


def score(
    machine: Machine,
    *,
    objective: Objective,
    objective_is_energy: bool,
    constraints: Sequence[Constraint] = (),
    steps: float | None = None,
    commitments: Sequence[int] = (),
    turns: tuple[int, float] | None = None,
    caps: Caps = (),
    settled_s: float | None = None,
    fit: Fit | None = None,
) -> Figures:
    """Score one run.

    Args:
        machine: The truth of the run.
        objective: What was wanted; its own constraints count too.
        objective_is_energy: Whether that is joules per step: only then the whole run has a best to be held against.
        constraints: Further constraints, as in force at the end, e.g. the budget. Those on the whole run (deadline,
            energy allowance) are held against a run that spends all of itself in one state.
        steps: The work that the program announced.
        commitments: States that the controller committed to, in order.
        turns: Where the last of them takes turns: with which other state, and its own share of the time.
        caps: The caps on power in the course of the run.
        settled_s: When the first commitment was made after the last change of limits.
        fit: The model at the first commitment.
    """
    plant = machine.plant
    space, truth = plant.space, plant.truth(plant.space.states)
    rate_at_max_hz = 1.0 / float(plant.step_s[space.max_state])
    now = Situation(at_s=machine.start_s, remaining_work=steps, spent_j=0.0, rate_at_max_hz=rate_at_max_hz)
    energy_j = plant.step_s * plant.power_w
    musts = (*objective.constraints, *constraints)
    cost, violation = _judged(truth, objective, musts, now)
    allowed = np.isfinite(cost) & (violation <= 0.0)
    best = int(np.argmin(np.where(allowed, cost, np.inf))) if allowed.any() else None
    best_energy_j = _least(energy_j[space.states[violation <= 0.0]])
    max_energy_j = float(energy_j[space.max_state])
    chosen = _chosen(plant, commitments[-1], turns) if commitments else None
    due = musts if turns is None else _but_for_the_run(machine, musts)
    chosen_cost, chosen_violation = (np.zeros(0),) * 2 if chosen is None else _judged(chosen, objective, due, now)
    done, run_energy_j = math.fsum(machine.steps_in.values()), machine.energy_j
    one_phase = len(machine.phases) == 1
    above_s, over_w, over_share = _above(machine, caps)
    rate_error, power_error = _errors(plant, fit)
    rate_coverage, power_coverage = _coverage(plant, fit)
    return Figures(
        states=len(space),
        states_tried=len(machine.steps_in),
        chosen=None if chosen is None else dict(space.configuration(commitments[-1])),
        schedule=_schedule(space, commitments[-1], turns) if commitments else None,
        chosen_energy_j=None if chosen is None else _known(float(chosen.energy_j[0])),
        feasible=None if chosen is None else bool(chosen_violation[0] <= TOLERANCE),
        best=None if best is None else dict(space.configuration(int(space.states[best]))),
        best_energy_j=_known(best_energy_j),
        regret=None if chosen is None or best is None else _regret(float(chosen_cost[0]), float(cost[best])),
        max_state_energy_j=_known(max_energy_j),
        saving=_below_one(run_energy_j, done * max_energy_j) if one_phase else None,
        possible_saving=_below_one(best_energy_j, max_energy_j),
        run_energy_j=_known(run_energy_j),
        run_excess=_above_one(run_energy_j, done * best_energy_j) if objective_is_energy and one_phase else None,
        run_s=_known(machine.end_s - machine.start_s) or 0.0,
        seconds_above_cap=above_s,
        max_over_cap_w=over_w,
        energy_above_cap=over_share,
        settled_short=_short(machine, settled_s, best) if one_phase and settled_s is not None else None,
        rate_error=rate_error,
        power_error=power_error,
        rate_coverage=rate_coverage,
        power_coverage=power_coverage,
    )


def _judged(
    truth: Prediction, objective: Objective, constraints: Sequence[Constraint], now: Situation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """True cost and violation of n states."""
    with np.errstate(all="ignore"):
        cost = np.asarray(objective.cost(truth, now), dtype=np.float64)
        violation = np.zeros(cost.shape)
        for constraint in constraints:
            violation = np.maximum(violation, constraint.violation(truth, now))
    return cost, violation


def _but_for_the_run(machine: Machine, constraints: Sequence[Constraint]) -> list[Constraint]:
    """Of two states in turn: without the limits on the whole run that the run itself has kept.

    The latest share is what the rest of the work needed, not what all of it would.
    """
    took_s = machine.end_s - machine.start_s
    return [
        each
        for each in constraints
        if not (
            (isinstance(each, Deadline) and took_s <= each.deadline_s * (1.0 + TOLERANCE))
            or (isinstance(each, EnergyAllowance) and machine.energy_j <= each.allowance_j * (1.0 + TOLERANCE))
        )
    ]


def _chosen(plant: Plant, state: int, turns: tuple[int, float] | None) -> Prediction:
    """The truth of a commitment, n = 1: of a state, or of two in turn."""
    alone = plant.truth(np.array([state]))
    return alone if turns is None else mixed(alone, plant.truth(np.array([turns[0]])), np.array([turns[1]]))


def _schedule(
    space: KnobSpace, state: int, turns: tuple[int, float] | None
) -> list[tuple[dict[str, Level], float]] | None:
    if turns is None:
        return None
    other, share = turns
    return [(dict(space.configuration(state)), share), (dict(space.configuration(other)), 1.0 - share)]


class Truth(NamedTuple):
    """A chosen state held against the noise-free truth of its plant.

    Attributes:
        best: The state of least true energy per step.
        best_energy_j: Its joules per step.
        max_state_energy_j: Those with every knob at its highest.
        excess: How far the chosen state is above the best (0.02 = 2 %).
        saving: What it saves against the maximum.
    """

    best: dict[str, Level]
    best_energy_j: float
    max_state_energy_j: float
    excess: float
    saving: float


def truth_of(plant: Plant, chosen: Mapping[str, Level]) -> Truth | None:
    """Hold a state against the truth; None where the plant has no such state or knows no power."""
    state, energy_j = plant.space.find(chosen), plant.step_s * plant.power_w
    if state is None or not np.isfinite(energy_j[plant.space.states]).all():
        return None
    best = int(plant.space.states[int(np.argmin(energy_j[plant.space.states]))])
    here_j, best_j, max_j = (float(energy_j[at]) for at in (state, best, plant.space.max_state))
    return Truth(dict(plant.space.configuration(best)), best_j, max_j, here_j / best_j - 1.0, 1.0 - here_j / max_j)


def _known(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _above_one(part: float, whole: float) -> float | None:
    """How much a part exceeds the whole, part / whole - 1; None where either is not known."""
    return _known(part / whole - 1.0) if whole else None


def _below_one(part: float, whole: float) -> float | None:
    """How much a part falls short of the whole, 1 - part / whole; None where either is not known."""
    return _known(1.0 - part / whole) if whole else None


def _least(numbers: NDArray[np.float64]) -> float:
    known = numbers[np.isfinite(numbers)]
    return float(known.min()) if len(known) else math.nan


def _regret(chosen: float, best: float) -> float | None:
    above, below = (chosen, best) if best > 0.0 else (best, chosen)
    return max(0.0, known) if below and (known := _known(above / below - 1.0)) is not None else None


def _short(machine: Machine, settled_s: float, best: int | None) -> float | None:
    """How much the rate from a moment on falls short of the best state's; `best` is its place among the present."""
    if best is None:
        return None
    step_s, done, seconds = machine.plant.step_s, 0.0, 0.0
    for from_s, to_s, state in machine.timeline():
        stretch_s = to_s - max(from_s, settled_s)
        if stretch_s > 0.0:
            done, seconds = done + stretch_s / float(step_s[state]), seconds + stretch_s
    return 1.0 - done / seconds * float(step_s[machine.plant.space.states[best]]) if seconds else None


def _above(machine: Machine, caps: Caps) -> tuple[float | None, float | None, float | None]:
    """Seconds above the cap in force (with 2 % of tolerance), most watts above it, share of energy above it."""
    above_s = over_w = over_j = all_j = 0.0
    for from_s, to_s, state in machine.timeline():
        watts = float(machine.plant_at(from_s).power_w[state])
        if not math.isfinite(watts):
            return None, None, None
        all_j += watts * (to_s - from_s)
        for seconds, cap_w in _capped(caps, from_s, to_s):
            over_w = max(over_w, watts - cap_w)
            over_j += max(0.0, watts - cap_w) * seconds
            above_s += seconds if watts > (1.0 + TOLERANCE) * cap_w else 0.0
    return above_s, over_w, over_j / all_j if all_j else 0.0


def _capped(caps: Caps, from_s: float, to_s: float) -> Iterator[tuple[float, float]]:
    """`(seconds, cap)` of each piece of a stretch of time in which a cap was in force."""
    ends = [at_s for at_s, _ in caps[1:]] + [math.inf]
    for (begin_s, cap_w), end_s in zip(caps, ends, strict=True) if caps else ():
        seconds = min(to_s, end_s) - max(from_s, begin_s)
        if cap_w is not None and seconds > 0.0:
            yield seconds, cap_w


def _errors(plant: Plant, fit: Fit | None, states: States | None = None) -> tuple[float | None, float | None]:
    """Mean absolute relative error of predicted rate and power over some states; None: over all."""
    if fit is None:
        return None, None
    states = plant.space.states if states is None else states
    truth, predicted = plant.truth(states), fit.predict(states)
    with np.errstate(all="ignore"):
        rate = _mean(np.abs(predicted.rate_hz / truth.rate_hz - 1.0))
        power = _mean(np.abs(predicted.power_w / truth.power_w - 1.0))
    return _known(rate), _known(power)


def _coverage(plant: Plant, fit: Fit | None) -> tuple[float | None, float | None]:
    """Over all states: how often the truth of rate and power is within 1.645 standard deviations of ln."""
    predicted = None if fit is None else fit.predict(plant.space.states)
    if predicted is None or predicted.covariance is None:
        return None, None
    truth, found = plant.truth(plant.space.states), list[float | None]()
    with np.errstate(all="ignore"):
        for at, ratio in enumerate((predicted.rate_hz / truth.rate_hz, predicted.power_w / truth.power_w)):
            off = np.abs(np.log(ratio)) / np.sqrt(predicted.covariance[:, at, at])
            found.append(_known(float((off[np.isfinite(off)] <= SURELY_Z).mean())) if np.isfinite(off).any() else None)
    return found[0], found[1]


def _mean(errors: NDArray[np.float64]) -> float:
    """Over the states that the model speaks of: `paper` says nothing where a knob it does not know is turned down."""
    spoken = errors[np.isfinite(errors)]
    return float(spoken.mean()) if len(spoken) else math.nan


def held_out_errors(machine: Machine, fit: Fit | None, *, count: int = 25) -> tuple[float | None, float | None]:
    """The paper's model error (figure 8): over states that the model was not shown, mean absolute relative.

    Args:
        machine: The truth of the run; states in force at any time are left out.
        fit: The model at the first commitment.
        count: How many of the others are asked for, drawn at random, the same ones for the same run; all of them where
            there are no more.

    Returns:
        Of rate and of power; None where nothing is known.
    """
    plant = machine.plant
    others = np.setdiff1d(plant.space.states, list(machine.steps_in))
    if fit is None or not len(others):
        return None, None
    rng = np.random.default_rng(len(others))
    return _errors(plant, fit, np.sort(rng.permutation(others)[:count]))


class Stretch(NamedTuple):
    """What became of a run while one cap was in force.

    Attributes:
        from_s: When the cap came into force, seconds from the start of the run.
        to_s: When it ended.
        cap_w: Watts; None: no cap.
        settled_s: Seconds from then until the state that the stretch spent most time in was first in force.
        above_s: Seconds with true power above 1.02 x the cap.
        rate_hz: True steps per second on average over the stretch.
        power_w: True watts on average.
        held_rate_hz: True steps per second of the state held longest.
        best_rate_hz: The most true steps per second that a state within the cap has; NaN where none keeps it.
    """

    from_s: float
    to_s: float
    cap_w: float | None
    settled_s: float
    above_s: float
    rate_hz: float
    power_w: float
    held_rate_hz: float
    best_rate_hz: float

    @property
    def short_of_best(self) -> float | None:
        """How much slower the state held longest is than the best one within the cap."""
        return _below_one(self.held_rate_hz, self.best_rate_hz)


def stretches(machine: Machine, caps: Caps) -> list[Stretch]:
    """The paper's figure 10 in numbers: one stretch for each cap that was in force while there was work."""
    plant, found = machine.plant, list[Stretch]()
    ends = [at_s for at_s, _ in caps[1:]] + [math.inf]
    for (from_s, cap_w), to_s in zip(caps, ends, strict=True) if caps else ():
        pieces = [
            (max(b, from_s), min(e, to_s), state) for b, e, state in machine.timeline() if b < to_s and e > from_s
        ]
        took_s = math.fsum(e - b for b, e, _ in pieces)
        if not took_s > 0.0:
            continue
        held: dict[int, float] = {}
        for b, e, state in pieces:
            held[state] = held.get(state, 0.0) + e - b
        longest = max(held, key=lambda state: held[state])
        kept = plant.space.states if cap_w is None else plant.space.states[plant.power_w[plant.space.states] <= cap_w]
        found.append(
            Stretch(
                from_s=pieces[0][0] - machine.start_s,
                to_s=pieces[-1][1] - machine.start_s,
                cap_w=cap_w,
                settled_s=next(b for b, _, state in pieces if state == longest) - pieces[0][0],
                above_s=math.fsum(
                    e - b for b, e, s in pieces if cap_w is not None and plant.power_w[s] > (1.0 + TOLERANCE) * cap_w
                ),
                rate_hz=math.fsum((e - b) / float(plant.step_s[s]) for b, e, s in pieces) / took_s,
                power_w=math.fsum((e - b) * float(plant.power_w[s]) for b, e, s in pieces) / took_s,
                held_rate_hz=1.0 / float(plant.step_s[longest]),
                best_rate_hz=float(1.0 / plant.step_s[kept].min()) if len(kept) else math.nan,
            )
        )
    return found


# Over many runs -------------------------------------------------------------------------------------------------------


class Pooled(NamedTuple):
    """A figure over grids x seeds: how many runs have it, its median, its 95th percentile (linear between ranks)."""

    runs: int
    median: float
    p95: float


def pooled(numbers: Iterable[float | None]) -> Pooled | None:
    """Pool a figure; runs that do not have it are left out, None where none has."""
    known = [number for number in numbers if number is not None]
    if not known:
        return None
    median, p95 = np.percentile(known, (50.0, 95.0))
    return Pooled(len(known), float(median), float(p95))


def captured(runs: Iterable[Figures]) -> float | None:
    """Share of the possible saving that the chosen states capture, energy per step.

    Sum of (max - chosen) / max over the sum of (max - best) / max, over all runs with a choice; None where there was
    nothing to save.
    """
    saved = possible = 0.0
    for run in runs:
        if run.chosen_energy_j is not None and run.possible_saving is not None and run.max_state_energy_j:
            saved += 1.0 - run.chosen_energy_j / run.max_state_energy_j
            possible += run.possible_saving
    return saved / possible if possible else None


def geometric_mean(ratios: Iterable[float]) -> float | None:
    """The mean of ratios to one baseline, as in the paper's figure 9; None where one is missing or not above 0."""
    known = list(ratios)
    if not known or not all(math.isfinite(ratio) and ratio > 0.0 for ratio in known):
        return None
    return math.exp(math.fsum(map(math.log, known)) / len(known))


def failed(run: Figures) -> bool:
    """Whether a run counts as failed: it chose nothing, or a state that breaks a constraint by more than 2 %."""
    return run.feasible is not True
