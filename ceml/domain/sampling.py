"""Which state to measure next, and for how long: the paper's seven profiling states (C15, C16)."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isfinite
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.values import Prediction, Stay
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Constraint, Fit, Score
    from ceml.domain.knobs import Configuration, KnobSpace
    from ceml.domain.values import Observation

# C15 in GHz (CPU, GPU, memory), with the real levels of the Jetson TX2 behind the paper's rounded numbers.
_SEVEN_GHZ = (
    (2.0352, 1.3005, 1.866),
    (1.4208, 0.82875, 0.6656),
    (1.4208, 0.42075, 1.3312),
    (0.8064, 0.82875, 1.3312),
    (0.8064, 0.42075, 1.0624),
    (0.8064, 0.62475, 0.6656),
    (1.1136, 0.42075, 0.6656),
)
_TOP_GHZ = _SEVEN_GHZ[0]
_KNOBS = ("cpu_hz", "gpu_hz", "mem_hz")

SEVEN: tuple[dict[str, float], ...] = tuple(
    {knob: ghz / top for knob, ghz, top in zip(_KNOBS, state, _TOP_GHZ, strict=True)} for state in _SEVEN_GHZ
)
"""The paper's profiling states as shares of each device's maximum, in order; the first is the maximum itself."""

HALVINGS = 4  # of the way down to the lowest state, for a state that breaks a cap
_LEAST_BEATS = 3  # ceml.md 1.6: 1 % of the steps, rounded up, but never fewer than three heartbeats


def seven_states(space: KnobSpace) -> list[int]:
    """The seven states mapped to the nearest present ones; doubles dropped, order kept (ceml.md 1.6).

    Knobs that the paper does not know stay at their maximum; knobs that the space does not have are left out.
    """
    return list(dict.fromkeys(space.nearest(shares) for shares in _seven(space)))


def _seven(space: KnobSpace) -> NDArray[np.float64]:
    return np.array([[wanted.get(knob.name, 1.0) for knob in space.knobs] for wanted in SEVEN])


@dataclass(frozen=True, kw_only=True)
class PaperSampler:
    """Every profiling state once, in order, then the search (C14, C15).

    The plan is made anew each time it is asked: when a state proved unreachable and left the space, the nearest one
    that is left stands in.

    Under a cap on power, which the paper ignores while it profiles, the plan climbs, the lowest state first. For one
    that breaks the cap, or is at least as high in every knob as one that does, the state halfway down to the lowest
    stands in: the model needs as many states as it has unknowns.

    Attributes:
        beats: Heartbeats per state; None: by `share`.
        share: Steps per state as share of the application's total (C16).
        default_beats: Heartbeats per state where the application announced no total.
        power_samples: Power samples per state.
    """

    beats: int | None
    share: float
    default_beats: int
    power_samples: int

    def next(
        self,
        space: KnobSpace,
        fit: Fit,
        score: Score,
        observations: Sequence[Observation],
        remaining_work: float | None,
        total_work: float | None,
    ) -> Stay | None:
        """The first profiling state that was not measured yet; None when all were."""
        if not len(space):
            return None
        measured = {observation.configuration for observation in observations}
        if caps := score.power_caps:
            plan = _climb(space, [seen.configuration for seen in observations if _breaks(seen, caps, score)])
        else:
            plan = seven_states(space)
        for number, state in enumerate(plan, start=1):
            if space.configuration(state) not in measured:
                return self._stay(state, total_work, f"profiling state {number} of {len(plan)}")
        return None

    def _stay(self, state: int, total_work: float | None, why: str) -> Stay:
        """C16: N heartbeats, or as many as `share` of all steps takes."""
        if self.beats is not None:
            return Stay(state=state, beats=self.beats, power_samples=self.power_samples, why=why)
        if total_work is None or not (isfinite(total_work) and total_work > 0):
            return Stay(state=state, beats=self.default_beats, power_samples=self.power_samples, why=why)
        steps = float(ceil(round(self.share * total_work, 6)))  # 1 % of 700 is 7, not 7.000000000000001
        return Stay(state=state, beats=_LEAST_BEATS, steps=steps, power_samples=self.power_samples, why=why)


def _breaks(seen: Observation, caps: Sequence[Constraint], score: Score) -> bool:
    """Whether a state was measured above a cap; where no power was measured nothing is known."""
    measured = Prediction.measured(seen)
    return isfinite(seen.power_w) and any(cap.violation(measured, score.now)[0] > 0.0 for cap in caps)


def _climb(space: KnobSpace, broken: Sequence[Configuration]) -> list[int]:
    """From low clocks to high ones, by the sum of their shares; what has to break a cap is replaced.

    Shares are held against shares: a state that was measured above a cap may have left the space.
    """
    levels = space.level_shares
    too_high = [
        np.array([share[knob.levels.index(each[knob.name])] for knob, share in zip(space.knobs, levels, strict=True)])
        for each in broken
        if all(each.get(knob.name) in knob.levels for knob in space.knobs)  # an earlier run may have had other levels
    ]
    seven = _seven(space)
    seven = seven[np.argsort(seven.sum(axis=1), kind="stable")]
    climb: dict[int, None] = {}
    for shares in seven:
        for halved in range(HALVINGS + 1):
            wanted = seven[0] + (shares - seven[0]) / 2.0**halved
            nearest = [share[np.argmin(np.abs(share - want))] for share, want in zip(levels, wanted, strict=True)]
            if not any(np.all(np.array(nearest) >= high) for high in too_high):
                climb[space.nearest(wanted)] = None
                break
    return list(climb)


def paper(
    *, beats: int | None = None, share: float = 0.01, default_beats: int = 20, power_samples: int = 5
) -> PaperSampler:
    """The paper's seven profiling states, each for 1 % of all steps, then the search.

    Args:
        beats: Heartbeats to count in each state; None: as many as `share` takes.
        share: Part of all steps spent in each state, where the application announced how many there are.
        default_beats: Heartbeats in each state where it did not.
        power_samples: Power samples to wait for in each state, where there is a power sensor.

    Raises:
        SettingsError: A number out of its range.
    """
    for name, count in (("beats", beats), ("default_beats", default_beats)):
        if count is not None and count < 1:
            raise SettingsError(f"{name} = {count} of sampler paper: at least 1 heartbeat must be counted in a state")
    if power_samples < 0:
        raise SettingsError(f"power_samples = {power_samples} of sampler paper: give 0 or more")
    if not 0 < share <= 1:
        raise SettingsError(f"share = {share:g} of sampler paper: give a part of all steps, above 0 and at most 1")
    return PaperSampler(beats=beats, share=share, default_beats=default_beats, power_samples=power_samples)
