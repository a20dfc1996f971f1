"""The front desk: what people ask of a running house, answered from what is in memory, and what they want, announced.

A wish is checked in the same words as at the start and then becomes one event; who hears the event need not know
where it came from. Everything here runs on the loop and waits for nothing.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

import anyio
import numpy as np

from ceml.api.protocol import (
    MOST_CANDIDATES,
    BudgetRequest,
    Candidate,
    Changed,
    Decision,
    Explained,
    ExplainRequest,
    Happening,
    Limit,
    Measurement,
    ModelNumber,
    ObjectiveRequest,
    PauseRequest,
    ResumeRequest,
    Status,
    StatusRequest,
)
from ceml.domain.budget import constraints_of
from ceml.domain.events import BudgetChanged, ControlPaused, ControlResumed, ObjectiveChanged
from ceml.domain.explanation import explain, margin
from ceml.domain.manager import Phase
from ceml.domain.values import NAN, NO_LIMITS, Prediction, Situation
from ceml.errors import SettingsError
from ceml.parts import check_limits, choose_objective
from ceml.sources import changed_limits

if TYPE_CHECKING:
    from typing import Literal

    from ceml.api.protocol import Request, Result
    from ceml.control.bus import Bus
    from ceml.control.controller import Controller
    from ceml.domain.contracts import Constraint
    from ceml.domain.events import Decided
    from ceml.domain.manager import RuntimeManager
    from ceml.domain.values import Limits, Observation
    from ceml.parts import Parts
    from ceml.telemetry.diary import Diary
    from ceml.telemetry.ledger import Ledger

PHASES: dict[Phase, Literal["waiting", "profiling", "idle", "paused"]] = {
    Phase.PROFILING: "profiling",
    Phase.IDLE: "idle",
    Phase.PAUSED: "paused",
    Phase.POWERLESS: "waiting",
    Phase.RELEASED: "waiting",
}


class Desk:
    """Answers requests of the control socket.

    Args:
        parts: What the run is made of.
        ledger: What it has done and cost so far.
        diary: What happened lately.
        controller: Who holds the machine.
        bus: Where wishes are announced.
    """

    def __init__(self, parts: Parts, ledger: Ledger, diary: Diary, controller: Controller, bus: Bus) -> None:
        self.objective = parts.settings.objective
        self._parts = parts
        self._ledger = ledger
        self._diary = diary
        self._controller = controller
        self._bus = bus
        tops = {knob.name: knob.levels[-1] for knob in parts.platform.space.knobs}
        self._highest = {name: float(top) for name, top in tops.items() if not isinstance(top, str)}
        self._asked: tuple[Limits, Limits] | None = None  # in force when they were asked for, and those asked for

    def answer(self, request: Request, source: str) -> Result:
        """Do or tell what is asked.

        Args:
            request: What.
            source: Who, for the record.

        Raises:
            SettingsError: It cannot be done; what was in force stays so.
        """
        match request:
            case StatusRequest():
                return self._status()
            case ExplainRequest():
                return self._explain(request.top)
            case BudgetRequest():
                self._budget(request, source)
            case ObjectiveRequest():
                self._aim(request.objective, source)
            case PauseRequest():
                self._bus.publish(ControlPaused(at_s=anyio.current_time(), source=source))
            case ResumeRequest():
                self._bus.publish(ControlResumed(at_s=anyio.current_time(), source=source))
        paused = self._controller.paused
        if isinstance(request, PauseRequest | ResumeRequest):
            paused = isinstance(request, PauseRequest)
        return Changed(
            verb=request.verb,
            objective=self.objective,
            paused=paused,
            limits=[constraint.name for constraint in constraints_of(self.limits)],
        )

    # Wishes -------------------------------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """In force, or about to be: the controller hears of an event a turn of the loop after it was published."""
        in_force = self._controller.limits
        return self._asked[1] if self._asked is not None and self._asked[0] is in_force else in_force

    def _budget(self, request: BudgetRequest, source: str) -> None:
        limits = NO_LIMITS if request.clear else self.limits
        limits = changed_limits(limits, {**request.limits}, "control socket")
        check_limits(limits, self._parts.platform)
        if limits == self.limits:
            return
        self._asked = self._controller.limits, limits
        self._bus.publish(BudgetChanged(at_s=anyio.current_time(), limits=limits, source=source))

    def _aim(self, reference: str, source: str) -> None:
        """Another objective.

        Raises:
            SettingsError: It is unknown or does not fit; or it would make the server read a file, which may lie
                where whoever asks cannot read.
        """
        name, _, options = reference.partition(":")
        if "/" in name or name.endswith(".py"):
            raise SettingsError(
                f"objective {reference!r}: it is a file, and those are for the start: ceml serve --objective "
                f"{reference}; name an installed one here, see ceml plugins objectives"
            )
        for option in filter(None, options.split(",")):
            if not _is_number(option.partition("=")[2]):
                raise SettingsError(
                    f"objective {reference!r}: option {option!r} must be KEY=NUMBER here; other options are for the "
                    f"start: ceml serve --objective {reference}"
                )
        made = choose_objective(reference, self._parts.platform)
        self.objective = reference
        now_s = anyio.current_time()
        self._bus.publish(ObjectiveChanged(at_s=now_s, objective=reference, source=source, made=made))

    # Answers ------------------------------------------------------------------------------------------------------

    def _status(self) -> Status:
        ledger, manager, platform = self._ledger, self._controller.holder, self._parts.platform
        chapter, limits, now_s = ledger.chapter, self.limits, anyio.current_time()
        phase = PHASES[manager.phase] if manager is not None else "waiting"
        decided = manager.decided if manager is not None else None
        return Status(
            at_s=now_s,
            platform=platform.name,
            labels=list(platform.labels),
            objective=self.objective,
            phase="paused" if self._controller.paused else phase,
            app=manager.app if manager is not None else None,
            configuration=dict(ledger.configuration) if ledger.configuration is not None else None,
            highest=self._highest,
            why=ledger.why,
            power_w=ledger.power_w,
            budget_w=limits.power_cap_w,
            rails_w=dict(ledger.readings_w),
            rail_budgets_w=dict(limits.rail_caps_w),
            temperature_c=ledger.temperature_c,
            latest=_measurement(chapter.latest) if manager is not None else None,
            limits=self._headrooms(manager, chapter.latest, now_s),
            decided=_decision(decided) if decided is not None else None,
            decisions=ledger.decisions,
            states_tried=sum(state.windows > 0 for state in chapter.states.values()),
            steps=ledger.steps,
            seconds=ledger.seconds,
            energy_j=ledger.energy_j if ledger.measured else NAN,
            profiling_s=ledger.profiling_s,
            saving=NAN if chapter.vague else chapter.saving,
            saving_so_far=NAN if chapter.vague else chapter.saving_so_far,
            saving_between=chapter.saving_between,
            others=chapter.others_in_words or None,
            baseline=chapter.baseline_name if chapter.baseline is not None else None,
            guard_steps=self._diary.guard_steps,
            phase_changes=self._diary.phase_changes,
            refused_lines=ledger.refused_lines,
            happened=[Happening(**entry._asdict()) for entry in self._diary.entries],
        )

    def _headrooms(self, manager: RuntimeManager | None, latest: Observation | None, now_s: float) -> list[Limit]:
        """Of every limit the share of its bound that is left, by the latest window of what is in force.

        Until one has closed, by the latest readings of power alone: what an earlier state showed would be no truth.
        """
        if manager is None or latest is None:
            return [Limit(name=each.name, headroom=NAN) for each in constraints_of(self.limits)]
        now = manager.reasoning.situation(now_s)
        constraints = (*manager.reasoning.objective.constraints, *constraints_of(self.limits))
        if latest.configuration != self._ledger.configuration:
            latest = replace(
                latest, rate_hz=NAN, power_w=self._ledger.power_w, rail_w=dict(self._ledger.readings_w), step_cv=NAN
            )
        return [Limit(name=each.name, headroom=_headroom(each, latest, now)) for each in constraints]

    def _explain(self, top: int) -> Explained:
        manager, in_force = self._controller.holder, self._ledger.configuration
        if manager is None:
            return Explained(
                app=None,
                objective=self.objective,
                why=self._ledger.why or "no program holds the machine: its knobs are as they were found",
                model=self._parts.settings.model,
                fit="none",
                sentence="nothing is known of a program that is not here",
                states=len(self._parts.platform.space),
                measured_states=0,
                candidates=[],
                measured=[],
                parameters=[],
                unjudged="",
            )
        besides = [in_force] if in_force is not None else []
        told = explain(manager.reasoning, anyio.current_time(), top, besides)
        candidates = [
            Candidate(
                configuration=dict(each.configuration),
                in_force=each.configuration == in_force,
                rate_hz=each.rate_hz,
                power_w=each.power_w,
                energy_j=each.energy_j,
                cost=each.cost,
                violation=each.violation,
                violation_surely=each.violation_surely,
                rate_sd=each.rate_sd,
                power_sd=each.power_sd,
                margins=dict(each.margins),
                measured=_measurement(each.measured),
            )
            for each in told.candidates
        ]
        return Explained(
            app=manager.app,
            objective=self.objective,
            why=manager.decided.why if manager.decided is not None else self._ledger.why,
            model=self._parts.settings.model,
            fit=told.status,
            sentence=told.sentence,
            states=told.states,
            measured_states=told.measured_states,
            candidates=candidates,
            measured=[measurement_of(seen) for seen in told.measured[:MOST_CANDIDATES]],
            parameters=[ModelNumber(name=each.name, value=each.value, unit=each.unit) for each in told.parameters],
            unjudged=told.unjudged,
        )


def _headroom(constraint: Constraint, latest: Observation, now: Situation) -> float:
    left = float(np.asarray(margin(constraint, Prediction.measured(latest), now))[0])
    return left if isfinite(left) else NAN


def _measurement(seen: Observation | None) -> Measurement | None:
    return None if seen is None else measurement_of(seen)


def measurement_of(seen: Observation) -> Measurement:
    """An observation as it is told."""
    return Measurement(
        configuration=dict(seen.configuration), rate_hz=seen.rate_hz, power_w=seen.power_w, energy_j=seen.energy_j
    )


def _decision(decided: Decided) -> Decision:
    return Decision(
        at_s=decided.at_s,
        configuration=dict(decided.configuration),
        rate_hz=decided.rate_hz,
        power_w=decided.power_w,
        cost=decided.cost,
        feasible=decided.feasible,
        violation=decided.violation,
        why=decided.why,
        other=None if decided.other is None else dict(decided.other),
        share=decided.share,
    )


def _is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False
