"""RuntimeManager: one application's mind. Events in, intents and events out; a plain state machine (C14 to C22).

- profiling: stays where the sampler wants measurements, until it commits or hands over (C15, C16);
- exploration: fits the models and searches; instantaneous, so it is no phase of its own (C17 to C20);
- idle: watches, window by window; a phase change profiles again, a budget change only searches (C21, C22). Where the
  sampler committed for a while, it is asked again with what was learnt meanwhile; what it then wants to try must fit
  into the exploration budget, else the best of what is known stays in force.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

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
    PhaseChanged,
    Release,
    Sampled,
    SensorLost,
    SensorRecovered,
    Try,
    Use,
    WindowClosed,
)
from ceml.domain.purse import Purse
from ceml.domain.reasoning import Judgement, Mind, Reasoning
from ceml.domain.stays import Lessons, Looks, is_sure
from ceml.domain.values import NAN, NO_LIMITS, Observation, Stay
from ceml.domain.windows import Window

if TYPE_CHECKING:
    from ceml.domain.knobs import Configuration, KnobSpace
    from ceml.domain.values import Limits

Answer = tuple[Intent | Event, ...]


class Phase(str, Enum):
    """What the manager is doing."""

    PROFILING = "profiling"
    IDLE = "idle"
    RELEASED = "released"  # its application is gone or silent; what was learned is kept


class RuntimeManager:
    """Decides for one application; made when it joins, kept while it is away."""

    def __init__(self, joined: AppJoined, space: KnobSpace, mind: Mind, limits: Limits = NO_LIMITS) -> None:
        self.app = joined.app
        self.source = joined.source
        self.phase = Phase.RELEASED
        self.decided: Decided | None = None
        self.reasoning = Reasoning(joined.app, space, mind, limits)
        self._mind = mind
        self._lost: set[str] = set()
        self._stay: Stay | None = None
        self._wanted: Configuration | None = None
        self._window: Window | None = None
        self._whole: Window | None = None  # all of a commitment so far, over its idle windows
        self._looks = Looks()
        self._lessons = Lessons()
        self._purse = Purse(mind.exploration_budget, mind.total_rails)
        self._idle: Observation | None = None
        self._rest_steps = 0.0  # how long the latest commitment is

    def on(self, event: Event) -> Answer:
        """Take in one event; returns what to do (intents) and what to announce (events)."""
        match event:
            case Heartbeat():
                self.reasoning.work_done += event.work
                self._purse.passed(event.at_s, trying=self.phase is Phase.PROFILING)
                if self._window is not None:
                    self._window.beat(event)
                return self._close_if_ready(event.at_s)
            case Sampled():
                self.reasoning.spent.sample(event)
                self._purse.sampled(event, trying=self.phase is Phase.PROFILING)
                if self._window is not None:
                    self._window.sample(event)
                return self._close_if_ready(event.at_s)
            case ConfigurationApplied():
                return self._applied(event)
            case ConfigurationRefused() if event.requested == self._wanted:
                return self._unreachable(event)
            case ConfigurationWithheld() if event.requested == self._wanted:
                return self._withheld(event)
            case AppJoined():
                return self._joined(event)
            case AppLeft():
                self.phase, self._window, self._whole, self._wanted = Phase.RELEASED, None, None, None
                self._purse.pause()
                self.reasoning.spent.pause()
                return (Release(why=f"{self.app}: {event.reason}"),)
            case BudgetChanged():
                self.reasoning.limits = event.limits
                return self._budget_changed(event.at_s)
            case PhaseChanged() if self.phase is Phase.IDLE:
                self.reasoning.forget()
                self._lessons.forget()
                self._purse.close()
                self.decided = None
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
        self.reasoning.spent.begin(event.at_s)
        if self.reasoning.total_work is None:
            self.reasoning.total_work = event.total_work
        return self._explore(event.at_s, "application is back") if self.decided else self._profile(event.at_s)

    def _profile(self, at_s: float) -> Answer:
        """Ask the sampler for the next stay: a trial or a commitment; where it has none, explore."""
        if not len(self.reasoning.space):
            self.phase, self._window = Phase.PROFILING, None
            return ()
        stay = self.reasoning.next_stay(at_s)
        if stay is None:
            return self._explore(at_s, "profiled")
        if stay.commits:
            return self._commit(at_s, stay)
        stay = self._afforded(stay)
        if stay is None:
            return self._abstain(at_s)
        self.phase, self._window, self._whole = Phase.PROFILING, None, None
        self._stay, self._wanted = stay, self.reasoning.space.configuration(stay.state)
        return (Try(configuration=self._wanted, why=stay.why),)

    def _applied(self, event: ConfigurationApplied) -> Answer:
        if event.requested != self._wanted or self.phase is Phase.RELEASED:
            return ()
        if event.effective != event.requested:  # the machine cannot reach what was asked: believe what it says
            self.reasoning.drop(event.requested)
            if self.reasoning.space.find(event.effective) is None:
                return self._next_after_refusal(event.at_s)
        self._open(event.effective, event.in_force_s)
        self._whole = None
        return ()

    def _unreachable(self, event: ConfigurationRefused) -> Answer:
        self.reasoning.drop(event.requested, for_good=not event.passing)
        return self._next_after_refusal(event.at_s)

    def _next_after_refusal(self, at_s: float) -> Answer:
        again = self._explore if self.phase is Phase.IDLE else None
        return again(at_s, "state unreachable") if again and len(self.reasoning.space) else self._profile(at_s)

    def _withheld(self, event: ConfigurationWithheld) -> Answer:
        """Dry run: go through the plan as far as it does not depend on measuring, then watch what is in force."""
        if self.phase is not Phase.PROFILING:
            return ()
        at_s, planned, measured = event.at_s, event.requested, self.reasoning.observations
        if not any(seen.configuration == planned for seen in measured):
            measured.append(
                Observation(configuration=planned, start_s=at_s, end_s=at_s, beats=0, steps=0.0, rate_hz=NAN)
            )
            stay = self.reasoning.next_stay(at_s)
            if stay is not None and not stay.commits:
                self._wanted = self.reasoning.space.configuration(stay.state)
                return (Try(configuration=self._wanted, why=stay.why),)
        self.phase, self._stay = Phase.IDLE, None
        self._open(event.effective, at_s)
        return ()

    # Windows --------------------------------------------------------------------------------------------------------

    def _open(self, configuration: Configuration, opens_s: float, *, started_s: float | None = None) -> None:
        mind = self._mind
        self._looks = Looks()
        self._window = Window(
            configuration, opens_s=opens_s, lag_s=mind.lag_s, total_rails=mind.total_rails, started_s=started_s
        )

    @property
    def _powered(self) -> bool:
        """Whether power samples can be waited for; without a working sensor there is nothing to wait for."""
        return bool(self._mind.power_sensors) and not self._mind.power_sensors & self._lost

    def _close_if_ready(self, at_s: float) -> Answer:
        window, stay = self._window, self._stay
        if self.phase is Phase.PROFILING and stay is not None:
            return self._close_trial(at_s, window, stay)
        return () if window is None or window.beats < self._mind.idle_beats else self._close_idle(at_s, window)

    def _close_trial(self, at_s: float, window: Window | None, stay: Stay) -> Answer:
        over = self._purse.exhausted
        late = window is not None and at_s - window.opens_s >= stay.longest_s
        if not over and not late and (window is None or not self._looks.due(window, stay)):
            return ()
        seen = self._lessons.read(window) if window is not None else None
        counts = seen is not None and seen.beats > 0
        if not over and not (seen is not None and counts and (late or is_sure(seen, stay, powered=self._powered))):
            return ()
        closed: Answer = ()
        if window is not None and counts:
            observation = self._lessons.close(window)
            self.reasoning.recognise(observation)
            closed = (self._closed(at_s, observation),)
            self._lessons.keep(window, self.reasoning.observations)
        return (*closed, *(self._abstain(at_s) if over else self._profile(at_s)))

    def _close_idle(self, at_s: float, window: Window) -> Answer:
        mind = self._mind
        if at_s - window.opens_s < mind.idle_window_s or not self._looks.due(window, None):
            return ()
        seen = self._lessons.read(window)
        short_of_power = self._powered and seen.power_samples < mind.idle_samples
        if seen.beats < mind.idle_beats or short_of_power or seen.counted_s < mind.idle_window_s:
            return ()
        self._idle = observation = self._lessons.close(window)
        self._open(window.configuration, window.end_s, started_s=window.end_s)
        closed, stay = self._closed(at_s, observation), self._stay
        if stay is None:
            return (closed,)
        if self._whole is None:
            self._whole = window
        else:
            self._whole.extend(window)
        if self._whole.steps < stay.steps:
            return (closed,)
        self._lessons.keep(self._whole, self.reasoning.observations)
        self._whole = None
        return (closed, *self._profile(at_s))

    def _closed(self, at_s: float, observation: Observation) -> WindowClosed:
        rate_hz, power_w = NAN, NAN
        if self.phase is Phase.IDLE:
            rate_hz, power_w = self.reasoning.predicted(observation.configuration)
        return WindowClosed(
            at_s=at_s,
            app=self.app,
            source=self.source,
            observation=observation,
            phase=self.phase.value,
            predicted_rate_hz=rate_hz,
            predicted_power_w=power_w,
        )

    # The exploration budget ---------------------------------------------------------------------------------------

    def _afforded(self, stay: Stay) -> Stay | None:
        """A trial as long as may be spent on it, None if that is too short; the first profiling is not bounded."""
        if not self._purse.opened or self._idle is None:
            return None if self._purse.opened else stay
        there = self.reasoning.predicted(self.reasoning.space.configuration(stay.state))
        left = self.reasoning.remaining_work
        return self._purse.afforded(stay, self._idle, there, left or 0.0, sampled=self._powered)

    def _abstain(self, at_s: float) -> Answer:
        """No trial now: the best of what is known, for as long as the commitment before."""
        stay = self.reasoning.next_stay(at_s, frugal=True)
        if stay is None or not stay.commits:
            state = self.reasoning.space.find(self.decided.configuration) if self.decided else None
            if state is None:
                return self._explore(at_s, "no trial fits into the exploration budget")
            stay = Stay(state=state, commits=True, why="no trial fits into the exploration budget")
        return self._commit(at_s, replace(stay, steps=max(stay.steps, self._rest_steps)))

    # Deciding -------------------------------------------------------------------------------------------------------

    def _explore(self, at_s: float, why: str) -> Answer:
        """Search the models for the best state and use it (C17 to C20)."""
        if not len(self.reasoning.space):
            return ()
        judgement, stay = self.reasoning.best(at_s, why), self._stay
        if judgement is None:  # nothing known at all: leave the machine as it is
            self.phase = Phase.IDLE
            return (self.reasoning.fitted(at_s),)
        self._stay = replace(stay, state=judgement.choice.state) if stay is not None and stay.commits else None
        return self._decide(at_s, judgement)

    def _budget_changed(self, at_s: float) -> Answer:
        """Models stay valid: only the search runs (C22). A trial that is not allowed any more is broken off."""
        if self.phase is Phase.IDLE:
            return self._explore(at_s, "budget changed")
        trial = self._stay if self.phase is Phase.PROFILING else None
        return self._profile(at_s) if trial is not None and self.reasoning.breaks(at_s, trial.state) else ()

    def _commit(self, at_s: float, stay: Stay) -> Answer:
        """Stay where the sampler believes the best state is; news only where the state is another than before."""
        configuration = self.reasoning.space.configuration(stay.state)
        going_on = self.phase is Phase.IDLE and configuration == self._wanted and self._window is not None
        self._stay, self._rest_steps = stay, stay.steps
        return () if going_on else self._decide(at_s, self.reasoning.of(at_s, stay))

    def _decide(self, at_s: float, judgement: Judgement) -> Answer:
        decided = self.reasoning.decided(at_s, judgement)
        self.phase, self.decided, self._wanted = Phase.IDLE, decided, decided.configuration
        self._window = self._whole = None
        self._purse.open()
        return self.reasoning.fitted(at_s), decided, Use(configuration=decided.configuration, why=decided.why)
