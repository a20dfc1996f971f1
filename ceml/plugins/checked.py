"""The user's objective, sampler and search, looked at on every call: what they do wrong is said in one sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ceml.domain.contracts import Constraint
from ceml.domain.ondemand import changed
from ceml.domain.values import Choice, Stay
from ceml.errors import SettingsError, place_in_plugin, raised_by_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import ChangeDetector, Fit, Objective, Sampler, Score, Search
    from ceml.domain.knobs import KnobSpace
    from ceml.domain.values import Observation, Prediction, Situation

_AMOUNTS = ("beats", "steps", "power_samples", "longest_s", "patience")
ANSWER_S = 0.02  # of an objective, for all states of a board: a decision asks up to a hundred times, and all else waits


class CheckedConstraint:
    """A constraint whose violations are numbers of the right shape, or a `SettingsError` is raised."""

    def __init__(self, owner: str, constraint: Constraint) -> None:
        self._owner = owner
        self.inside = constraint

    @property
    def name(self) -> str:
        """What a person calls it."""
        return str(self.inside.name)

    def violation(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """Relative excess of each state, shape (n,)."""
        what = f"constraint {self.name!r} of {self._owner}"
        return checked(what, self.inside.violation, predicted, now)


def bare(constraint: Constraint) -> Constraint:
    """The constraint itself, without the looking at it."""
    return constraint.inside if isinstance(constraint, CheckedConstraint) else constraint


class CheckedObjective:
    """An objective whose costs are numbers of the right shape, or a `SettingsError` is raised.

    Args:
        name: What the user calls it; empty where there is only one to speak of.
        objective: The user's; without `constraints` it has none.
    """

    def __init__(self, name: str, objective: Objective) -> None:
        self.name = name
        self._called = f"objective {name}".rstrip()
        self._objective = objective
        given = getattr(objective, "constraints", ())
        if not isinstance(given, tuple | list) or not all(isinstance(each, Constraint) for each in cast("Any", given)):
            raise SettingsError(
                f"{self._called}: its constraints must be a tuple of things with a name and a "
                f"violation(predicted, now), () for none; they are {given!r}"
            )
        self._constraints = tuple(CheckedConstraint(self._called, each) for each in cast("Sequence[Constraint]", given))

    @property
    def constraints(self) -> Sequence[Constraint]:
        """Those that belong to the objective itself."""
        return self._constraints

    def cost(self, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
        """Cost of each state, shape (n,); NaN and infinite ones make their states infeasible."""
        return checked(self._called, self._objective.cost, predicted, now)


class CheckedSampler:
    """A sampler whose stays are of states that there are, for so many steps, or a `SettingsError` is raised."""

    def __init__(self, name: str, sampler: Sampler) -> None:
        self.inside = sampler
        self._called = f"sampler {name}"

    def next(
        self,
        space: KnobSpace,
        fit: Fit,
        score: Score,
        observations: Sequence[Observation],
        remaining_work: float | None,
        total_work: float | None,
    ) -> Stay | None:
        """The next stay; None hands over to the search."""
        stay = cast("object", self.inside.next(space, fit, score, observations, remaining_work, total_work))
        if stay is None:
            return None
        if not isinstance(stay, Stay):
            raise SettingsError(f"{self._called} must give a Stay, or None; it gave {_short(stay)}")
        for name, value in (("state", stay.state), *((name, getattr(stay, name)) for name in _AMOUNTS)):
            if not isinstance(cast("object", value), int | float | np.number):
                raise SettingsError(f"{self._called}: {name} of a Stay must be a number; it is {_short(value)}")
            if name != "state" and not value >= 0:
                raise SettingsError(f"{self._called}: {name} of a Stay must be 0 or more; it is {value}")
        there(self._called, stay.state, space)
        return stay


class CheckedSearch:
    """A search whose choices are states that there are, or a `SettingsError` is raised."""

    def __init__(self, name: str, search: Search) -> None:
        self._search = search
        self._called = f"search {name}"

    def best(self, space: KnobSpace, score: Score, start: int) -> Choice:
        """The best state, starting from `start`."""
        choice = cast("object", self._search.best(space, score, start))
        if not isinstance(choice, Choice):
            raise SettingsError(f"{self._called} must give a Choice; it gave {_short(choice)}")
        there(self._called, choice.state, space)
        return choice


class CheckedDetector:
    """A detector that answers True or False, or a `SettingsError` is raised."""

    def __init__(self, name: str, detector: ChangeDetector) -> None:
        self._detector = detector
        self._called = f"detector {name}"

    def update(self, measured: float, *, predicted: float, std: float) -> bool:
        """Feed one window's value."""
        answer = cast("object", self._detector.update(measured, predicted=predicted, std=std))
        if not isinstance(answer, bool | np.bool_):
            raise SettingsError(f"{self._called} must answer True or False; it gave {_short(answer)}")
        return bool(cast("Any", answer))

    def reset(self) -> None:
        """Forget the past."""
        self._detector.reset()


def there(what: str, state: Any, space: KnobSpace) -> None:
    """Whether a plugin chose a state that there is.

    Raises:
        SettingsError: It did not.
    """
    whole = isinstance(state, int) or isinstance(state, np.integer)
    good = whole and 0 <= int(cast("int", state)) < len(space.present) and bool(space.present[state])
    if not good:
        told = f"{what} chose state {_short(state)}, which is none of the {len(space)} that there are"
        raise SettingsError(f"{told}: choose one of space.states")


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 60 else f"{told[:57]}..."


def checked(what: str, ask: Any, predicted: Prediction, now: Situation) -> NDArray[np.float64]:
    """Call a plugin's function; its answer as real numbers of shape (n,).

    Raises:
        SettingsError: It raised, or answered with something else.
    """
    try:
        answer = np.asarray(ask(_read_only(predicted), now))
    except ValueError as error:
        hint = "; what it is given is read-only: compute in a copy" if "read-only" in str(error) else ""
        raise SettingsError(f"{what} raised {_told(error)}{hint}") from error
    except BaseException as error:  # the user's own code: whatever it raises is said in words
        if not raised_by_code(error):
            raise
        raise SettingsError(f"{what} raised {_told(error)}") from error
    expected = predicted.rate_hz.shape
    if answer.shape != expected:
        raise SettingsError(f"{what} must give one number per state, shape (n,) = {expected}; it gave {answer.shape}")
    if answer.dtype.kind not in "fiub":
        raise SettingsError(f"{what} must give real numbers; it gave {answer.dtype}")
    return answer.astype(np.float64, copy=False)


def _told(error: BaseException) -> str:
    place = place_in_plugin(error)
    return f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")


def _read_only(predicted: Prediction) -> Prediction:
    """The same numbers, safe from a plugin that changes its input in place."""
    covariance = predicted.covariance
    return replace(
        predicted,
        rate_hz=_copy(predicted.rate_hz),
        power_w=_copy(predicted.power_w),
        rail_w=changed(predicted.rail_w, lambda _, watts: _copy(watts)),
        rail_std=changed(predicted.rail_std, lambda _, sds: _copy(sds)),
        covariance=None if covariance is None else _copy(covariance),
    )


def _copy(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read-only, so that writing is noticed; and a copy, since whoever sets the flag again writes all the same."""
    seen = np.array(numbers)
    seen.setflags(write=False)
    return seen
