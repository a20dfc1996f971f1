"""A program's phases as earlier runs, or earlier parts of this one, measured them; and how one is recognised.

What is remembered is believed only after one window: a phase counts as recognised where rate and power of that window
are what its measurements make a model expect. The window itself is the fingerprint; names alone prove nothing, since a
program keeps its name when its batch size or its input changes.
"""

from __future__ import annotations

from dataclasses import replace
from math import log, sqrt
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.values import NAN, Knowledge, Observation, Remembered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ceml.domain.contracts import ResponseModel
    from ceml.domain.knobs import Configuration, Knob, KnobSpace

MOST_PHASES = 4  # of one program
MOST_STATES = 64  # of one phase
STEPS_BELIEVED, SAMPLES_BELIEVED = 20.0, 8  # a remembered state weighs no more than these: conditions drift
DRIFT = 0.02  # standard deviation of ln rate and of ln power from one run to the next
UNSTATED = 0.05  # standard deviation of a prediction whose model states none
VAGUE = 0.1  # standard deviation of an expectation that whatever is measured would meet
RECOGNISED = 3.0  # standard deviations that a window may lie from what was remembered


class Memory:
    """The phases of one program, the latest first.

    Attributes:
        recalled: Measurements of the phase that was recognised; empty where none was.
    """

    def __init__(self, app: str, knowledge: Knowledge) -> None:
        self.recalled: tuple[Observation, ...] = ()
        self._app = app
        self._phases = [phase.observations for phase in knowledge.programs if phase.app == app]
        self._hoped = bool(self._phases)
        self._recognised: tuple[tuple[Observation, ...], ...] = ()  # as it was remembered; one or none

    @property
    def hoped(self) -> Sequence[Observation]:
        """What is hoped to be true until a window confirms it: the likeliest phase; empty: nothing is."""
        return self._phases[0] if self._hoped else ()

    def recognise(self, space: KnobSpace, model: ResponseModel, seen: Observation) -> bool:
        """Compare a phase's first window with every phase known; returns whether one is recognised.

        The least mean square deviation of ln rate and ln power, in standard deviations, each at most three.
        """
        if not self._hoped or not seen.rate_hz > 0.0:
            return False
        self._hoped = False
        far = [_distance(space, model, phase, seen) for phase in self._phases]
        nearest = min(range(len(far)), key=far.__getitem__)
        if far[nearest] == float("inf"):
            return False
        self._recognised = (self._phases.pop(nearest),)
        self.recalled = tuple(map(_faded, self._recognised[0]))
        return True

    def hope_again(self) -> None:
        """The window that recognised a phase, or none, was no measurement: all that is known may be true again."""
        self._phases = [*self._recognised, *self._phases]
        self._recognised, self.recalled, self._hoped = (), (), bool(self._phases)

    def left(self, space: KnobSpace, measured: Sequence[Observation]) -> None:
        """The program left a phase: keep it. The next may be one of those known before, else this one again."""
        phases = self.phases(space, measured)
        self._phases = [*phases[1:], *phases[:1]]
        self._recognised, self.recalled, self._hoped = (), (), bool(self._phases)

    def phases(self, space: KnobSpace, measured: Sequence[Observation]) -> list[tuple[Observation, ...]]:
        """All phases known, the present one first."""
        timed = [seen for seen in measured if seen.beats > 0]  # what the guard cut short has no rate of its own
        present = pooled(space, (*self.recalled, *timed))
        return [present, *self._phases][:MOST_PHASES] if present else self._phases

    def remembered(self, space: KnobSpace, measured: Sequence[Observation]) -> tuple[Remembered, ...]:
        """The same, to be kept for the next run, with whatever levels of earlier boots they were measured at."""
        return tuple(
            Remembered(app=self._app, knobs=tuple(_widened(knob, phase) for knob in space.knobs), observations=phase)
            for phase in self.phases(space, measured)
        )


def _widened(knob: Knob, phase: Sequence[Observation]) -> Knob:
    """The knob with every level that a phase was measured at."""
    more = {seen.configuration[knob.name] for seen in phase} - set(knob.levels)
    if not more:
        return knob
    levels = [*knob.levels, *sorted(more, key=str)]
    return replace(knob, levels=tuple(sorted(levels, key=float) if knob.ordered else levels))


def of_others(app: str, knowledge: Knowledge) -> Knowledge:
    """What is known of the machine without this program: what a model may use before it has measured anything."""
    return replace(knowledge, programs=tuple(phase for phase in knowledge.programs if phase.app != app))


def reachable(space: KnobSpace, knowledge: Knowledge) -> KnobSpace:
    """The space without the states that proved unreachable; the whole space where nothing would be left."""
    gone = {int(state) for levels in knowledge.unreachable for state in space.having(levels)}
    return space.without(gone) if 0 < len(gone) < len(space) else space


def pooled(space: KnobSpace, observations: Iterable[Observation]) -> tuple[Observation, ...]:
    """One observation per configuration of the space, of those measured longest; times of day are left out.

    Rates are pooled as steps over seconds, powers by their samples, scatter as the root of mean squares.
    """
    by_state: dict[Configuration, list[Observation]] = {}
    for seen in observations:
        if seen.steps > 0 and 0.0 < seen.rate_hz < float("inf") and space.find(seen.configuration) is not None:
            by_state.setdefault(seen.configuration, []).append(seen)
    longest = sorted(by_state.values(), key=lambda windows: -sum(seen.steps for seen in windows))
    return tuple(_pool(windows) for windows in longest[:MOST_STATES])


def _pool(windows: Sequence[Observation]) -> Observation:
    steps = sum(seen.steps for seen in windows)
    seconds = sum(seen.steps / seen.rate_hz for seen in windows)
    powered = [seen for seen in windows if seen.power_samples > 0 and seen.power_w > 0.0]
    samples = sum(seen.power_samples for seen in powered)

    def mean(pairs: Iterable[tuple[float, float]]) -> float:
        known = [(value, weight) for value, weight in pairs if value == value and weight > 0]
        total = sum(weight for _, weight in known)
        return sum(value * weight for value, weight in known) / total if known else NAN

    def means(of: Sequence[Mapping[str, float]], weights: Sequence[float]) -> dict[str, float]:
        names = dict.fromkeys(name for each in of for name in each)
        return {name: mean((each.get(name, NAN), w) for each, w in zip(of, weights, strict=True)) for name in names}

    return Observation(
        configuration=windows[0].configuration,
        start_s=0.0,
        end_s=seconds,
        beats=sum(seen.beats for seen in windows),
        steps=steps,
        rate_hz=steps / seconds,
        power_w=mean((seen.power_w, seen.power_samples) for seen in powered),
        rail_w=means([seen.rail_w for seen in powered], [seen.power_samples for seen in powered]),
        utilisation=means([seen.utilisation for seen in windows], [seen.steps for seen in windows]),
        power_samples=samples,
        step_cv=sqrt(mean((seen.step_cv**2, seen.beats) for seen in windows)),
        power_cv=sqrt(mean((seen.power_cv**2, seen.power_samples) for seen in powered)),
    )


def _faded(seen: Observation) -> Observation:
    """The same measurement, weighing no more than conditions allow that may have changed since."""
    share = min(1.0, STEPS_BELIEVED / seen.steps)
    return replace(
        seen,
        beats=max(1, round(seen.beats * share)),
        steps=seen.steps * share,
        end_s=seen.end_s * share,
        power_samples=min(seen.power_samples, SAMPLES_BELIEVED),
    )


def _distance(space: KnobSpace, model: ResponseModel, phase: Sequence[Observation], seen: Observation) -> float:
    """Mean square deviation of the window from what the phase makes expect; infinite: another program."""
    total, compared = 0.0, 0
    then = _expected(space, model, phase, seen.configuration)
    if not (seen.rate_hz > 0.0 and then[0][0] > 0.0):
        return float("inf")  # without a rate there is nothing to go by
    for (measured, scatter), (expected, sd) in zip(_signals(seen), then, strict=True):
        if not (measured > 0.0 and expected > 0.0):
            continue  # power that is not measured, now or then, tells nothing
        off = abs(log(measured / expected)) / sqrt(sd**2 + scatter**2 + DRIFT**2)
        if off > RECOGNISED or sd > VAGUE:
            return float("inf")
        total, compared = total + off * off, compared + 1
    return total / compared


def _signals(seen: Observation) -> tuple[tuple[float, float], tuple[float, float]]:
    """Rate and power, each with the relative standard deviation of its mean (0 where that is not known)."""
    of_rate = seen.step_cv / sqrt(max(seen.beats, 1))
    of_power = seen.power_cv / sqrt(max(seen.power_samples, 1))
    return (seen.rate_hz, of_rate if of_rate == of_rate else 0.0), (
        seen.power_w,
        of_power if of_power == of_power else 0.0,
    )


def _expected(
    space: KnobSpace, model: ResponseModel, phase: Sequence[Observation], configuration: Configuration
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Rate and power of a phase in a configuration, measured or else fitted; each with its relative deviation."""
    for known in phase:
        if known.configuration == configuration:
            return _signals(known)
    state = space.find(configuration)
    if state is None:
        return (NAN, NAN), (NAN, NAN)
    predicted = model.fit(space, phase).predict(np.array([state]))
    sds = (UNSTATED, UNSTATED)
    if predicted.covariance is not None:
        sds = (sqrt(float(predicted.covariance[0, 0, 0])), sqrt(float(predicted.covariance[0, 1, 1])))
    return (float(predicted.rate_hz[0]), sds[0]), (float(predicted.power_w[0]), sds[1])
