"""RuntimeManager: one application's mind. Events in, intents and events out; a plain state machine (C14 to C22).

profiling    stays where the sampler wants measurements, until it hands over            (C15, C16)
exploration  fits the models and searches; instantaneous, so it is no phase of its own  (C17 to C20)
idle         watches, window by window; a phase change profiles again, a budget change only searches  (C21, C22)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.budget import PowerCap
from ceml.domain.contracts import Score
from ceml.domain.events import (
    AppJoined,
    AppLeft,
    BudgetChanged,
    ConfigurationApplied,
    ConfigurationRefused,
    ConfigurationWithheld,
    Decided,
    Event,
    Heartbeat,
    Intent,
    ModelFitted,
    PhaseChanged,
    Release,
    Sampled,
    SensorLost,
    SensorRecovered,
    Try,
    Use,
    WindowClosed,
)
from ceml.domain.search import initial_state
from ceml.domain.values import NAN, Choice, FitStatus, Observation, Prediction, Situation, Stay
from ceml.domain.windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ceml.domain.contracts import Constraint, Fit, Objective, ResponseModel, Sampler, Scored, Search
    from ceml.domain.knobs import Configuration, KnobSpace
    from ceml.domain.values import Knowledge

Answer = tuple[Intent | Event, ...]


class Phase(str, Enum):
    """What the manager is doing."""

    PROFILING = "profiling"
    IDLE = "idle"
    RELEASED = "released"  # its application is gone or silent; what was learned is kept


@dataclass(frozen=True, kw_only=True)
class Mind:
    """What a manager thinks with: the plugins, and how idle windows are cut.

    Attributes:
        objective: What the user wants less of.
        model: How rate and power answer to knobs.
        sampler: What to measure next.
        search: Which state is best.
        knowledge: What is known of the machine beforehand.
        total_rails: Rails whose sum is the power of the whole board.
        power_sensors: Sensors that these rails come from; losing one means power is not known.
        lag_s: By how much samples trail the truth.
        idle_beats: Beats in a window while idle, at least.
        idle_samples: Power samples in a window while idle, at least.
        idle_window_s: Seconds in a window while idle, at least.
    """

    objective: Objective
    model: ResponseModel
    sampler: Sampler
    search: Search
    knowledge: Knowledge | None = None
    total_rails: tuple[str, ...] = ()
    power_sensors: frozenset[str] = frozenset()
    lag_s: float = 0.0
    idle_beats: int = 5
    idle_samples: int = 10
    idle_window_s: float = 1.0


class RuntimeManager:
    """Decides for one application; made when it joins, kept while it is away."""

    def __init__(self, joined: AppJoined, space: KnobSpace, mind: Mind, *, power_cap_w: float | None = None) -> None:
        self.app = joined.app
        self.source = joined.source
        self.phase = Phase.RELEASED
        self.space = space
        self.fit: Fit | None = None
        self.observations: list[Observation] = []
        self.decided: Decided | None = None
        self._mind = mind
        self._total_work = joined.total_work
        self._work_done = 0.0
        self._power_cap_w = power_cap_w
        self._lost: set[str] = set()
        self._stay: Stay | None = None
        self._wanted: Configuration | None = None
        self._window: Window | None = None

    def on(self, event: Event) -> Answer:
        """Take in one event; returns what to do (intents) and what to announce (events)."""
        match event:
            case Heartbeat():
                self._work_done += event.work
                if self._window is None:
                    return ()
                self._window.beat(event)
                return self._close_if_ready(event.at_s)
            case Sampled():
                if self._window is None:
                    return ()
                self._window.sample(event)
                return self._close_if_ready(event.at_s)
            case ConfigurationApplied():
                return self._applied(event)
            case ConfigurationRefused() if event.requested == self._wanted:
                return self._unreachable(event.at_s, event.requested)
            case ConfigurationWithheld() if event.requested == self._wanted:
                return self._withheld(event)
            case AppJoined():
                return self._joined(event)
            case AppLeft():
                self.phase, self._window, self._wanted = Phase.RELEASED, None, None
                return (Release(why=f"{self.app}: {event.reason}"),)
            case BudgetChanged():
                self._power_cap_w = event.power_cap_w
                return self._explore(event.at_s, "budget changed") if self.phase is Phase.IDLE else ()
            case PhaseChanged() if self.phase is Phase.IDLE:
                self.observations, self.fit, self.decided = [], None, None
                return self._profile(event.at_s)
            case SensorLost():
                self._lost.add(event.sensor)
            case SensorRecovered():
                self._lost.discard(event.sensor)
            case _:
                pass
        return ()

    # Profiling ----------------------------------------------------------------------------------------------------

    def _joined(self, event: AppJoined) -> Answer:
        if self.phase is not Phase.RELEASED:
            return ()
        if self._total_work is None:
            self._total_work = event.total_work
        return self._explore(event.at_s, "application is back") if self.decided else self._profile(event.at_s)

    def _profile(self, at_s: float) -> Answer:
        """Ask the sampler for the next stay; where it has none, explore."""
        self.phase, self._window = Phase.PROFILING, None
        if not len(self.space):
            return ()
        stay = self._mind.sampler.next(
            self.space, self._refit(), self._score(at_s), self.observations, self._remaining_work, self._total_work
        )
        if stay is None:
            return self._explore(at_s, "profiled")
        self._stay = stay
        self._wanted = self.space.configuration(stay.state)
        return (Try(configuration=self._wanted, why=stay.why),)

    def _applied(self, event: ConfigurationApplied) -> Answer:
        if event.requested != self._wanted or self.phase is Phase.RELEASED:
            return ()
        if event.effective != event.requested:  # the machine cannot reach what was asked: believe what it says
            self._drop(event.requested)
            if self.space.find(event.effective) is None:
                return self._next_after_refusal(event.at_s)
        self._open(event.effective, event.in_force_s)
        return ()

    def _unreachable(self, at_s: float, requested: Configuration) -> Answer:
        self._drop(requested)
        return self._next_after_refusal(at_s)

    def _next_after_refusal(self, at_s: float) -> Answer:
        again = self._explore if self.phase is Phase.IDLE else None
        return again(at_s, "state unreachable") if again and len(self.space) else self._profile(at_s)

    def _withheld(self, event: ConfigurationWithheld) -> Answer:
        """Dry run: what was not applied was not measured; go through the plan all the same."""
        if self.phase is not Phase.PROFILING:
            return ()
        at_s = event.at_s
        unmeasured = Observation(
            configuration=event.requested, start_s=at_s, end_s=at_s, beats=0, steps=0.0, rate_hz=NAN
        )
        self.observations.append(unmeasured)
        return self._profile(at_s)

    def _drop(self, configuration: Configuration) -> None:
        state = self.space.find(configuration)
        if state is not None:
            self.space = self.space.without([state])

    # Windows --------------------------------------------------------------------------------------------------------

    def _open(self, configuration: Configuration, opens_s: float, *, started_s: float | None = None) -> None:
        mind = self._mind
        self._window = Window(
            configuration, opens_s=opens_s, lag_s=mind.lag_s, total_rails=mind.total_rails, started_s=started_s
        )

    def _close_if_ready(self, at_s: float) -> Answer:
        window = self._window
        if window is None or window.beats < 1:
            return ()
        if self.phase is Phase.PROFILING and self._stay is not None:
            stay = self._stay
            if window.beats < stay.beats or window.steps < stay.steps or self._short_of_power(stay.power_samples):
                return ()
            observation = window.observe()
            self.observations.append(observation)
            return (self._closed(at_s, observation), *self._profile(at_s))
        mind = self._mind
        if window.beats < mind.idle_beats or self._short_of_power(mind.idle_samples):
            return ()
        observation = window.observe()
        if observation.duration_s < mind.idle_window_s:
            return ()
        self._open(window.configuration, window.end_s, started_s=window.end_s)
        return (self._closed(at_s, observation),)

    def _short_of_power(self, samples: int) -> bool:
        """Whether more power samples are to be waited for; without a working sensor there is nothing to wait for."""
        if self._window is None or not self._mind.power_sensors or self._mind.power_sensors & self._lost:
            return False
        return self._window.power_samples < samples

    def _closed(self, at_s: float, observation: Observation) -> WindowClosed:
        rate_hz = power_w = NAN
        state = self.space.find(observation.configuration)
        if self.fit is not None and self.phase is Phase.IDLE and state is not None:
            predicted = self.fit.predict(np.array([state]))
            rate_hz, power_w = float(predicted.rate_hz[0]), float(predicted.power_w[0])
        return WindowClosed(
            at_s=at_s,
            app=self.app,
            source=self.source,
            observation=observation,
            phase=self.phase.value,
            predicted_rate_hz=rate_hz,
            predicted_power_w=power_w,
        )

    # Exploration ----------------------------------------------------------------------------------------------------

    @property
    def _remaining_work(self) -> float | None:
        return None if self._total_work is None else max(self._total_work - self._work_done, 0.0)

    @property
    def _constraints(self) -> Sequence[Constraint]:
        budget = () if self._power_cap_w is None else (PowerCap(self._power_cap_w),)
        return (*self._mind.objective.constraints, *budget)

    def _refit(self) -> Fit:
        mind = self._mind
        self.fit = mind.model.fit(self.space, self.observations, prior=mind.knowledge, warm=self.fit)
        return self.fit

    def _score(self, at_s: float) -> Score:
        now = Situation(at_s=at_s, remaining_work=self._remaining_work)
        return Score(self.fit or self._refit(), self._mind.objective, self._constraints, now)

    def _explore(self, at_s: float, why: str) -> Answer:
        """Fit, search, decide. Models that are no good choose nothing: then the best *measured* state is used."""
        if not len(self.space):
            return ()
        fit, score = self._refit(), self._score(at_s)
        fitted = ModelFitted(
            at_s=at_s,
            app=self.app,
            status=fit.status,
            sentence=fit.sentence,
            observations=len(self.observations),
            parameters=fit.parameters(),
            fit=fit,
        )
        measured = [s for s in (self.space.find(o.configuration) for o in self.observations) if s is not None]
        if fit.status is FitStatus.GOOD:
            choice = self._mind.search.best(self.space, score, initial_state(self.space, score, measured))
            scored = score(np.array([choice.state]))
        else:
            best = self._best_measured(score)
            if best is None:  # nothing known at all: leave the machine as it is
                return (fitted,)
            choice, scored, why = *best, f"{why}; {fit.sentence}, so the best measured state"
        decided = self._decision(at_s, choice, scored, score, why)
        self.phase, self.decided, self._window, self._wanted = Phase.IDLE, decided, None, decided.configuration
        return fitted, decided, Use(configuration=decided.configuration, why=decided.why)

    def _best_measured(self, score: Score) -> tuple[Choice, Scored] | None:
        best: tuple[Choice, Scored] | None = None
        for observation in self.observations:
            state = self.space.find(observation.configuration)
            scored = score.of(Prediction.measured(observation))
            cost, violation = float(scored.cost[0]), float(scored.violation[0])
            if state is None or cost != cost or cost == float("inf"):
                continue
            if best is None or (violation, cost) < (best[0].violation, best[0].cost):
                best = Choice(state=state, cost=cost, violation=violation, evaluated=len(self.observations)), scored
        return best

    def _decision(self, at_s: float, choice: Choice, scored: Scored, score: Score, why: str) -> Decided:
        if not choice.feasible:
            worst = max(
                self._constraints,
                key=lambda constraint: float(constraint.violation(scored.predicted, score.now)[0]),
                default=None,
            )
            name = worst.name if worst else "the objective"
            why = f"{why}; nothing is feasible: {name} cannot hold, least violation {choice.violation:.1%}"
        return Decided(
            at_s=at_s,
            app=self.app,
            configuration=self.space.configuration(choice.state),
            rate_hz=float(scored.predicted.rate_hz[0]),
            power_w=float(scored.predicted.power_w[0]),
            cost=choice.cost,
            feasible=choice.feasible,
            violation=choice.violation,
            evaluated=choice.evaluated,
            why=why,
        )
