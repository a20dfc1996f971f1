"""The checks of plugins say in plain words what is wrong: each plugin here has one fault. And ours have none.

Not covered: actuators and sensors (test_checks), the command line around it (tests/commands/test_plugin.py).
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
import pytest

from ceml.domain.phase import difference
from ceml.domain.response.overlap import overlap
from ceml.domain.sampling import paper
from ceml.domain.search import exhaustive
from ceml.domain.values import Prediction, Stay
from ceml.plugins import find, known
from ceml.testing import promises
from ceml.testing.checks import (
    BrokenPromise,
    check_detector,
    check_model,
    check_objective,
    check_sampler,
    check_search,
)
from ceml.testing.deciders import detector_promises
from ceml.testing.promises import broken, lines_run

CHECKS = {
    "objectives": check_objective,
    "models": check_model,
    "searches": check_search,
    "samplers": check_sampler,
    "detectors": check_detector,
}
OURS = [
    (kind, plugin.name + (":intensity=80" if plugin.name == "carbon" else ""))
    for kind in CHECKS
    for plugin in known(kind)
    if plugin.distribution == "ceml-runtime"
]


@pytest.mark.parametrize(("kind", "reference"), OURS, ids=lambda text: str(text).partition(":")[0])
def test_ours_keep_their_promises(kind: str, reference: str):
    CHECKS[kind](find(kind, reference))  # type: ignore[operator]


# Objectives -----------------------------------------------------------------------------------------------------------


class Energy:
    constraints: tuple = ()

    def cost(self, predicted: Prediction, now: Any) -> Any:
        return predicted.power_w / predicted.rate_hz


class Scalar(Energy):
    def cost(self, predicted, now):
        return float(np.mean(predicted.power_w))


class Column(Energy):
    def cost(self, predicted, now):
        return super().cost(predicted, now)[:, None]


class Words(Energy):
    def cost(self, predicted, now):
        return np.array(["low"] * len(predicted.rate_hz))


class NotANumber(Energy):
    def cost(self, predicted, now):
        return np.where(predicted.rate_hz > 2.0, np.nan, super().cost(predicted, now))


class WrongWayRound(Energy):
    def cost(self, predicted, now):
        return predicted.rate_hz / predicted.power_w  # steps per joule: the more, the better


class LikesTheSlow(Energy):
    def cost(self, predicted, now):
        return predicted.rate_hz


class SeesTheOrder(Energy):
    def cost(self, predicted, now):
        return super().cost(predicted, now) + 1e-3 * np.arange(len(predicted.rate_hz))


class SeesTheOthers(Energy):
    def cost(self, predicted, now):
        costs = super().cost(predicted, now)
        return costs / costs.max()


class SeesTheHottest(Energy):
    def cost(self, predicted, now):
        return predicted.power_w / predicted.power_w.max() + 1.0 / predicted.rate_hz


class Loops(Energy):
    def cost(self, predicted, now):
        return np.array([watts / hz for watts, hz in zip(predicted.power_w, predicted.rate_hz, strict=True)])


class Vectorize(Energy):
    def cost(self, predicted, now):
        return np.vectorize(lambda watts, hz: watts / hz)(predicted.power_w, predicted.rate_hz)


class Slow(Energy):
    def cost(self, predicted, now):
        until_s = time.process_time() + 0.07
        while time.process_time() < until_s:
            pass
        return super().cost(predicted, now)


class Sleeps(Energy):
    def cost(self, predicted, now):
        time.sleep(0.07)
        return super().cost(predicted, now)


class Hangs(Energy):
    def cost(self, predicted, now):
        threading.Event().wait()


class Raises(Energy):
    def cost(self, predicted, now):
        return predicted.watts


class RaisesForOne(Energy):
    def cost(self, predicted, now):
        if len(predicted.rate_hz) == 1:
            raise IndexError("only one state")
        return super().cost(predicted, now)


class NeedsATotal(Energy):
    def cost(self, predicted, now):
        return super().cost(predicted, now) * now.remaining_work


class Writes(Energy):
    def cost(self, predicted, now):
        predicted.power_w[:] = 1.0
        return super().cost(predicted, now)


class Forgets(Energy):
    calls = 0

    def cost(self, predicted, now):
        Forgets.calls += 1
        return super().cost(predicted, now) * (1 + 0.01 * Forgets.calls)


class Indifferent(Energy):
    def cost(self, predicted, now):
        return np.ones(len(predicted.rate_hz))


class TwoSigns(Energy):
    def cost(self, predicted, now):
        return super().cost(predicted, now) - 4.5


class NegativeLimit(Energy):
    class Cap:
        name = "cap 5 W"

        def violation(self, predicted, now):
            return predicted.power_w / 5.0 - 1.0

    constraints = (Cap(),)


class NamelessLimit(NegativeLimit):
    class Cap(NegativeLimit.Cap):
        name = ""

        def violation(self, predicted, now):
            return np.zeros(len(predicted.power_w))

    constraints = (Cap(),)


class SleepyLimit(Energy):
    class Cap:
        name = "cap 5 W"

        def violation(self, predicted, now):
            time.sleep(0.06)
            return np.zeros(len(predicted.power_w))

    constraints = (Cap(),)


class NoLimits(Energy):
    constraints = None


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (Scalar, r"one number per state, shape \(n,\) = \(540,\); it gave \(\)"),
        (Column, r"one number per state, .* it gave \(540, 1\)"),
        (Words, "must give real numbers"),
        (NotANumber, r"\d+ of 540 ordinary states cost NaN"),
        (WrongWayRound, "lower is better, but a state that draws 20 % more power at the same speed costs less"),
        (LikesTheSlow, "lower is better, but a state that is 20 % slower at the same power costs less"),
        (SeesTheOrder, "depends on order"),
        (SeesTheOthers, "something else when it is asked about with fewer others"),
        (SeesTheHottest, "something else when it is asked about with fewer others"),
        (Loops, "not vectorised: .* lines of Python run for 500 states"),
        (Vectorize, "not vectorised"),
        (Slow, r"too slow: asking the cost of 540 states took 0\.\d+ s of work"),
        (Sleeps, r"it waits: asking the cost of 540 states took 0\.\d+ s, of which 0\.0\d s were work"),
        (Raises, "objective raised AttributeError: .*'watts'"),
        (RaisesForOne, "objective raised IndexError: only one state"),
        (NeedsATotal, "objective raised TypeError"),
        (Writes, "what it is given is read-only: compute in a copy"),
        (Forgets, "the same states cost something else when asked again"),
        (Indifferent, "every state costs the same"),
        (TwoSigns, "some states cost less than 0 and some more"),
        (NegativeLimit, "constraint 'cap 5 W': a violation is 0 or above"),
        (NamelessLimit, "a constraint has a name"),
        (SleepyLimit, "it waits: constraint 'cap 5 W' for 540 states took"),
        (NoLimits, r"constraints must be a tuple .* they are None"),
    ],
)
def test_an_objective_with_a_fault_is_told_which(plugin: type, words: str):
    with pytest.raises(BrokenPromise, match=words):
        check_objective(plugin())


def test_a_plugin_that_hangs_is_interrupted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(promises, "LIMIT_S", 0.2)
    with pytest.raises(BrokenPromise, match=r"no answer within 0\.2 s"):
        check_objective(Hangs())


def test_several_faults_are_several_lines():
    class Both(WrongWayRound):
        def cost(self, predicted, now):
            return [hz / watts for hz, watts in zip(predicted.rate_hz, predicted.power_w, strict=True)]

    with pytest.raises(BrokenPromise) as told:
        check_objective(Both())
    assert len(str(told.value).splitlines()) >= 3


def test_work_is_counted_in_lines_of_python():
    numbers = np.arange(1000.0)
    assert lines_run(lambda: numbers * 2) < 5
    assert lines_run(lambda: [number * 2 for number in numbers]) > 500


# Models ---------------------------------------------------------------------------------------------------------------


class Model:
    """Ours, with a fault built in."""

    def __init__(self, spoil=lambda predicted, states: predicted, fitted=lambda seen: None) -> None:
        self.spoil, self.fitted = spoil, fitted

    def fit(self, space, observations, *, prior=None, warm=None):
        self.fitted(observations)
        return Spoiled(overlap().fit(space, observations), self.spoil)


class Spoiled:
    def __init__(self, inside, spoil) -> None:
        self.inside, self.spoil = inside, spoil
        self.status, self.sentence = inside.status, inside.sentence

    def predict(self, states):
        return self.spoil(self.inside.predict(states), states)

    def parameters(self):
        return ()


def raising_without(seen):
    if not seen:
        raise ZeroDivisionError("no observations")


def mean_of_all(predicted: Prediction, states) -> Prediction:
    return replace(predicted, rate_hz=np.full(len(states), 40.0), power_w=predicted.power_w)


def one_by_one(predicted: Prediction, states) -> Prediction:
    return replace(predicted, rate_hz=np.array([float(hz) for hz in predicted.rate_hz]))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            Model(lambda p, s: replace(p, rate_hz=p.rate_hz[:1])),
            r"one rate_hz per state, shape \(540,\); it has \(1,\)",
        ),
        (Model(lambda p, s: replace(p, rate_hz=np.full(len(s), np.nan))), "still predicts NaN everywhere"),
        (Model(lambda p, s: replace(p, rate_hz=np.sort(p.rate_hz))), "depends on order"),
        (Model(mean_of_all), "does not learn: its rate is off by"),
        (Model(one_by_one), "not vectorised"),
        (Model(fitted=raising_without), "ZeroDivisionError: no observations"),
        (Model(fitted=lambda seen: time.sleep(0.07)), "it waits: a fit to 12 measured states"),
        (
            Model(fitted=lambda seen: seen and isinstance(seen, list) and seen.pop()),
            "fitting changes what was measured",
        ),
        (Model(lambda p, s: replace(p, power_w=p.power_w * np.random.default_rng().random())), "another model"),
    ],
)
def test_a_model_with_a_fault_is_told_which(model: Model, words: str):
    with pytest.raises(BrokenPromise, match=words):
        check_model(model)  # type: ignore[arg-type]


# Searches -------------------------------------------------------------------------------------------------------------


class Search:
    def __init__(self, spoil) -> None:
        self.spoil = spoil

    def best(self, space, score, start):
        return self.spoil(exhaustive().best(space, score, start), space, score, start)


def worst(choice, space, score, start):
    scored = score(space.states)
    at = int(np.argmax(scored.cost))
    return replace(
        choice, state=int(space.states[at]), cost=float(scored.cost[at]), violation=float(scored.violation[at])
    )


def stays(choice, space, score, start):
    scored = score(np.array([start]))
    return replace(choice, state=start, cost=float(scored.cost[0]), violation=float(scored.violation[0]))


def blind_to_limits(choice, space, score, start):
    return exhaustive().best(space, replace(score, constraints=()), start)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda choice, *_: replace(choice, state=10**6), "state 1000000, which the space does not have"),
        (lambda choice, *_: replace(choice, cost=0.0), "it says cost 0"),
        (worst, "worse than the one it started from"),
        (stays, "a tenth of all states costs less"),
        (blind_to_limits, "it says cost .* and violation 0 of its choice"),
        (lambda *_: 1 / 0, "ZeroDivisionError"),
        (lambda choice, *_: time.sleep(0.07) or choice, "it waits: a search over 540 states"),
    ],
)
def test_a_search_with_a_fault_is_told_which(spoil, words: str):
    with pytest.raises(BrokenPromise, match=words):
        check_search(Search(spoil))  # type: ignore[arg-type]


# Samplers -------------------------------------------------------------------------------------------------------------


class Sampler:
    def __init__(self, spoil) -> None:
        self.spoil, self.inside = spoil, paper()

    def next(self, space, fit, score, observations, remaining_work, total_work):
        stay = self.inside.next(space, fit, score, observations, remaining_work, total_work)
        return self.spoil(stay, space, observations, total_work)


def never_enough(stay, space, observations, total_work):
    return Stay(state=int(space.states[len(observations) % len(space)]), beats=1, power_samples=1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda stay, *_: None, "it names no state to begin with"),
        (lambda stay, *_: stay and replace(stay, state=-5), "state -5, which the space does not have"),
        (lambda stay, *_: stay and replace(stay, beats=0, steps=0.0, power_samples=0), "for no beats, no steps"),
        (never_enough, "it tries more than 40 of 540 states"),
        (lambda stay, space, seen, total: stay if isfinite(total) else None, "it raised TypeError"),
        (lambda stay, *_: stay and replace(stay, beats=float("nan")), "numbers that are none"),
        (lambda stay, *_: stay and replace(stay, beats=-3, power_samples=9), "numbers below 0"),
        (lambda stay, *_: stay and replace(stay, beats=10**9), "it wants 1e[+]09 beats"),
        (lambda stay, *_: time.sleep(0.06) or stay, "it waits: one stay"),
    ],
)
def test_a_sampler_with_a_fault_is_told_which(spoil, words: str):
    with pytest.raises(BrokenPromise, match=words):
        check_sampler(Sampler(spoil))  # type: ignore[arg-type]


# Detectors ------------------------------------------------------------------------------------------------------------


class Detector:
    def __init__(self, answer) -> None:
        self.answer, self.inside = answer, difference()

    def update(self, measured, *, predicted, std):
        return self.answer(self.inside.update(measured, predicted=predicted, std=std), measured)

    def reset(self):
        self.inside.reset()


class NeverForgets(Detector):
    def reset(self):
        pass


def raising_for_odd(changed, measured):
    return changed if isfinite(1 / measured) else None


@pytest.mark.parametrize(
    ("detector", "words"),
    [
        (Detector(lambda changed, measured: True), "in 300 windows of a steady signal .* it sees 300 changes"),
        (Detector(lambda changed, measured: False), "does not see that the signal went to 2 times its level"),
        (Detector(lambda changed, measured: 1 if changed else 0), "update answers True or False"),
        (Detector(lambda changed, measured: measured > 7.0), "something else in milliwatts than in watts"),
        (Detector(raising_for_odd), "ZeroDivisionError"),
        (NeverForgets(lambda changed, measured: changed), "after reset it still holds the new level"),
        (Detector(lambda changed, measured: time.sleep(0.001) or changed), "it waits: 100 windows"),
    ],
)
def test_a_detector_with_a_fault_is_told_which(detector: Detector, words: str):
    with pytest.raises(BrokenPromise, match=words):
        check_detector(detector)  # type: ignore[arg-type]


def test_in_another_thread_the_checks_work_too_without_the_interruption():
    told: list[list[str]] = []
    thread = threading.Thread(target=lambda: told.append(broken(detector_promises(difference()))))
    thread.start()
    thread.join()
    assert told == [[]]


def test_one_that_is_slow_to_answer_everything_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(promises, "WHOLE_S", 0.1)
    asked = []

    def slow() -> None:
        asked.append(1)
        time.sleep(0.04)

    faults = promises.broken([slow] * 100)
    assert faults == ["it took more than 0.1 s to answer so far, and was asked for no more"]
    assert len(asked) < 6


def test_after_one_answer_that_never_came_the_others_are_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(promises, "LIMIT_S", 0.1)
    faults = promises.broken([lambda: None, *[lambda: time.sleep(600)] * 20])
    assert len(faults) == 1
    assert "no answer within 0.1 s" in faults[0]
