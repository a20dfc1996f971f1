"""Beats and samples become an `Observation`: exactly the time in which one configuration was in force.

Steps that are stalls (stalls.py says which) are left out of the rate, and the power meanwhile out of the power; how
many there were, and for how long, is said. Their energy was spent all the same: the ledger counts samples, not windows.

A program whose steps repeat (rhythm.py) is measured in whole periods: what is said below of a step is true of a period.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from ceml.domain.stalls import NEVER, ONSET, Bin, Bins, Powers, Stalls, bin_of, spread_of, suspects
from ceml.domain.sums import Batches, Integral, Spread
from ceml.domain.values import NAN, Observation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ceml.domain.events import Heartbeat, Sampled
    from ceml.domain.knobs import Configuration

    _Piece = tuple[Mapping[int, float], Powers]  # samples, and the seconds by bin of the steps they reach back into

__all__ = ["Integral", "Spread", "Window"]

ALMOST = 1.0 - 1e-9  # sums of fractions of steps
CLAIMS = 0.1  # share of the time of the steps that a piece of power touches, from which on the slowest claim it
_LOWEST = -(1 << 40)
_NOBODY = Stalls()  # a program of which nothing is known; never taught


class Window:
    """Folds beats and samples in O(1) each, from the moment a configuration is in force.

    The first beat after `opens_s` only starts the clock: the step before it may have begun under another
    configuration. Samples count once they lie wholly inside, the sensor's lag included. A sample waits for the end of
    the step that it fell into. A piece of power between two samples belongs to the slowest steps that it touches and
    that last a tenth of all these: a hiccup of 2 ms says little of 100 ms, and a fast program may have one in each,
    if only because whoever samples takes its processor just then.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        opens_s: float,
        lag_s: float = 0.0,
        total_rails: tuple[str, ...] = (),
        started_s: float | None = None,
        period_work: float = 0.0,
    ) -> None:
        """Open a window.

        Args:
            configuration: What is in force.
            opens_s: From when on (settle time included).
            lag_s: By how much samples trail the truth.
            total_rails: Rails whose sum is the power of the whole board.
            started_s: The beat that starts the clock, where it is already known (windows that follow each other).
            period_work: Steps in a period of the program; 0: each beat counts at once.
        """
        self.configuration = configuration
        self.opens_s = opens_s
        self.beats = 0  # stalls included, as in `steps` and `power_samples`
        self.steps = 0.0
        self.bins: Bins = {}  # what was folded in so far, by seconds per step
        self.counts: dict[str, int] = {}  # samples per rail
        self._samples_from_s = opens_s + lag_s
        self._total_rails = total_rails
        self._start_s = NAN if started_s is None else started_s
        self._end_s = self._start_s
        self._period_work = period_work
        self._begun = (0, 0.0)  # beats and steps of the period that is not over yet
        self._latest = NEVER  # bin of the beat before; at first no beat is slower than the one before
        self._batches = Batches()
        self._since: dict[int, float] = {}  # seconds by bin of the steps that ended since the last sample
        self._waiting: list[_Piece] = []  # for the step that has not ended yet; two at most
        self._ends: dict[tuple[str, str], Integral] = {}  # where the signal of a rail or device ended
        self._sampled_s = NAN
        self._round_w: dict[str, float] = {}  # of the rails of the total, until each has spoken

    @property
    def end_s(self) -> float:
        """The last beat so far; NaN before the first."""
        return self._end_s

    @property
    def power_samples(self) -> int:
        """Samples of the whole board's power so far: those of the rail sampled least."""
        return min([self.counts.get(rail, 0) for rail in self._total_rails], default=0)

    def follow(self, before: Window) -> None:
        """Go on with the period that the window before ended in; it began where this one starts."""
        self._begun = before._begun

    def beat(self, beat: Heartbeat) -> None:
        """Fold in a heartbeat; one from before the window, or not later than the last, is left out."""
        at_s, work = beat.at_s, beat.work
        if at_s < self.opens_s:
            return
        if self._start_s != self._start_s:  # not started yet
            self._start_s = self._end_s = at_s
            if self._waiting and at_s > self.opens_s:  # of a step that is not counted, but long it may have been
                self._settle(bin_of((at_s - self.opens_s) / work), at_s - self.opens_s)
            return
        interval_s = at_s - self._end_s
        if interval_s <= 0.0:
            return
        beats = 1
        if self._period_work:
            self._begun = beats, work = self._begun[0] + 1, self._begun[1] + work
            if work < self._period_work * ALMOST:
                return
            self._begun = (0, 0.0)
        step_s = interval_s / work
        key = bin_of(step_s)
        place = self.bins.get(key)
        if place is None:
            place = self.bins[key] = Bin()
        place.beats += 1
        place.steps += work
        place.seconds += interval_s
        place.times += step_s
        place.squares += step_s * step_s
        if key - self._latest > ONSET or not self.beats:
            place.onsets += 1
        self._latest = key
        self._batches.add(interval_s, work)
        if self._waiting:
            self._settle(key, interval_s)
        self._since[key] = self._since.get(key, 0.0) + interval_s
        self.beats += beats
        self.steps += work
        self._end_s = at_s

    def _settle(self, key: int, seconds: float) -> None:
        """Samples that waited go to the steps that claim them, now that the last of these has ended."""
        _pour(self.bins, self._waiting, key, seconds)
        self._waiting = []

    def sample(self, sample: Sampled) -> None:
        """Fold in a sensor's poll; one that reaches back before the window is left out."""
        at_s, covers_s = sample.at_s, sample.covers_s
        if at_s - covers_s < self._samples_from_s:
            return
        if len(self._waiting) < 2:  # only the first piece reaches back into steps that have ended
            self._waiting.append((self._since, Powers()))
            self._since = {}
        powers = self._waiting[-1][1]
        rails, devices, counts = powers.rails, powers.devices, self.counts
        for rail, watts in sample.rails_w.items():
            if (rails.get(rail) or self._continued("rail", rails, rail)).add(at_s, watts, covers_s):
                counts[rail] = counts.get(rail, 0) + 1
        for device, share in sample.utilisation.items():
            (devices.get(device) or self._continued("device", devices, device)).add(at_s, share, covers_s)
        for rail in self._total_rails:
            if rail in sample.rails_w:
                self._round_w[rail] = sample.rails_w[rail]
        if len(self._round_w) == len(self._total_rails) > 0:  # several sensors may share in the total
            total_w = sum(self._round_w.values())
            self._round_w = {}
            if total_w == total_w:
                powers.watts.add(total_w)
        self._sampled_s = at_s

    def _continued(self, kind: str, totals: dict[str, Integral], name: str) -> Integral:
        """A new piece of a signal: it goes on where the one before ended."""
        total = totals[name] = self._ends[kind, name] = Integral(self._ends.get((kind, name)))
        return total

    def extend(self, later: Window) -> None:
        """Take in a later window; time between the two is no part of either, as if this one had begun later."""
        self._start_s += later._start_s - self._end_s
        for key, there in later.bins.items():
            self.bins.setdefault(key, Bin()).merge(there)
        self._batches.merge(later._batches)
        self.beats += later.beats
        self.steps += later.steps
        self._end_s = later.end_s
        for rail, count in later.counts.items():
            self.counts[rail] = self.counts.get(rail, 0) + count

    def teach(self, stalls: Stalls) -> None:
        """Let the program's memory of slow steps have this window's, once it is over."""
        stalls.learn(self.bins)

    @property
    def has_slow(self) -> bool:
        """Whether some steps were far slower than the others, stalls or not."""
        return max(self.bins, default=0) > suspects(self.bins)[1]

    def observe(self, stalls: Stalls = _NOBODY, *, learnt: bool = False) -> Observation:
        """What was measured so far; rate NaN where no interval between beats was counted.

        Args:
            stalls: What is known of this program's slow steps.
            learnt: Whether this window's are among them.
        """
        bar = stalls.above(self.bins, learnt=learnt)
        clean = [b for key, b in self.bins.items() if key <= bar]
        outlying = [b for key, b in self.bins.items() if key > bar] if bar != NEVER else []
        powers = Powers()
        for place in clean:
            if place.powers is not None:
                powers.merge(place.powers)
        unfinished: Bins = {}
        if self._waiting:
            going_on_s = max(self._sampled_s - (self._end_s if self.beats else self.opens_s), 0.0)
            key = bin_of(going_on_s / (self._period_work or 1.0)) if going_on_s else _LOWEST
            _pour(unfinished, self._waiting, key, going_on_s)
        for key, place in unfinished.items():
            if key <= bar and place.powers is not None:
                powers.merge(place.powers)
        outlier_s = sum([b.seconds for b in outlying])
        whole = sum([b.beats for b in self.bins.values()])
        beats_each = self.beats / whole if whole else 1.0  # of a period
        beats = round(beats_each * sum([b.beats for b in clean]))
        steps = self.steps - sum([b.steps for b in outlying])
        counts = [powers.rails[rail].count if rail in powers.rails else 0 for rail in self._total_rails]
        total = [powers.rails[rail].mean if rail in powers.rails else NAN for rail in self._total_rails]
        step_cv, steady_cv = spread_of(clean), NAN if outlying else self._batches.cv
        if steady_cv < step_cv:
            step_cv = steady_cv
        return Observation(
            configuration=self.configuration,
            start_s=self._start_s,
            end_s=self._end_s,
            beats=beats,
            steps=steps,
            rate_hz=steps / (self._end_s - self._start_s - outlier_s) if beats else NAN,
            power_w=sum(total) if total else NAN,
            rail_w={rail: power.mean for rail, power in powers.rails.items() if power.count},
            utilisation={device: share.mean for device, share in powers.devices.items() if share.count},
            power_samples=min(counts, default=0),
            step_cv=step_cv * sqrt(beats_each),  # as if periods were not known: beats are what is counted
            power_cv=powers.watts.cv,
            outliers=round(beats_each * sum([b.beats for b in outlying])),
            outlier_s=outlier_s,
        )


def _claimed(seconds: Mapping[int, float]) -> int:
    """The slowest bin from which on steps last a tenth of the time."""
    left_s = CLAIMS * sum(seconds.values())
    for key in sorted(seconds, reverse=True):
        left_s -= seconds[key]
        if left_s <= 0.0:
            return key
    return _LOWEST


def _pour(bins: Bins, waiting: Iterable[_Piece], key: int, seconds: float) -> None:
    """Give samples to the bins that claim them; the last step is of bin `key` and lasted `seconds`."""
    for since, powers in waiting:
        place = bins.setdefault(_claimed({**since, key: since.get(key, 0.0) + seconds}), Bin())
        place.powers = place.powers or Powers()
        place.powers.merge(powers)
