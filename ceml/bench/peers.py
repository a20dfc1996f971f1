"""Optimisers of others as strategies: Optuna's TPE and a Gaussian process of scikit-learn with expected improvement.

Both are development dependencies and are imported only where they are asked for.
"""

from __future__ import annotations

import math
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ceml.bench.session import Trials
    from ceml.domain.knobs import KnobSpace

FIRST_AT_RANDOM = 5
_LEAST_STD = 1e-12


def missing(package: str) -> bool:
    """Whether a package (as imported) is not here."""
    return find_spec(package) is None


def tpe(space: KnobSpace, seed: int, count: int) -> Trials:
    """Tree-structured Parzen estimator of Optuna with its defaults, over the places of the levels.

    A proposal that is absent from the space stands for the present state nearest to it.
    """
    optuna: Any = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    tops = [max(float(np.max(np.abs(knob.numbers))), 1e-300) for knob in space.knobs]
    for _ in range(count):
        trial = study.ask()
        shares: list[float] = []
        for knob, top in zip(space.knobs, tops, strict=True):
            places = len(knob.levels)
            if knob.ordered:
                place = trial.suggest_int(knob.name, 0, places - 1)
            else:
                place = trial.suggest_categorical(knob.name, list(range(places)))
            shares.append(float(knob.numbers[place]) / top)
        cost = yield space.nearest(shares)
        if math.isfinite(cost):
            study.tell(trial, cost)
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)


def gaussian_process(space: KnobSpace, seed: int, count: int) -> Trials:
    """Expected improvement by a Gaussian process: Matern 5/2 on ln(level) and ln(cost), a few states at random first.

    Each knob has a length of its own and the noise is fitted with them (scikit-learn, its default optimiser); a state
    is held once.
    """
    rng = np.random.default_rng((seed, 2))
    features = ln_levels(space)
    first = rng.permutation(len(space))[: min(FIRST_AT_RANDOM, count)]
    tried: list[int] = []
    costs: list[float] = []
    while len(tried) < min(count, len(space)):
        if len(tried) < len(first):
            place = int(first[len(tried)])
        else:
            place = _most_promising(features, tried, np.array(costs), rng)
        cost = yield int(space.states[place])
        tried.append(place)
        costs.append(cost)


def ln_levels(space: KnobSpace) -> NDArray[np.float64]:
    """Ln of the levels of every present state, each knob from 0 to 1, shape (states, features).

    A level of a knob without order is a feature of its own; knobs with one level are none. Levels of zero or less
    have no logarithm: such a knob is taken as it is.
    """
    columns: list[NDArray[np.float64]] = []
    values, places = space.values(space.states), space.places(space.states)
    for axis, knob in enumerate(space.knobs):
        if len(knob.levels) < 2:
            continue
        if not knob.ordered:
            columns += [np.where(places[:, axis] == place, 1.0, 0.0) for place in range(len(knob.levels))]
            continue
        levels = np.log(knob.numbers) if float(knob.numbers[0]) > 0.0 else knob.numbers
        here = np.log(values[:, axis]) if float(knob.numbers[0]) > 0.0 else values[:, axis]
        columns.append((here - levels[0]) / (levels[-1] - levels[0]))
    return np.stack(columns, axis=1) if columns else np.zeros((len(space), 1))


def _most_promising(
    features: NDArray[np.float64], tried: list[int], costs: NDArray[np.float64], rng: np.random.Generator
) -> int:
    """The state of largest expected improvement among those not held yet; at random while two costs are not known."""
    left = np.setdiff1d(np.arange(len(features)), tried)
    known = np.isfinite(costs) & (costs > 0.0)
    if np.count_nonzero(known) < 2:
        return int(rng.choice(left))
    ln_cost = np.log(costs[known])
    spread = float(ln_cost.std()) or 1.0
    aim = (ln_cost - ln_cost.mean()) / spread
    mean, std = _posterior(features[np.array(tried)[known]], aim, features[left])
    better = float(aim.min()) - mean
    z = better / std
    cdf = import_module("scipy.special").ndtr(z)
    gain = better * cdf + std * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return int(left[int(np.argmax(gain))])


def _posterior(
    known: NDArray[np.float64], aim: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the noise-free signal, shape (n,) each."""
    sklearn: Any = import_module("sklearn.gaussian_process")
    kernels: Any = import_module("sklearn.gaussian_process.kernels")
    bounded: Any = import_module("sklearn.exceptions").ConvergenceWarning
    signal = kernels.ConstantKernel(1.0, (1e-2, 1e2)) * kernels.Matern(np.ones(known.shape[1]), (5e-2, 1e2), nu=2.5)
    process = sklearn.GaussianProcessRegressor(signal + kernels.WhiteKernel(1e-3, (1e-6, 1e-1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bounded)  # a length at its bound is a knob without effect: no news
        process.fit(known, aim)
    mean, std = process.predict(wanted, return_std=True)
    variance = std**2 - process.kernel_.k2.noise_level
    return mean, np.sqrt(np.maximum(variance, _LEAST_STD))
