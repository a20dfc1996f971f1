"""What a manager thinks with and thinks out: models fitted to what was measured, the next stay, the best state.

Pure and without a state machine: `manager.py` decides when to think, this file what comes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ceml.domain.budget import cannot_hold, constraints_of, unjudged
from ceml.domain.contracts import Score
from ceml.domain.events import Decided, ModelFitted
from ceml.domain.memory import Memory, of_others, reachable
from ceml.domain.search import initial_state
from ceml.domain.spent import Spent
from ceml.domain.values import NAN, Choice, FitStatus, Knowledge, Prediction, Situation, Stay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ceml.domain.contracts import Constraint, Fit, Objective, ResponseModel, Sampler, Scored, Search
    from ceml.domain.knobs import Configuration, KnobSpace
    from ceml.domain.values import Limits, Observation, Remembered

CONFIRMING = (6.0, 2)  # steps and power samples of the window that says whether what is remembered still holds
SURELY = 0.95  # a search keeps constraints at this quantile: nothing measures the state before it is in force


@dataclass(frozen=True, kw_only=True)
class Mind:
    """What a manager thinks with: the plugins, and how idle windows are cut.

    Attributes:
        objective: What the user wants less of.
        model: How rate and power answer to knobs.
        sampler: What to measure next.
        search: Which state is best.
        knowledge: What is known of the machine, and of programs that ran on it.
        total_rails: Rails whose sum is the power of the whole board.
        power_sensors: Sensors that these rails come from; losing one means power is not known.
        lag_s: By how much samples trail the truth.
        unix_offset_s: What makes seconds since 1970 of our own; NaN where time is virtual.
        idle_beats: Beats in a window while idle, at least.
        idle_samples: Power samples in a window while idle, at least.
        idle_window_s: Seconds in a window while idle, at least.
        exploration_budget: Share of the energy that trials may take after the first commitment (purse.py); 1: all.
    """

    objective: Objective
    model: ResponseModel
    sampler: Sampler
    search: Search
    knowledge: Knowledge = field(default_factory=Knowledge)
    total_rails: tuple[str, ...] = ()
    power_sensors: frozenset[str] = frozenset()
    lag_s: float = 0.0
    unix_offset_s: float = NAN
    idle_beats: int = 5
    idle_samples: int = 10
    idle_window_s: float = 1.0
    exploration_budget: float = 1.0


class Judgement(NamedTuple):
    """A state chosen, what is expected of it, and why it was chosen."""

    choice: Choice
    scored: Scored
    score: Score
    why: str


class Reasoning:
    """What one application has taught so far, and what follows from it.

    Attributes:
        space: The states that are left; unreachable ones have gone.
        unreachable: Configurations that the machine refused.
        observations: What was measured in the present phase of the program.
        limits: What must hold, beside the objective's own constraints.
        spent: Time and energy since the application joined, and the last readings.
        total_work: Steps in all, where the application said so.
        work_done: Steps so far.
    """

    def __init__(self, app: str, space: KnobSpace, mind: Mind, limits: Limits) -> None:
        self.space = reachable(space, mind.knowledge)
        self.unreachable = set(mind.knowledge.unreachable)
        self.observations: list[Observation] = []
        self.limits = limits
        self.spent = Spent(mind.total_rails)
        self.total_work: float | None = None
        self.work_done = 0.0
        self._app = app
        self._mind = mind
        self._memory = Memory(app, mind.knowledge)
        self._of_machine = of_others(app, mind.knowledge)
        self._fit: Fit | None = None
        self._max_state = space.max_state  # of the whole space, also when it proves unreachable later

    def drop(self, configuration: Configuration, *, for_good: bool = True) -> None:
        """A state proved unreachable; `for_good`: other runs should know."""
        if for_good:
            self.unreachable.add(configuration)
        state = self.space.find(configuration)
        if state is not None:
            self.space = self.space.without([state])

    def recognise(self, observation: Observation) -> None:
        """The first window of a phase, before it is kept, tells whether the phase is one that is known."""
        if not self.observations:
            self._memory.recognise(self.space, self._mind.model, observation)

    def forget(self) -> None:
        """The program changed: what was measured is of another phase."""
        self._memory.left(self.space, self.observations)
        self.observations, self._fit = [], None

    def remembered(self) -> tuple[Remembered, ...]:
        """What the next run of this program should know, the present phase first."""
        return self._memory.remembered(self.space, self.observations)

    @property
    def known(self) -> Sequence[Observation]:
        """What was measured in this phase, now and in earlier runs, or is hoped to hold until the first window."""
        if not self.observations and self._memory.hoped:
            return self._memory.hoped
        return (*self._memory.recalled, *self.observations)

    @property
    def remaining_work(self) -> float | None:
        """Steps still to do, where the application said how many there are."""
        return None if self.total_work is None else max(self.total_work - self.work_done, 0.0)

    @property
    def constraints(self) -> Sequence[Constraint]:
        """What must hold: the objective's own constraints and the limits in force."""
        return (*self._mind.objective.constraints, *constraints_of(self.limits))

    def situation(self, at_s: float) -> Situation:
        """Where the run stands."""
        mind, spent = self._mind, self.spent
        return Situation(
            at_s=at_s,
            unix_s=at_s + mind.unix_offset_s,
            remaining_work=self.remaining_work,
            spent_s=spent.seconds(at_s),
            spent_j=spent.energy_j,
            rate_at_max_hz=float(self._at_max().rate_hz[0]),
            power_w=spent.power_w,
            temperature_c=spent.temperature_c,
            rail_shares=spent.rail_shares(self.observations),
        )

    def _at_max(self) -> Prediction:
        return self.fit.predict(np.array([self._max_state]))

    @property
    def fit(self) -> Fit:
        """The model as last fitted; fitted now if it was not yet."""
        return self._fit or self._refit()

    def _refit(self) -> Fit:
        self._fit = self._mind.model.fit(self.space, self.known, prior=self._of_machine, warm=self._fit)
        return self._fit

    def _score(self, at_s: float) -> Score:
        return Score(self.fit, self._mind.objective, self.constraints, self.situation(at_s))

    def next_stay(self, at_s: float, *, frugal: bool = False) -> Stay | None:
        """Fit anew and ask the sampler; None: it hands over to the search.

        `frugal` asks as if nothing were left to gain, so that no trial pays: what is best of what is known?
        """
        fit = self._refit()
        if not self.observations and self._memory.hoped:
            best = self._best_measured(self._score(at_s))
            if best is not None:
                steps, samples = CONFIRMING
                why = "best of an earlier run, to be confirmed"
                return Stay(state=best[0].state, steps=steps, power_samples=samples, why=why)
        left = 0.0 if frugal else self.remaining_work
        return self._mind.sampler.next(self.space, fit, self._score(at_s), self.known, left, self.total_work)

    def breaks(self, at_s: float, state: int) -> bool:
        """Whether a state is expected to break a constraint now."""
        return bool(self._score(at_s)(np.array([state])).violation[0] > 0.0) if self.space.present[state] else True

    def best(self, at_s: float, why: str) -> Judgement | None:
        """Fit anew and search. Models that are no good choose nothing: then the best *measured* state is it.

        None where nothing is known at all: then the machine is best left as it is.
        """
        fit, score = self._refit(), self._score(at_s)
        if fit.status is FitStatus.GOOD:
            measured = [s for s in (self.space.find(o.configuration) for o in self.known) if s is not None]
            for searched in (replace(score, surely=SURELY), score):  # where nothing is sure, what is expected must do
                start = initial_state(self.space, searched, measured)
                choice = self._mind.search.best(self.space, searched, start)
                if choice.feasible:
                    break
            return Judgement(choice, score(np.array([choice.state])), score, why)
        best = self._best_measured(score)
        if best is None:
            return None
        return Judgement(*best, score, f"{why}; {fit.sentence}, so the best measured state")

    def of(self, at_s: float, stay: Stay) -> Judgement:
        """What is expected where the sampler commits to stay."""
        score = self._score(at_s)
        scored = score(np.array([stay.state]))
        cost, violation = float(scored.cost[0]), float(scored.violation[0])
        choice = Choice(state=stay.state, cost=cost, violation=violation, evaluated=len(self.space))
        return Judgement(choice, scored, score, stay.why)

    def _best_measured(self, score: Score) -> tuple[Choice, Scored] | None:
        best: tuple[Choice, Scored] | None = None
        for observation in self.known:
            state = self.space.find(observation.configuration)
            scored = score.of(Prediction.measured(observation))
            cost, violation = float(scored.cost[0]), float(scored.violation[0])
            if state is None or cost != cost or cost == float("inf"):
                continue
            if best is None or (violation, cost) < (best[0].violation, best[0].cost):
                best = Choice(state=state, cost=cost, violation=violation, evaluated=len(self.known)), scored
        return best

    def fitted(self, at_s: float) -> ModelFitted:
        """The news of the fit."""
        fit = self.fit
        return ModelFitted(
            at_s=at_s,
            app=self._app,
            status=fit.status,
            sentence=fit.sentence,
            observations=len(self.known),
            parameters=fit.parameters(),
            fit=fit,
        )

    def predicted(self, configuration: Configuration) -> tuple[float, float]:
        """Rate and power expected in a configuration; NaN where no model says."""
        state = self.space.find(configuration)
        if self._fit is None or state is None:
            return NAN, NAN
        predicted = self._fit.predict(np.array([state]))
        return float(predicted.rate_hz[0]), float(predicted.power_w[0])

    def decided(self, at_s: float, judgement: Judgement) -> Decided:
        """The news of a choice; where nothing is feasible it names what cannot hold."""
        choice, scored, score, why = judgement
        if not choice.feasible:
            everywhere = self.fit.predict(self.space.states)
            what = cannot_hold(self.constraints, everywhere, scored.predicted, score.now) or "the objective cannot hold"
            why = f"{why}; nothing is feasible: {what}, least violation {choice.violation:.1%}"
        if unknown := unjudged(self.constraints, score.now):
            why = f"{why}; {unknown}"
        at_max = self._at_max()
        return Decided(
            at_s=at_s,
            app=self._app,
            configuration=self.space.configuration(choice.state),
            rate_hz=float(scored.predicted.rate_hz[0]),
            power_w=float(scored.predicted.power_w[0]),
            cost=choice.cost,
            feasible=choice.feasible,
            violation=choice.violation,
            evaluated=choice.evaluated,
            why=why,
            rate_at_max_hz=float(at_max.rate_hz[0]),
            power_at_max_w=float(at_max.power_w[0]),
        )
