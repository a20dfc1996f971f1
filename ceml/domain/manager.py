"""RuntimeManager: one application's mind. Events in, intents and events out; a plain state machine (C14 to C22).

- profiling: stays where the sampler wants measurements, until it commits or hands over (C15, C16);
- exploration: fits the models and searches; instantaneous, so it is no phase of its own (C17 to C20);
- idle: watches, window by window; a phase change profiles again, a change of budget or objective only searches (C21,
  C22). Where the sampler committed for a while, it is asked again with what was learnt meanwhile; what it then wants
  to try must fit into the exploration budget, else the best of what is known stays in force;
- paused: somebody wants the machine left alone; beats and energy count, nothing is turned;
- powerless: the objective needs power, and none was ever measured nor can be; nothing is turned until it can.

Above all of them stands the guard (guard.py): what breaks a cap is left at once for the best state *measured* below it,
before any model is asked. Not level by level: each level would cost two more samples above the cap.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, cast

from ceml.domain.belief import FEW
from ceml.domain.cooling import Cooling
from ceml.domain.events import (
    TURN,
    AppJoined,
    AppLeft,
    BudgetChanged,
    ConfigurationApplied,
    ConfigurationRefused,
    ConfigurationWithheld,
    ControlPaused,
    ControlResumed,
    Decided,
    Event,
    GuardStepped,
    Heartbeat,
    Intent,
    KnobOverwritten,
    LevelsAllowed,
    ObjectiveChanged,
    PhaseChanged,
    Release,
    RhythmFound,
    Sampled,
    SensorLost,
    SensorRecovered,
    Throttled,
    Try,
    Use,
    WindowClosed,
)
from ceml.domain.guard import BOARD, HEAT, STEP_TIME, Alarm, PowerGuard, TargetGuard
from ceml.domain.measuring import Measuring
from ceml.domain.purse import Purse
from ceml.domain.reach import Reach
from ceml.domain.reasoning import Judgement, Reasoning
from ceml.domain.restless import Restless
from ceml.domain.stays import may_have_stalled
from ceml.domain.turns import Turns
from ceml.domain.unpowered import WHY as UNPOWERED
from ceml.domain.unpowered import unpowered
from ceml.domain.values import NAN, NO_LIMITS, Observation, Stay

if TYPE_CHECKING:
    from ceml.domain.contracts import Objective
    from ceml.domain.guard import Bound
    from ceml.domain.knobs import Configuration, KnobSpace
    from ceml.domain.mind import Mind
    from ceml.domain.values import Limits
    from ceml.domain.windows import Window

CHANGED = 1.1  # times as much power as before in one configuration: that is another program
SOON_STEPS = 20.0  # after a change of wishes: then the sampler is asked what else may be worth a trial now
HOLD_STEPS = 5.0  # of the first commitment to where the guard stepped; doubled each time, 64 times at most

Answer = tuple[Intent | Event, ...]


class Phase(str, Enum):
    """What the manager is doing."""

    PROFILING = "profiling"
    IDLE = "idle"
    PAUSED = "paused"  # somebody wants the machine left alone
    POWERLESS = "powerless"  # the objective needs power, and no sensor measures it
    RELEASED = "released"  # its application is gone or silent; what was learned is kept


class Verdict(NamedTuple):
    """What is to be learnt from a state that the guard left, unless somebody else had turned a knob meanwhile.

    Attributes:
        window: What it showed.
        alarm: Why it was left.
        times: How many times as much as before it drew.
        before_w: What that was.
        phase: What was being done in it.
        stay: For how long.
        lowest: Whether there is nowhere to go: it is the lowest state.
    """

    window: Window
    alarm: Alarm
    times: float
    before_w: float
    phase: Phase
    stay: Stay | None
    lowest: bool


class RuntimeManager:
    """Decides for one application; made when it joins, kept while it is away."""

    def __init__(self, joined: AppJoined, space: KnobSpace, mind: Mind, limits: Limits = NO_LIMITS) -> None:
        self.app = joined.app
        self.source = joined.source
        self.phase = Phase.RELEASED
        self.decided: Decided | None = None
        self.reasoning = Reasoning(joined.app, space, mind, limits)
        self._paused = False
        self._stay: Stay | None = None
        self._turns: Turns | None = None
        self._round: dict[Configuration, Observation] = {}  # what each state showed in its latest turn
        self._wanted: Configuration | None = None
        self._measuring = Measuring(mind)
        self._reach = Reach()
        self._restless = Restless()
        self._cooling = Cooling()
        self._purse = Purse(mind.exploration_budget, mind.total_rails)
        self._guard = PowerGuard(mind.total_rails, mind.lag_s)
        self._guard.limit(self._caps)
        self._pace = TargetGuard()
        self._changed: PhaseChanged | None = None  # our own announcement, which comes back to us
        self._stepped = 0  # steps of the guard so far
        self._refuge: Configuration | None = None  # where its latest step led, until a window there has closed
        self._verdict: Verdict | None = None  # on the state that the guard left, until the machine was looked at
        self._unhelped: Decided | None = None  # made because a limit on the run would not last, and changed nothing
        self._rest_steps = 0.0  # how long the latest commitment is
        self._said_undecided = False  # since something was decided

    def on(self, event: Event) -> Answer:
        """Take in one event; returns what to do (intents) and what to announce (events)."""
        if self._verdict is not None and not isinstance(event, Heartbeat | Sampled | KnobOverwritten):
            return *self._judge(event.at_s, self._verdict), *self.on(event)
        match event:
            case Heartbeat():
                if rested := self._restless.rested(event.at_s):
                    return *self._limit(event.at_s, rested), *self.on(event)
                self.reasoning.work_done += event.work
                self._purse.passed(event.at_s, trying=self.phase is Phase.PROFILING)
                if self._measuring.beat(event):
                    return self._by_periods(event.at_s)
                return self._close_if_ready(event.at_s)
            case Sampled():
                if rested := self._restless.rested(event.at_s):
                    return *self._limit(event.at_s, rested), *self.on(event)
                self.reasoning.spent.sample(event)
                self._purse.sampled(event, trying=self.phase is Phase.PROFILING)
                if self._measuring.window is None:
                    return self._close_if_ready(event.at_s)
                self._measuring.window.sample(event)
                self._measuring.sampled(event)
                alarm = self._guard.sampled(event)
                self.reasoning.too_hot_in = self._wanted if self._guard.hot else None
                if alarm:
                    return self._leave(event.at_s, alarm)
                return self._cut_short(event.at_s) or self._close_if_ready(event.at_s)
            case ConfigurationApplied():
                return self._applied(event)
            case ConfigurationRefused() if event.requested == self._wanted:
                return self._unreachable(event)
            case ConfigurationWithheld() if event.requested == self._wanted:
                return self._withheld(event)
            case KnobOverwritten():
                return self._spoilt(event)
            case Throttled():
                return self._throttled(event)
            case LevelsAllowed():
                self.reasoning.territory.limit_levels(event.levels)
                return self._wishes_changed(event.at_s, "limits of others changed")
            case AppJoined():
                return self._joined(event)
            case AppLeft():
                closed = self._rest(event.at_s, Phase.RELEASED)
                self._purse.pause()
                self.reasoning.spent.pause()
                return *closed, Release(why=f"{self.app}: {event.reason}")
            case BudgetChanged():
                return self._limit(event.at_s, self._restless.told(event.at_s, event.limits, self.reasoning.limits))
            case ObjectiveChanged():
                self.reasoning.aim(cast("Objective", event.made))
                return self._wishes_changed(event.at_s, "objective changed")
            case ControlPaused():
                return self._pause(event.at_s, event.source)
            case ControlResumed():
                return self._resume(event.at_s)
            case PhaseChanged() if self.phase is Phase.IDLE and event.cause == "model":
                return self._mistaken(event.at_s)
            case PhaseChanged() if self.phase is Phase.IDLE and event is not self._changed:
                self._start_anew()
                return self._profile(event.at_s)
            case SensorLost():
                self._measuring.lose(event.sensor)
                return self._profile(event.at_s) if self._powerless(event.at_s) else self._blinded(event.at_s)
            case SensorRecovered():
                self._measuring.regain(event.sensor)
                return self._profile(event.at_s) if self.phase is Phase.POWERLESS else ()
            case _:
                pass
        return ()

    @property
    def rests(self) -> bool:
        """Whether windows are all that it waits for: then a fraction of a second more or less changes nothing."""
        return self.phase is not Phase.PROFILING and self._turns is None

    @property
    def guards(self) -> bool:
        """Whether there is a cap, which a single sample may show to be broken."""
        return bool(self._guard.bounds)

    def _rest(self, at_s: float, phase: Phase) -> Answer:
        """Nothing of ours is in force any more; what the stretch that was going on has shown so far is kept."""
        closed, window = (), self._measuring.window
        if self.phase is Phase.PROFILING and window is not None and self._measuring.counts:
            closed = (self._learn(at_s, window),)
        elif self.phase is Phase.IDLE and self.reasoning.observations:
            seen = self._measuring.end_turn()
            closed = () if seen is None else (self._closed(at_s, seen),)
            self._measuring.conclude(self.reasoning.observations)
        self._let_go(phase)
        return closed

    def _let_go(self, phase: Phase) -> None:
        self.phase, self._wanted, self._turns = phase, None, None
        self._measuring.shut()

    # Paused -------------------------------------------------------------------------------------------------------

    def _pause(self, at_s: float, source: str) -> Answer:
        """Hands off; beats and energy still count, since the program goes on."""
        self._paused = True
        if self.phase is Phase.RELEASED:
            return ()
        closed = self._rest(at_s, Phase.PAUSED)
        return *closed, Release(why=f"control paused ({source})" if source else "control paused")

    def _resume(self, at_s: float) -> Answer:
        """Go on where it was left: with what was decided, else with the profiling that was broken off."""
        self._paused = False
        if self.phase is not Phase.PAUSED:
            return ()
        trial = self._stay is not None and not self._stay.commits
        again = self.decided is not None and not trial
        return self._explore(at_s, "control resumed") if again else self._profile(at_s)

    # Profiling ----------------------------------------------------------------------------------------------------

    def _joined(self, event: AppJoined) -> Answer:
        if self.phase is not Phase.RELEASED:
            return ()
        self.reasoning.spent.begin(event.at_s)
        if self.reasoning.total_work is None:
            self.reasoning.total_work = event.total_work
        if self._paused:
            self.phase = Phase.PAUSED
            return ()
        return self._explore(event.at_s, "application is back") if self.decided else self._profile(event.at_s)

    def _profile(self, at_s: float) -> Answer:
        """Ask the sampler for the next stay: a trial or a commitment; where it has none, explore."""
        if not len(self.reasoning.space):
            self._let_go(Phase.PROFILING)
            return ()
        if self._lacks_power(at_s):
            return self._give_back()
        stay = self.reasoning.next_stay(at_s)
        if stay is None:
            return self._explore(at_s, "profiled", else_try=False)
        if stay.commits:
            return self._commit(at_s, stay)
        stay = None if self._blind or self._heats(stay) else self._afforded(stay)
        if stay is None:
            return self._abstain(at_s)
        self._let_go(Phase.PROFILING)
        self._stay, self._wanted = stay, self.reasoning.space.configuration(stay.state)
        return (Try(configuration=self._wanted, why=stay.why),)

    def _heats(self, trial: Stay) -> bool:
        """Whether a board that is too hot is expected to get no cooler by a trial: then it waits."""
        here, there = self.reasoning.too_hot_in, self.reasoning.space.configuration(trial.state)
        return here is not None and not self.reasoning.predicted(there)[1] < self.reasoning.predicted(here)[1]

    def _applied(self, event: ConfigurationApplied) -> Answer:
        if event.requested != self._wanted or self.phase is Phase.RELEASED:
            return ()
        missed = None if self._cooling.on else self._reach.learn(event.requested, event.effective)
        if event.effective != event.requested:  # the machine cannot reach what was asked: believe what it says
            self._cooling.missed(event.at_s, event.requested)
            for_good = not (self._cooling.on or self._reach.reached(event.requested))
            self.reasoning.territory.drop(event.requested, for_good=for_good)
            for level in self._cooling.above(event.requested, event.effective, self.reasoning.space):
                self.reasoning.territory.drop(level, for_good=False)
            if missed is not None and len(self.reasoning.space.having(missed)) < len(self.reasoning.space):
                self.reasoning.territory.drop(missed, for_good=False)  # heat may do the same: only a probe says never
            if self.reasoning.space.find(event.effective) is None or self._turns is not None:
                return self._next_after_refusal(event.at_s)
        self._measuring.open(event.effective, event.in_force_s)
        self._guard.open(event.in_force_s)
        if self._turns is not None:
            self._turns.begin(event.in_force_s)
            return ()
        self._measuring.start_over()
        self._pace.open()
        return self._settled_back(event)

    def _throttled(self, event: Throttled) -> Answer:
        """The kernel begins to cool, or ends: then what could not be reached meanwhile can be again."""
        forgiven = self._cooling.told(event)
        if not forgiven:
            return ()
        self.reasoning.territory.reach_again(forgiven)
        if self.phase is Phase.PROFILING and self._wanted is None:  # nothing was left to ask for
            return self._profile(event.at_s)
        return self._wishes_changed(event.at_s, "nothing cools any more")

    def _unreachable(self, event: ConfigurationRefused) -> Answer:
        self.reasoning.territory.drop(event.requested, for_good=not event.passing)
        return self._next_after_refusal(event.at_s)

    def _spoilt(self, event: KnobOverwritten) -> Answer:
        """Somebody else turned a knob: what was measured since it was last seen right is of another state.

        The controller asserts again what was in force; then a new window opens.
        """
        spoilt = self._measuring.discard(self.reasoning.observations, event.since_s, event.at_s)
        if self._verdict is not None:
            return self._acquit(event.at_s, self._verdict)
        return self._profile(event.at_s) if spoilt and self.phase in (Phase.PROFILING, Phase.IDLE) else ()

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
        self._measuring.open(event.effective, at_s)
        return ()

    def _by_periods(self, at_s: float) -> Answer:
        """The program's steps repeat: what was measured before that was known, of parts of periods, is forgotten."""
        rhythm = self._measuring.rhythm
        found = RhythmFound(
            at_s=at_s, app=self.app, source=self.source, period_beats=rhythm.beats, period_steps=rhythm.work
        )
        if self.phase is Phase.IDLE and self.decided is None:  # a dry run: nothing was learnt, nor will be
            return (found,)
        self.reasoning.unlearn_rates()
        self._purse.close()
        self.decided = None
        return found, *self._profile(at_s)

    # Windows --------------------------------------------------------------------------------------------------------

    def _close_if_ready(self, at_s: float) -> Answer:
        if self.phase is Phase.PROFILING and self._stay is not None:
            return self._close_trial(at_s, self._stay)
        return self._close_idle(at_s)

    def _close_trial(self, at_s: float, stay: Stay) -> Answer:
        over = self._purse.exhausted
        window = self._measuring.window
        if not over and (window is None or not self._measuring.answers(at_s, stay, lambda: self._expected_hz(window))):
            return ()
        closed: Answer = ()
        if window is not None and self._measuring.counts:
            closed = (self._learn(at_s, window),)
            self._refuge = None
        return (*closed, *(self._abstain(at_s) if over else self._profile(at_s)))

    def _cut_short(self, at_s: float) -> Answer:
        """A first look at a state that seems to break a cap is over: to find out, samples elsewhere are as good.

        Where a model alone chose the state, it is chosen again with what was learnt; another time the sampler is asked.
        """
        window, reasoning = self._measuring.window, self.reasoning
        if self.phase not in (Phase.PROFILING, Phase.IDLE) or window is None or not self._guard.bounds:
            return ()
        here = window.configuration
        if here != self._wanted or reasoning.space.find(here) == reasoning.space.min_state:
            return ()
        if not self._guard.suspects(partial(reasoning.belief.readings, here)) or reasoning.belief.samples(here) >= FEW:
            return ()
        chosen = self.phase is Phase.IDLE and not reasoning.excesses
        reasoning.excesses += 1
        closed, why = self._learn(at_s, window), "the state before seems to break a cap"
        return closed, *(self._explore(at_s, why) if chosen else self._profile(at_s))

    def _close_idle(self, at_s: float) -> Answer:
        to = None if self._turns is None else self._turns.due(at_s)
        if self._turns is not None and to is not None:
            return self._turn(at_s, self._turns, to)
        observation, stay = self._measuring.next_idle(at_s), self._stay
        if observation is None:
            return ()
        self._refuge = None
        closed = self._closed(at_s, observation)
        if self._turns is not None:
            return (closed,)
        if late := self._too_slow(observation):
            self._measuring.conclude(self.reasoning.observations)
            return (closed, *self._hurry(at_s, late, observation.configuration))
        if short := self._runs_short(at_s, observation):
            return (closed, *self._stretch(at_s, short))
        if stay is None:
            self._measuring.start_over()
            return (closed,)
        if self._measuring.committed_steps < stay.steps:
            return (closed,)
        self._measuring.conclude(self.reasoning.observations)
        return (closed, *self._profile(at_s))

    def _turn(self, at_s: float, turns: Turns, to: Configuration) -> Answer:
        """The other state's turn. After a whole round: is the target met, and is the commitment over?"""
        seen = self._measuring.end_turn()
        closed = () if seen is None else (self._closed(at_s, seen),)
        if seen is not None:
            self._round[seen.configuration] = seen
        if to == turns.main and self._round:
            mean = turns.mean(self._in_turn(turns.main), self._in_turn(turns.other))
            self._round = {}
            if short := self._runs_short(at_s, mean):
                return *closed, *self._stretch(at_s, short)
            rest = 0.0 if self._stay is None else self._stay.steps
            if self._too_slow(mean) or 0.0 < rest <= self._measuring.committed_steps:
                self._measuring.conclude(self.reasoning.observations)
                return *closed, *self._profile(at_s)
        turns.turn()
        self._wanted = to
        return *closed, Use(configuration=to, why=TURN)

    def _in_turn(self, configuration: Configuration) -> Observation:
        """What a state showed in its latest turn; where that was too short for a step, what is expected there."""
        if (seen := self._round.get(configuration)) is not None:
            return seen
        rate_hz, power_w = self.reasoning.predicted(configuration)
        other = next(iter(self._round.values()))
        return replace(other, configuration=configuration, rate_hz=rate_hz, power_w=power_w, beats=0, steps=0.0)

    def _learn(self, at_s: float, window: Window) -> WindowClosed:
        """Close a window and keep what it showed."""
        observation = self._measuring.close(window)
        if not observation.beats or may_have_stalled(observation, self._expected_hz(window)):
            self.reasoning.keep_short(observation, self.reasoning.predicted(observation.configuration)[0])
            return self._closed(at_s, observation)
        self.reasoning.recognise(observation)
        self._measuring.keep(window, self.reasoning.observations)
        return self._closed(at_s, observation)

    def _expected_hz(self, window: Window) -> float:
        """The rate expected of the state on trial, by what other windows showed; NaN where there are none."""
        return self.reasoning.predicted(window.configuration)[0] if self.reasoning.known else NAN

    def _closed(self, at_s: float, observation: Observation) -> WindowClosed:
        rate_hz, power_w = NAN, NAN
        if self.phase is Phase.IDLE and self.decided is not None:  # in a dry run nothing is, and no model is to blame
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

    # The guard ------------------------------------------------------------------------------------------------------

    @property
    def _caps(self) -> tuple[Bound, ...]:
        return tuple(bound for bound in self.reasoning.bounds if bound.signal != STEP_TIME)

    @property
    def _blind(self) -> bool:
        """Whether there is a cap and its sensor was lost: then nothing new is tried."""
        return self._unseen is not None

    @property
    def _unmeasured(self) -> str:
        """What would tell whether a cap is broken, in words; empty where it is measured."""
        bound = self._unseen
        what = "" if bound is None else "the temperature" if bound.signal == HEAT else "power"
        return f"{what} is not measured any more" if what else ""

    @property
    def _unseen(self) -> Bound | None:
        """A cap on what is not measured any more."""
        for bound in self._guard.bounds:
            if self._measuring.blind_to_heat if bound.signal == HEAT else self._measuring.blind:
                return bound
        return None

    def _leave(self, at_s: float, alarm: Alarm) -> Answer:
        """Power or temperature breaks a cap: leave the state now, learn from it, think later.

        What it teaches is learnt only once the machine was looked at: somebody else may have turned a knob.
        """
        window, reasoning = self._measuring.window, self.reasoning
        if window is None or reasoning.caution.hopeless(alarm.bound):  # the least violation was chosen
            return ()
        here, bound, decided = window.configuration, alarm.bound, self.decided
        self._guard.shut()
        times, before = reasoning.belief.times(alarm, here)
        hot = bound.signal == HEAT
        to = None if self._refuge == here else reasoning.refuge(at_s, here, times=times, cooler=hot)
        wanted = reasoning.space.configuration(reasoning.space.min_state if to is None else to)
        lowest = wanted == here
        if lowest and decided is None:
            reasoning.violators.add(here, alarm)
            return ()  # a trial in the lowest state goes on: what cannot hold is said when it is over
        if times <= CHANGED:
            self._measuring.conclude(reasoning.observations)
        verdict = Verdict(window, alarm, times, before, self.phase, self._stay, lowest)
        why = f"measured {alarm.measured:.3g} {'C' if hot else 'W'}"
        if lowest:
            self._let_go(self.phase)
            self._wanted = here
            answer: Answer = (Use(configuration=here, why=f"guard: {bound.name}, {why}"),)
        else:
            answer = self._go(at_s, here, wanted, bound.name, bound.most, alarm.measured, why)
        self._verdict = verdict
        return answer

    def _judge(self, at_s: float, verdict: Verdict) -> Answer:
        """Nobody else turned a knob: the state that was left did break the cap."""
        window, alarm, reasoning = verdict.window, verdict.alarm, self.reasoning
        self._verdict = None
        reasoning.violators.add(window.configuration, alarm)
        if verdict.phase is Phase.PROFILING and alarm.bound.signal != HEAT:
            reasoning.excesses += 1
        changed = verdict.times > CHANGED
        learnt = self._relearn(at_s, verdict) if changed else (self._learn(at_s, window),)
        if not verdict.lowest:
            return learnt
        return *learnt, *self._explore(at_s, f"{alarm.bound.name} is broken in the lowest state")

    def _acquit(self, at_s: float, verdict: Verdict) -> Answer:
        """Somebody else had turned a knob: it was another state that broke the cap; go on as before."""
        self._verdict = self._refuge = None
        self._stay = verdict.stay
        if verdict.phase is Phase.IDLE and self.decided is not None:
            return self._explore(at_s, "a knob that somebody else had turned broke the cap")
        return self._profile(at_s)

    def _relearn(self, at_s: float, verdict: Verdict) -> Answer:
        """The same state draws far more than it did: the program has changed, and what was measured is outdated.

        The window is of both programs: of the new one the latest samples alone are kept. Where it was a rail that
        broke its cap, the board is feared to draw as many times as much.
        """
        alarm, times = verdict.alarm, verdict.times
        seen = self._measuring.close(verdict.window)
        on_board = alarm.bound.signal == BOARD
        power_w = alarm.measured if on_board else seen.power_w * times
        rail_w = {} if on_board else {alarm.bound.signal: alarm.measured}
        seen = replace(seen, power_w=power_w, rail_w=rail_w, power_samples=1, power_cv=NAN)
        rate_hz, _ = self.reasoning.predicted(seen.configuration)
        self._changed = PhaseChanged(
            at_s=at_s,
            app=self.app,
            source=self.source,
            signal="power",
            before=verdict.before_w,
            after=alarm.measured,
            why=f"the same configuration breaks {alarm.bound.name}",
        )
        self._start_anew(violators=False)
        self.reasoning.keep_short(seen, rate_hz)
        return (self._changed,)

    def _start_anew(self, *, violators: bool = True) -> None:
        self.reasoning.forget(violators=violators)
        self._measuring.forget()
        self._purse.close()
        self.decided = None

    def _hurry(self, at_s: float, alarm: Alarm, here: Configuration) -> Answer:
        """Windows miss the target: to the best state measured to meet it, else the models say where to."""
        self.reasoning.violators.add(here, alarm)
        to = self.reasoning.refuge(at_s, here, slow=True)
        if to is None:
            return self._explore(at_s, f"{alarm.bound.name} is missed")
        wanted, rate_hz = self.reasoning.space.configuration(to), 1.0 / alarm.measured
        why = f"measured {rate_hz:.3g} steps/s"
        return self._go(at_s, here, wanted, alarm.bound.name, 1.0 / alarm.bound.most, rate_hz, why)

    def _go(
        self, at_s: float, here: Configuration, to: Configuration, limit: str, bound: float, measured: float, why: str
    ) -> Answer:
        """While profiling, the refuge is a short trial; else a commitment of a window, longer each time."""
        self._stepped += 1
        self._let_go(self.phase)
        self._wanted = self._refuge = to
        state, why = self.reasoning.space.find(to) or 0, f"guard: {limit}, {why}"
        stepped = GuardStepped(
            at_s=at_s,
            app=self.app,
            source=self.source,
            limit=limit,
            bound=bound,
            measured=measured,
            found=here,
            configuration=to,
            steps=self._stepped,
            why=why,
        )
        if self.phase is Phase.PROFILING and not self._blind:
            self._stay = Stay(state=state, why=why)
            return stepped, Try(configuration=to, why=why)
        self.phase = Phase.IDLE
        self._stay = Stay(state=state, steps=HOLD_STEPS * 2.0 ** min(self._stepped - 1, 6), commits=True, why=why)
        return stepped, Use(configuration=to, why=why)

    def _settled_back(self, event: ConfigurationApplied) -> Answer:
        """After the guard stepped, what is in force now is the decision; said only now, since it asks the model."""
        if self._refuge != event.requested or self.phase is not Phase.IDLE or self._stay is None:
            return ()
        self.decided = self.reasoning.decided(event.at_s, self.reasoning.of(event.at_s, self._stay, alone=True))
        return (self.decided,)

    def _too_slow(self, seen: Observation) -> Alarm | None:
        """Whether idle windows miss a target that was thought to be kept."""
        bound = next((bound for bound in self.reasoning.bounds if bound.signal == STEP_TIME), None)
        if bound is None or self.decided is None or not self.decided.feasible:
            return None
        return self._pace.measured(seen, bound)

    def _runs_short(self, at_s: float, seen: Observation) -> str | None:
        """Which limit on the whole run will not last at this pace, though it was thought to be kept; None: none."""
        if self.decided is None or not self.decided.feasible or self.decided is self._unhelped:
            return None
        return self.reasoning.runs_short(at_s, seen)

    def _stretch(self, at_s: float, short: str) -> Answer:
        """Learn from the windows that used too much, and search; where that changes nothing, not again."""
        before = self.decided
        self._measuring.conclude(self.reasoning.observations)
        answer = self._explore(at_s, f"{short} will not last")
        now = self.decided
        if before and now and (before.configuration, before.other) == (now.configuration, now.other):
            self._unhelped = now
        return answer

    def _blinded(self, at_s: float) -> Answer:
        """Power is lost under a cap: no state is tried that was not seen to keep it."""
        bound = self._unseen
        if bound is None or self.phase is not Phase.PROFILING or self._wanted is None:
            return ()
        space, here = self.reasoning.space, self._wanted
        to = self.reasoning.refuge(at_s, here)
        wanted = space.configuration(space.min_state if to is None else to)
        if wanted == here:
            return ()
        return self._go(at_s, here, wanted, bound.name, bound.most, NAN, self._unmeasured)

    def _powerless(self, at_s: float) -> bool:
        """Whether something of ours is in force, or would be, though nothing can be decided."""
        return self.phase in (Phase.PROFILING, Phase.IDLE, Phase.POWERLESS) and self._lacks_power(at_s)

    def _lacks_power(self, at_s: float) -> bool:
        """Whether nothing can be decided without power; what keeps a cap as well as anything can is not left for it."""
        if not self._measuring.blind or (self._blind and self._wanted is not None):
            return False
        return unpowered(self.reasoning.objective, self.reasoning.known, self.reasoning.situation(at_s))

    def _give_back(self) -> Answer:
        """The machine is as it was found until there is power; said once."""
        before = self.phase
        self._let_go(Phase.POWERLESS)
        return () if before is Phase.POWERLESS else (Release(why=UNPOWERED),)

    def _mistaken(self, at_s: float) -> Answer:
        """The program is what it was, the model is wrong: learn from what was measured, and think again."""
        observations, idle = self.reasoning.observations, self._measuring.idle
        if not self._measuring.conclude(observations) and idle is not None:
            observations.append(idle)
        return self._profile(at_s)

    # The exploration budget ---------------------------------------------------------------------------------------

    def _afforded(self, stay: Stay) -> Stay | None:
        """A trial as long as may be spent on it, None if that is too short; the first profiling is not bounded."""
        idle = self._measuring.idle
        if not self._purse.opened or idle is None:
            return None if self._purse.opened else stay
        there = self.reasoning.predicted(self.reasoning.space.configuration(stay.state))
        left = self.reasoning.remaining_work
        return self._purse.afforded(stay, idle, there, left or 0.0, sampled=self._measuring.powered)

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

    def _explore(self, at_s: float, why: str, *, else_try: bool = True) -> Answer:
        """Search the models for the best state and use it (C17 to C20); where nothing is known of any, try some."""
        if not len(self.reasoning.space):
            return ()
        turning, stay = self._turns is not None, self._stay
        judgement = self.reasoning.best(at_s, why, turning=turning, blind=self._unmeasured)
        if judgement is None:
            return self._profile(at_s) if else_try and not self.reasoning.known_here else self._undecided(at_s)
        self._stay = replace(stay, state=judgement.choice.state) if stay is not None and stay.commits else None
        return self._decide(at_s, judgement)

    def _undecided(self, at_s: float) -> Answer:
        """Nothing known has a cost: what was decided before stays, else the machine as it is; asked again later."""
        decided, space = self.decided, self.reasoning.space
        wanted = self._wanted if decided is None else decided.configuration
        state = None if wanted is None else space.find(wanted)
        if state is not None:
            self._stay = Stay(state=state, steps=max(self._rest_steps, SOON_STEPS), commits=True)
        elsewhere = wanted is not None and (wanted != self._wanted or self._turns is not None)
        if elsewhere:
            self._let_go(Phase.IDLE)
            self._wanted = wanted
        self.phase = Phase.IDLE
        said, self._said_undecided = self._said_undecided, self.reasoning.priceless(at_s)
        news = (self.reasoning.undecided(at_s),) if self._said_undecided and not said else ()
        use = (Use(configuration=wanted, why="decided before"),) if elsewhere and wanted is not None else ()
        return self.reasoning.fitted(at_s), *news, *use

    def _limit(self, at_s: float, limits: Limits) -> Answer:
        """Other limits are in force; while they change too fast, those of before may be as tight."""
        if limits == self.reasoning.limits:
            return ()
        if self.reasoning.limit(limits):
            self._purse.forgive()
        self._guard.limit(self._caps)
        self._pace = TargetGuard()
        held = ", and changes too fast: the lowest holds until it rests" if self._restless.waits else ""
        return self._wishes_changed(at_s, f"budget changed{held}")

    def _wishes_changed(self, at_s: float, why: str) -> Answer:
        """Models stay valid: only the search runs (C22). A trial that is not allowed any more is broken off."""
        if self.phase is Phase.POWERLESS or self._powerless(at_s):
            return self._profile(at_s)
        if self.phase is Phase.IDLE:
            answer = self._explore(at_s, why)
            if self._stay is not None:
                self._stay = replace(self._stay, steps=min(self._stay.steps, SOON_STEPS))
            return answer
        trial, space = self._stay if self.phase is Phase.PROFILING else None, self.reasoning.space
        if trial is None or not len(space) or trial.state == space.min_state:  # nothing lower could be tried instead
            return ()
        return self._profile(at_s) if self.reasoning.breaks(at_s, trial.state) else ()

    def _commit(self, at_s: float, stay: Stay) -> Answer:
        """Stay where the sampler believes the best state is; news only where the state is another than before."""
        configuration = self.reasoning.space.configuration(stay.state)
        alone = self._turns is None and self._measuring.window is not None
        going_on = self.phase is Phase.IDLE and configuration == self._wanted and alone and self.decided is not None
        self._stay, self._rest_steps = stay, stay.steps
        before = self.decided
        if going_on and not self.reasoning.may_turn and before is not None and before.feasible:
            return ()
        judgement = self.reasoning.of(at_s, stay, turning=self._turns is not None)
        if not isfinite(judgement.choice.cost) and self.reasoning.priceless(at_s):
            return self._undecided(at_s)
        no_news = before is not None and before.feasible == judgement.choice.feasible
        return () if going_on and judgement.mix is None and no_news else self._decide(at_s, judgement)

    def _decide(self, at_s: float, judgement: Judgement) -> Answer:
        decided = self.reasoning.decided(at_s, judgement)
        self._let_go(Phase.IDLE)
        self.decided, self._wanted, self._refuge = decided, decided.configuration, None
        self._said_undecided = False
        if decided.other is not None:
            self._turns = Turns(decided.configuration, decided.other, decided.share, decided.period_s)
            self._round = {}
            self._pace.open()
        self._purse.open()
        return self.reasoning.fitted(at_s), decided, Use(configuration=decided.configuration, why=decided.why)
