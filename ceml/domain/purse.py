"""What trials may cost while idle: a share of the energy, or of the time where no power is measured.

It counts from the first commitment on; what the first profiling cost lies before that. All energy that flows while a
trial is in force is spent on trials, not only what a better state would have saved: that is what a person can check.
The share is of the whole run after that commitment: of what was spent, and of what the rest is expected to take where
the application said how many steps it has. Where it did not, of what was spent so far, so that the share holds at any
time. Where more power is allowed than ever before, there are states that nobody had reason to look at: what was spent
in advance until then is forgiven, so that the rest of the run has its share.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from ceml.domain.stays import expected_s
from ceml.domain.values import NAN

if TYPE_CHECKING:
    from ceml.domain.events import Sampled
    from ceml.domain.values import Observation, Stay

LEAST = 0.5  # part of what a trial needs that must be left, or it tells too little
LEAST_PERIODS = 2.0  # of the sensor, likewise: a trial of a fast program would else end before any power was read


class Purse:
    """Adds up what was spent, on trials and in all. J; seconds where there are no rails to read.

    Attributes:
        spent: In all since it was opened.
        on_trials: Of that, while a trial was in force.
        period_s: Seconds between the latest two polls.
    """

    def __init__(self, share: float, total_rails: tuple[str, ...]) -> None:
        self.spent = 0.0
        self.on_trials = 0.0
        self.period_s = 0.0
        self._share = share
        self._rails = dict.fromkeys(total_rails, NAN)
        self._watts = NAN if total_rails else 1.0
        self._at_s = NAN
        self._sampled_s = NAN
        self._latest = 0.0  # what came in last
        self._opened = False
        self._whole = 0.0  # what the whole run is expected to take
        self._forgiven = 0.0  # of what was spent on trials

    @property
    def opened(self) -> bool:
        """Whether the first profiling is over."""
        return self._opened

    def open(self) -> None:
        """From now on what is spent counts."""
        self._opened = True

    def close(self) -> None:
        """The program is another one: its first profiling begins."""
        self._opened, self.spent, self.on_trials, self._whole, self._forgiven = False, 0.0, 0.0, 0.0, 0.0

    def forgive(self) -> None:
        """There is something new to try: what was spent in advance, on the energy still to come, counts no more."""
        self._forgiven = max(self._forgiven, self.on_trials - self._share * self.spent)

    def sampled(self, sample: Sampled, *, trying: bool) -> None:
        """Take in a poll; the latest reading of each rail holds until the next."""
        for rail in self._rails:
            watts = sample.rails_w.get(rail, NAN)
            if isfinite(watts):
                self._rails[rail] = max(watts, 0.0)
        if self._rails:
            self._watts = sum(self._rails.values())
        if sample.at_s > self._sampled_s:
            self.period_s = sample.at_s - self._sampled_s
        self._sampled_s = sample.at_s
        self.passed(sample.at_s, trying=trying)

    def pause(self) -> None:
        """The program is away: time passes without it."""
        self._at_s = self._sampled_s = NAN

    def passed(self, at_s: float, *, trying: bool) -> None:
        """Time has passed."""
        since_s = self._at_s
        if at_s <= since_s:  # beats and samples come by different ways
            return
        self._at_s = at_s
        spent = self._watts * (at_s - since_s)
        if not self._opened or spent != spent:
            return
        self._latest = spent
        self.spent += self._latest
        if trying:
            self.on_trials += self._latest

    def allowance(self, cost: float, ahead: float) -> float:
        """What is left for a trial that would take `cost`; `ahead` is what the rest of the run takes, 0 where unknown.

        Nothing is left where `cost` is no number.
        """
        self._whole = self.spent + (ahead if isfinite(ahead) else 0.0)
        if not isfinite(cost):
            return 0.0
        return self._share * max(self._whole, self.spent + cost) - self.on_trials + self._forgiven

    def afforded(
        self, stay: Stay, here: Observation, there: tuple[float, float], left: float, *, sampled: bool
    ) -> Stay | None:
        """A trial as long as may be spent on it; None where that is too short to tell much.

        Args:
            stay: What is asked for.
            here: What was last measured while idle; it stands in for what is not known of the trial.
            there: Rate and power expected on trial; NaN where nobody knows.
            left: Steps still to do; 0 where unknown.
            sampled: Whether power samples will come.
        """
        rate_hz = there[0] if there[0] > 0.0 else here.rate_hz
        here_w, there_w = (here.power_w, there[1] if there[1] > 0.0 else here.power_w) if self._rails else (1.0, 1.0)
        period_s = self.period_s if sampled else 0.0
        trial_s = expected_s(stay, rate_hz, period_s)
        allowed_s = self.allowance(trial_s * there_w, left / here.rate_hz * here_w) / there_w
        enough = allowed_s >= max(trial_s * LEAST, period_s * LEAST_PERIODS)
        return replace(stay, longest_s=min(stay.longest_s, allowed_s)) if enough else None

    @property
    def exhausted(self) -> bool:
        """Whether the trial in force must end, since one more reading, of twice the latest, could be too much."""
        if not self._opened:
            return False
        allowed = self._share * max(self._whole, self.spent + 2.0 * self._latest)
        return self.on_trials - self._forgiven + 2.0 * self._latest > allowed
