"""A whole run in virtual time on a plant, and its figures: what `ceml replay` prints and benchmarks pool."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import anyio

from ceml import runtime
from ceml.bench.score import Figures, score
from ceml.control.ending import interruptible
from ceml.domain.budget import PowerCap, constraints_of
from ceml.domain.contracts import Score
from ceml.domain.events import (
    AppJoined,
    AppLeft,
    BudgetChanged,
    Decided,
    ModelFitted,
    ObjectiveChanged,
    Sampled,
    SensorLost,
    SensorRecovered,
)
from ceml.domain.search import initial_state
from ceml.domain.unpowered import REMEDY as UNPOWERED
from ceml.errors import SettingsError, combined
from ceml.parts import choose
from ceml.platforms.played import ReplayProgram
from ceml.plugins.checked import bare
from ceml.store.paths import PlatformContext
from ceml.telemetry.ledger import Ledger
from ceml.telemetry.record import RecordWriter
from ceml.timeline import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ceml.bench.score import Caps
    from ceml.control.ports import Platform
    from ceml.domain.contracts import Fit, Objective
    from ceml.domain.events import Event
    from ceml.domain.values import Limits
    from ceml.plant.machine import Machine
    from ceml.sources import Loaded

NO_DECISION = "no decision: the program ended too early (give it more --steps), or no state measured has a cost"
FEW_SAMPLES = 10  # with fewer in a whole run hardly a state can be measured
ROUNDS = 20  # of timing one decision, after the run


@dataclass(frozen=True, kw_only=True)
class Played:
    """One run and what came of it.

    Attributes:
        figures: Scored on the noise-free truth.
        about: What ran on what, and `why` the last decision was taken, in words.
        labels: What must be said beside the figures.
        decision_s: Median wall seconds of fit, sampler and search, timed after the run; None without a decision.
        machine: The truth of the run.
        fit: The model at the first commitment; None where there was none.
        caps: The caps on power in the course of the run.
    """

    figures: Figures
    about: dict[str, object]
    labels: tuple[str, ...]
    decision_s: float | None
    machine: Machine = field(repr=False)
    fit: Fit | None = field(repr=False)
    caps: Caps = ()

    def as_json(self) -> dict[str, Any]:
        """Everything as one flat object of plain values."""
        capped = any(cap_w is not None for _, cap_w in self.caps)
        return {
            **self.about,
            **asdict(self.figures),
            "decision_s": self.decision_s,
            "labels": list(self.labels),
            "capped": capped,
        }


@dataclass
class _Notes:
    """What must be remembered of the run for its score."""

    platform: Platform
    objective: Objective  # that is in force
    limits: Limits
    caps: list[tuple[float, float | None]] = field(init=False)
    commitments: list[int] = field(default_factory=list[int])
    turns: tuple[int, float] | None = None
    settled_s: float | None = None
    fit: Fit | None = None
    why: str | None = None
    changes: int = 0  # of limits
    aimed: str | None = None  # at which objective since it was changed; None: the one of the start
    here: set[str] = field(default_factory=set[str])  # applications
    samples: int = 0  # of power
    lost: str | None = None  # why a sensor does not answer at the end

    def __post_init__(self) -> None:
        self.caps = [(0.0, self.cap_w)]

    def on(self, event: Event) -> None:
        match event:
            case Sampled() if event.rails_w:
                self.samples += 1
            case SensorLost():
                self.lost = event.reason
            case SensorRecovered():
                self.lost = None
            case ModelFitted() if self.fit is None:
                self.fit = cast("Fit", event.fit)
            case AppJoined():
                self.here.add(event.app)
            case AppLeft():
                self.here.discard(event.app)
            case Decided() if event.app in self.here:  # what is decided over its last beat comes into force no more
                self.why = event.why
                self.settled_s = event.at_s if self.settled_s is None else self.settled_s
                state = self.platform.space.find(event.configuration)
                if state is not None:
                    self.commitments.append(state)
                    other = None if event.other is None else self.platform.space.find(event.other)
                    self.turns = None if other is None else (other, event.share)
            case BudgetChanged():
                self.limits, self.settled_s, self.changes = event.limits, None, self.changes + 1
                self.caps.append((event.at_s, self.cap_w))
            case ObjectiveChanged():
                self.objective, self.settled_s, self.aimed = cast("Objective", event.made), None, event.objective
                self.caps.append((event.at_s, self.cap_w))
            case _:
                pass

    @property
    def cap_w(self) -> float | None:
        """The cap on power in force, the objective's own counted."""
        own = [each.cap_w for each in map(bare, self.objective.constraints) if isinstance(each, PowerCap)]
        return min((cap for cap in (*own, self.limits.power_cap_w) if cap is not None), default=None)

    def no_decision(self) -> str:
        """Why nothing was decided."""
        if self.platform.total_rails and self.samples < FEW_SAMPLES:
            came = f"{self.samples} power sample{' was' if self.samples == 1 else 's were'}"
            if self.lost is not None:
                return f"no decision: {came} read in the whole run: {self.lost}; {UNPOWERED}"
            return (
                f"no decision: {came} read in the whole run, too few to measure a state by; read more often "
                "(--sensor-period-s), or give it more --steps"
            )
        return NO_DECISION


def play(
    loaded: Loaded,
    *,
    steps: int,
    platform: Platform | None = None,
    timed: bool = True,
    eyes: Sequence[Callable[[Event], None]] = (),
) -> Played:
    """Run a program of so many steps from start to end, as the settings say, and score it.

    Args:
        loaded: The settings, and which of them somebody set.
        steps: Length of the run.
        platform: One that is already made and brings a program of so many steps, in place of the settings' own. Where
            its space is narrower than its plant's, the run may only use the former and is scored over the latter.
        timed: Whether to time one decision after the run.
        eyes: Who else is shown every event.

    Raises:
        SettingsError: The settings, the table or a plugin is no good.
    """
    if steps < 1:
        raise SettingsError(f"steps = {steps}: a run needs at least one step")
    settings = loaded.settings
    context = PlatformContext(runtime_dir=Path(), in_process=True)
    parts = choose(loaded, context, steps=steps) if platform is None else choose(loaded, context, platform=platform)
    if not isinstance(parts.platform.beats, ReplayProgram):
        raise SettingsError(
            f"platform {settings.platform} cannot be played in virtual time; give a table and a workload"
        )
    house = runtime.House(parts=parts, ledger=Ledger(parts.platform.total_rails))
    notes = _Notes(parts.platform, parts.mind.objective, parts.limits)
    looks: list[Callable[[Event], None]] = [notes.on, *eyes]
    record = RecordWriter(settings.record, settings.record_level) if settings.record else None
    if record:
        looks.append(record.write)
    try:
        interrupted = anyio.run(
            interruptible, runtime.replay, house, looks, backend_options={"loop_factory": VirtualLoop}
        )
    except Exception as error:
        told = combined(error)
        if told is None:
            raise
        raise told from error
    finally:
        if record:
            record.close()
    if interrupted:
        raise KeyboardInterrupt
    figures = score(
        parts.platform.beats.machine,
        objective=notes.objective,
        objective_is_energy=settings.objective == "energy" and notes.aimed is None,
        constraints=constraints_of(notes.limits),
        steps=steps,
        commitments=notes.commitments,
        turns=notes.turns,
        settled_s=notes.settled_s,
        caps=notes.caps,
        fit=notes.fit,
    )
    return Played(
        figures=figures,
        about={
            **_about(house),
            "limits_at_end": _names(notes.limits),
            "limits_changed": notes.changes,
            "objective_at_end": notes.aimed or settings.objective,
            "why": notes.why or notes.no_decision(),
        },
        labels=parts.platform.labels,
        decision_s=_decision_s(house) if timed and notes.commitments else None,
        machine=parts.platform.beats.machine,
        fit=notes.fit,
        caps=notes.caps,
    )


def _names(limits: Limits) -> list[str]:
    return [each.name for each in constraints_of(limits)]


def _about(house: runtime.House) -> dict[str, object]:
    settings = house.parts.settings
    return {
        "table": settings.table.name if settings.table else "jetson-tx2",
        "workload": settings.workload,
        "batch": settings.batch,
        "objective": settings.objective,
        "model": settings.model,
        "search": settings.search,
        "sampler": house.parts.sampler,
        "budget_w": settings.budget,
        "limits": _names(settings.limits),
        "steps": int(house.ledger.steps),
        "seed": settings.seed,
    }


def _decision_s(house: runtime.House) -> float | None:
    """Decide once more on what was measured, several times: fit, what to try next, search.

    As if half of the work lay ahead: at the end of a run no sampler has much to think about. The fit begins, as in a
    run, from the one before the latest window.
    """
    parts = house.parts
    managers = list(house.controller.managers.values()) if house.controller else []
    if not managers or not managers[0].reasoning.observations:
        return None
    known, mind = managers[0].reasoning, parts.mind
    now = known.situation(0.0)
    ahead = None if known.total_work is None else known.total_work / 2
    took_s: list[float] = []
    before = mind.model.fit(known.space, known.known[:-1], prior=mind.knowledge)
    for _ in range(ROUNDS):
        start_s = perf_counter()
        fit = mind.model.fit(known.space, known.known, prior=mind.knowledge, warm=before)
        score = Score(fit, mind.objective, known.constraints, now)
        mind.sampler.next(known.space, fit, score, known.known, ahead, known.total_work)
        mind.search.best(known.space, score, initial_state(known.space, score, ()))
        took_s.append(perf_counter() - start_s)
    return median(took_s)
