"""What a manager thinks with and thinks out: models fitted to what was measured, the next stay, the best state.

Pure and without a state machine: `manager.py` decides when to think, this file what comes of it.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from operator import is_
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from ceml.domain import schedule
from ceml.domain.belief import Belief
from ceml.domain.budget import (
    AMBIENT_C,
    NoHotter,
    bounds_of,
    cannot_hold,
    constraints_of,
    runs_short,
    unjudged,
)
from ceml.domain.candidates import candidates
from ceml.domain.caution import Caution
from ceml.domain.contracts import Fit, Score
from ceml.domain.events import Decided, ModelFitted, Undecided
from ceml.domain.guard import BOARD, HEAT, Violators
from ceml.domain.memory import Memory, of_others, pooled, reachable
from ceml.domain.outlook import caps_kept, caps_of
from ceml.domain.search import initial_state
from ceml.domain.spent import Spent
from ceml.domain.territory import Territory
from ceml.domain.values import NAN, Choice, FitStatus, Prediction, Situation, Stay
from ceml.errors import SettingsError
from ceml.units import excess_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Constraint, Objective, Scored
    from ceml.domain.guard import Bound
    from ceml.domain.knobs import Configuration, KnobSpace, States
    from ceml.domain.mind import Mind
    from ceml.domain.schedule import Mix
    from ceml.domain.values import Limits, Observation, Remembered

HOTTER = 2.0  # times what an earlier run measured of power, feared until the first window
CONFIRMING = (6.0, 2)  # steps and power samples of the window that says whether what is remembered still holds
HARDLY = 1e-3  # steps that a window weighs as much as of which only the power is known
SURELY = 0.95  # a search keeps constraints at this quantile: nothing measures the state before it is in force


def within_caps(score: Score, states: States) -> NDArray[np.bool_]:
    """Which states surely keep the caps on power, (n,), as well as can be: see `caps_kept`; all where there is none."""
    if not caps_of(score):
        return np.ones(len(states), dtype=bool)
    return caps_kept(replace(score, surely=SURELY), score.fit.predict(states))


def _cap_w(limits: Limits) -> float:
    return float("inf") if limits.power_cap_w is None else limits.power_cap_w


class Judgement(NamedTuple):
    """A state chosen, what is expected of it, why it was chosen, and with which other state it takes turns."""

    choice: Choice
    scored: Scored
    score: Score
    why: str
    mix: Mix | None = None


class Reasoning:
    """What one application has taught so far, and what follows from it.

    Attributes:
        territory: The states that are left.
        observations: What was measured in the present phase of the program.
        limits: What must hold, beside the objective's own constraints.
        spent: Time and energy since the application joined, and the last readings.
        total_work: Steps in all, where the application said so.
        work_done: Steps so far.
        violators: States that broke a limit, as the guard saw.
        excesses: How many trials have broken a cap on power, or seemed to, since the limits were set.
    """

    def __init__(self, app: str, space: KnobSpace, mind: Mind, limits: Limits) -> None:
        self.territory = Territory(reachable(space, mind.knowledge), mind.knowledge.unreachable)
        self.observations: list[Observation] = []
        self.limits = limits
        self.spent = Spent(mind.total_rails)
        self.total_work: float | None = None
        self.work_done = 0.0
        self.violators = Violators()
        self.excesses = 0
        self._widest_w = _cap_w(limits)
        self._app = app
        self._mind = mind
        self._memory = Memory(app, mind.knowledge)
        self._of_machine = of_others(app, mind.knowledge)
        self._first = True  # phase of this run
        self._fit: Fit | None = None
        self._basis: tuple[object, ...] = ()  # what it was fitted to
        self._allowed = self.space, self.space  # of which space it is what
        self.too_hot_in: Configuration | None = None  # above its cap on temperature now
        self._max_state = space.max_state  # of the whole space, also when it proves unreachable later

    def limit(self, limits: Limits) -> bool:
        """Other limits hold; what was tried under those before is no measure of how much may be dared under these.

        Returns:
            Whether more power is allowed than ever before: then there are states that nobody had reason to look at.
        """
        before_w, self._widest_w = self._widest_w, max(self._widest_w, _cap_w(limits))
        self.limits, self.excesses = limits, 0
        return self._widest_w > before_w

    def aim(self, objective: Objective) -> None:
        """Something else is wanted; what was measured and fitted stays."""
        self._mind = replace(self._mind, objective=objective)

    @property
    def objective(self) -> Objective:
        """What is wanted less of."""
        return self._mind.objective

    def recognise(self, observation: Observation) -> None:
        """The first window of a phase, before it is kept, tells whether the phase is one that is known."""
        if not self.observations:
            self._memory.recognise(self.space, self._mind.model, observation)

    def forget(self, *, violators: bool = True) -> None:
        """The program changed: what was measured is of another phase."""
        self._memory.left(self.space, self.observations)
        self.observations, self._fit, self._first = [], None, False
        if violators:
            self.violators.forget()

    def unlearn_rates(self) -> None:
        """What was measured was no rate of the program; windows of power alone stay what they are."""
        self.observations, self._fit = [seen for seen in self.observations if not seen.beats], None
        self._memory.hope_again()

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
        """What must hold: the objective's own constraints, the limits in force, and that what is too hot cools."""
        most_w = NAN if self.too_hot_in is None or self._fit is None else self.belief.expected(self.too_hot_in, BOARD)
        heat = (NoHotter(most_w),) if isfinite(most_w) else ()
        return (*self._mind.objective.constraints, *constraints_of(self.limits), *heat)

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
            excesses=self.excesses,
        )

    def _at_max(self) -> Prediction:
        return self.fit.predict(np.array([self._max_state]))

    @property
    def fit(self) -> Fit:
        """The model as last fitted; fitted now if it was not yet."""
        return self._fit or self._refit()

    def _refit(self) -> Fit:
        """Fit to what is known now; the fit there is, where nothing was learnt since."""
        basis = (self.space, *self.known)
        if self._fit is None or len(basis) != len(self._basis) or not all(map(is_, basis, self._basis)):
            made = self._mind.model.fit(self.space, self.known, prior=self._of_machine, warm=self._fit)
            fit = cast("object", made)  # a plugin's may be anything
            if not isinstance(fit, Fit):
                raise SettingsError(
                    f"the model gave {fit!r:.60} as its fit, which predicts nothing; see ceml plugin check"
                )
            self._fit = fit
            self._basis = basis
        return self._fit

    def score(self, at_s: float) -> Score:
        """What scores states now, by the models as last fitted."""
        return Score(self.fit, self._mind.objective, self.constraints, self.situation(at_s))

    def next_stay(self, at_s: float, *, frugal: bool = False) -> Stay | None:
        """Fit anew and ask the sampler; None: it hands over to the search.

        `frugal` asks as if nothing were left to gain, so that no trial pays: what is best of what is known?
        """
        fit = self._refit()
        if not self.observations and self._memory.hoped:
            state = self._to_confirm(self.score(at_s))
            if state is not None:
                steps, samples = CONFIRMING
                why = "best of an earlier run, to be confirmed"
                return Stay(state=state, steps=steps, power_samples=samples, why=why)
        left = 0.0 if frugal else self.remaining_work
        return self._mind.sampler.next(self.allowed, fit, self.score(at_s), self.known, left, self.total_work)

    def _to_confirm(self, score: Score) -> int | None:
        """The best state of what is hoped; None: none has a cost.

        What an earlier run measured of power may be far off today: under a cap the first state of a run would keep it
        even if it drew twice as much; where none would, it is the lowest.
        """
        fear = HOTTER if self._first and caps_of(score) else 1.0
        best = self._best_measured(score, hotter=fear)
        if best is None:
            return None
        return self.allowed.min_state if fear > 1.0 and best[0].violation > 0.0 else best[0].state

    def breaks(self, at_s: float, state: int) -> bool:
        """Whether it is not sure that a state keeps the constraints now."""
        if not self.allowed.present[state]:
            return True
        if not self.constraints:
            return False
        return bool(replace(self.score(at_s), surely=SURELY)(np.array([state])).violation[0] > 0.0)

    def runs_short(self, at_s: float, seen: Observation) -> str | None:
        """Which limit on the whole run the rest would break if it went on like this window; None: none."""
        if self.total_work is None:
            return None
        return runs_short(self.constraints, seen, self.situation(at_s))

    # What the guard needs -------------------------------------------------------------------------------------------

    @property
    def space(self) -> KnobSpace:
        """The states that are left."""
        return self.territory.space

    @property
    def belief(self) -> Belief:
        """What is believed of single configurations now."""
        return Belief(self.space, self.observations, self.spent, lambda: self.fit)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """What the guard watches."""
        return bounds_of(self.constraints)

    @property
    def caution(self) -> Caution:
        """Where not to go now."""
        return Caution(self.violators, self.bounds, self.belief)

    @property
    def allowed(self) -> KnobSpace:
        """The space without known violators; the whole space where nothing would be left, or nothing helps."""
        gone = self.caution.states(self.caution.forbidden)
        if not gone or len(gone) >= len(self.space):
            return self.space
        of, allowed = self._allowed
        if of is not self.space or len(allowed) != len(self.space) - len(gone) or allowed.present[gone].any():
            allowed = self.space.without(gone)
            self._allowed = self.space, allowed
        return allowed

    def refuge(
        self, at_s: float, here: Configuration, *, slow: bool = False, times: float = 1.0, cooler: bool = False
    ) -> int | None:
        """Where to go at once from here, see `Caution.refuge`; None: nothing measured is any better."""
        known, drawn_w = (*self._memory.recalled, *self.observations), self.predicted(here)[1]
        score = self.score(at_s)
        return self.caution.refuge(known, score, here, drawn_w, slow=slow, times=times, cooler=cooler)

    def keep_short(self, observation: Observation, rate_hz: float) -> None:
        """Take in a window without a rate of its own: its power counts, the rate expected there hardly weighs.

        Models learn from windows that have both. Where nothing is expected (NaN) the window teaches them nothing.
        """
        short = replace(observation, rate_hz=rate_hz, steps=HARDLY, beats=0, step_cv=NAN)
        if rate_hz == rate_hz:
            self.recognise(short)
        self.observations.append(short)

    def best(self, at_s: float, why: str, *, turning: bool = False, blind: str = "") -> Judgement | None:
        """Fit anew and search. Models that are no good choose nothing: then the best *measured* state is it.

        None where nothing known has a cost: then the machine is best left as it is. `turning`: see `of`. `blind`:
        nothing would tell if a cap were broken, so that no model is trusted either.
        """
        fit, score = self._refit(), self.score(at_s)
        if fit.status is FitStatus.GOOD and not blind:
            allowed = self.allowed
            measured = [s for s in (allowed.find(o.configuration) for o in self.known) if s is not None]
            for searched in (replace(score, surely=SURELY), score):  # where nothing is sure, what is expected must do
                start = initial_state(allowed, searched, measured)
                choice = self._mind.search.best(allowed, searched, start)
                if choice.feasible:
                    break
            if not choice.feasible:
                choice = self._within_caps(allowed, score, choice) or choice
            if isfinite(choice.cost):
                return self._in_turns(Judgement(choice, score(np.array([choice.state])), score, why), turning=turning)
        if blind and not self._some_keeps_caps(score):
            lowest = Stay(state=self.space.min_state, commits=True, why=f"{why}; {blind}, so the lowest state")
            return self.of(at_s, lowest, alone=True)
        best = self._best_measured(score)
        if best is None:
            return None
        reason = blind or fit.sentence
        return Judgement(*best, score, f"{why}; {reason}, so the best measured state")

    def _some_keeps_caps(self, score: Score) -> bool:
        """Whether the best measured state is one that keeps every cap on power."""
        best = self._best_measured(score)
        caps = replace(score, constraints=caps_of(score))
        return best is not None and not float(caps.of(best[1].predicted).violation[0]) > 0.0

    @property
    def known_here(self) -> bool:
        """Whether anything is known of the states that there are; limits of others may leave none that was measured."""
        return any(self.space.find(seen.configuration) is not None for seen in self.known)

    def priceless(self, at_s: float) -> bool:
        """Whether something is known of states that there are, and none of it has a cost."""
        return self.known_here and self._best_measured(self.score(at_s)) is None

    def undecided(self, at_s: float) -> Undecided:
        """The news that nothing known has a cost."""
        why = (
            f"the objective gives no finite cost for any of {len(self.known)} measured windows: what was decided "
            "before stays, and it is asked again now and then; name another (ceml objective NAME), or mend it"
        )
        return Undecided(at_s=at_s, app=self._app, why=why)

    def _within_caps(self, space: KnobSpace, score: Score, choice: Choice) -> Choice | None:
        """The least violation among states that surely keep the caps on power as well as can be; None where all do.

        A target or a deadline that cannot hold is a wish, and no wish is worth a broken cap.
        """
        states = candidates(space, score, (choice.state,))
        kept = within_caps(score, states)
        if kept.all():
            return None
        return self._mind.search.best(space.without(states[~kept].tolist()), score, choice.state)

    def of(self, at_s: float, stay: Stay, *, turning: bool = False, alone: bool = False) -> Judgement:
        """What is expected where the sampler commits to stay.

        `turning`: two states take turns already; `alone`: none may take turns.
        """
        score = self.score(at_s)
        scored = score(np.array([stay.state]))
        cost, violation = float(scored.cost[0]), float(scored.violation[0])
        choice = Choice(state=stay.state, cost=cost, violation=violation, evaluated=len(self.space))
        judged = Judgement(choice, scored, score, stay.why)
        return judged if alone else self._in_turns(judged, turning=turning)

    @property
    def may_turn(self) -> bool:
        """Whether two states may take turns: it is allowed, and some limit concerns a mean."""
        return self._mind.turns and any(schedule.of_mean(each) for each in self.constraints)

    def _in_turns(self, judged: Judgement, *, turning: bool) -> Judgement:
        """Two states in turn instead, where that is better."""
        if not self.may_turn:
            return judged
        choice, _, score, why, _ = judged
        least = 0.0 if turning else schedule.PERIODS
        mix = schedule.better(self.caution.safe, replace(score, surely=SURELY), choice, periods=least)
        if mix is None:
            return judged
        choice = Choice(state=mix.state, cost=float(mix.scored.cost[0]), violation=0.0, evaluated=choice.evaluated)
        why = f"{why}; in turns with another state for {1.0 - mix.share:.0%} of the time"
        return Judgement(choice, mix.scored, score, why, mix)

    def _best_measured(self, score: Score, *, hotter: float = 1.0) -> tuple[Choice, Scored] | None:
        """The best of what is known, all of one state taken together, had it drawn `hotter` times as much power."""
        best: tuple[Choice, Scored] | None = None
        allowed = self.allowed
        for observation in pooled(self.space, self.known):
            state = allowed.find(observation.configuration)
            if hotter != 1.0:
                rail_w = {rail: watts * hotter for rail, watts in observation.rail_w.items()}
                observation = replace(observation, power_w=observation.power_w * hotter, rail_w=rail_w)
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
            space=self.space,
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
        choice, scored, score, why, mix = judgement
        heat = next((bound for bound in self.bounds if bound.signal == HEAT), None)
        too_hot = heat is not None and score.now.temperature_c > heat.most
        if heat is not None and too_hot and not self.caution.hopeless(heat):
            why = f"{why}; the board is at {score.now.temperature_c:.0f} C now, above its {heat.name}"
        if choice.feasible and heat is not None and too_hot and self.caution.hopeless(heat):
            excess = (score.now.temperature_c - heat.most) / (heat.most - AMBIENT_C)  # expected or not, it is there
            choice = replace(choice, violation=excess)
            why = f"{why}; nothing is feasible: {heat.name} cannot hold, excess {excess_text(excess)}"
        elif not choice.feasible:
            everywhere = self.fit.predict(candidates(self.space, score, (choice.state,)))
            what = cannot_hold(self.constraints, everywhere, scored.predicted, score.now) or "the objective cannot hold"
            why = f"{why}; nothing is feasible: {what}, least violation {excess_text(choice.violation)}"
        if unknown := unjudged(self.constraints, score.now):
            why = f"{why}; {unknown}"
        at_max = self._at_max()
        sd = at_max.energy_sd
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
            energy_at_max_sd=NAN if sd is None else float(sd[0]),
            other=None if mix is None else self.space.configuration(mix.other),
            share=1.0 if mix is None else mix.share,
            period_s=NAN if mix is None else mix.period_s,
        )
