"""One application's time with the machine: what was measured in which state, and what that saves. Pure."""

from __future__ import annotations

from math import exp, isfinite
from typing import TYPE_CHECKING, NamedTuple

from ceml.domain.events import ConfigurationApplied, ConfigurationWithheld, Decided, RunStarted
from ceml.domain.knobs import Configuration
from ceml.domain.values import NAN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ceml.domain.values import Observation


SURELY = 1.96  # standard deviations on either side that hold 95 % of a normal distribution
MOST_NAMED = 4  # other programs
BASELINES = ("max frequencies", "configuration found", "max frequencies, as the model expects them", "first window")


def max_configuration(knobs: Mapping[str, Sequence[float | str]], found: Mapping[str, float | str]) -> Configuration:
    """Every ordered knob at its highest level; a category, which has none, as it was found."""
    highest = {name: levels[-1] for name, levels in knobs.items()}
    return Configuration({name: found.get(name, top) if isinstance(top, str) else top for name, top in highest.items()})


class Measured:
    """Mean rate and power over windows in one configuration, weighted by their duration."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.windows = 0
        self._steps = self._seconds = 0.0
        self._joules = self._powered_s = 0.0

    def add(self, seen: Observation) -> None:
        """Take in one window."""
        self.windows += 1
        self._steps += seen.steps
        self._seconds += seen.counted_s
        if isfinite(seen.power_w):
            self._joules += seen.power_w * seen.counted_s
            self._powered_s += seen.counted_s

    @property
    def rate_hz(self) -> float:
        """Steps per second; NaN where nothing was measured."""
        return self._steps / self._seconds if self._seconds > 0 else NAN

    @property
    def power_w(self) -> float:
        """Watts of the board; NaN where none were measured."""
        return self._joules / self._powered_s if self._powered_s > 0 else NAN

    @property
    def energy_j(self) -> float:
        """Joules per step; NaN where unknown."""
        return self.power_w / self.rate_hz if self.rate_hz > 0 else NAN


class Estimated(NamedTuple):
    """What the model expects of a configuration that was not measured."""

    configuration: Configuration
    rate_hz: float
    power_w: float
    energy_sd: float = NAN  # relative, as the model states it

    @property
    def energy_j(self) -> float:
        """Joules per step; NaN where unknown."""
        return self.power_w / self.rate_hz if self.rate_hz > 0 else NAN


FEW = 0.05  # of the time: in which others may come and go without spoiling a saving
VAGUE = 0.2  # width of an interval from which on no single figure is told: under caps the guess was 10 points too high


def saving_between(saving: float, baseline_sd: float) -> tuple[float, float]:
    """Where a saving lies with 95 %, given the relative standard deviation of the baseline's joules per step."""
    of = SURELY * baseline_sd
    return 1.0 - (1.0 - saving) * exp(of), 1.0 - (1.0 - saving) * exp(-of)


class Chapter:
    """One application's time with the machine.

    Attributes:
        app: Its name; empty before the first one.
        states: What was measured in each configuration that was in force, in order of first use.
        baseline: What savings are held against, best known so far: the max frequencies measured, else the
            configuration that was found, else the max frequencies as the model expects them, else the first window's;
            None before the first window.
        settled: What was measured since the latest decision; None before.
        latest: The latest window with a beat.
        decided: The latest decision.
        phase: `waiting`, `profiling`, `idle`, `paused` or, from the resumption to the first window, `resumed`.
        energy_j: Joules of the board while it held the machine and beat, stalls left out.
        before_change: What was measured before the program changed; it compares no more with `states`.
        others: Other programs that were here while windows were measured, the first few: power is of all of them.
        steps: Steps of which the energy was measured, stalls left out.
        stalled_s: Seconds in stalls: slow steps that windows left out, and silence from which it came back.
    """

    def __init__(self, app: str, at_s: float, started: RunStarted | None) -> None:
        self.app = app
        self.states: dict[Configuration, Measured] = {}
        self.baseline: Measured | Estimated | None = None
        self.settled: Measured | None = None
        self.before_change: dict[Configuration, Measured] = {}
        self.others: dict[str, None] = {}
        self.latest: Observation | None = None
        self.decided: Decided | None = None
        self.phase = "waiting"
        self.energy_j = 0.0
        self.steps = 0.0
        self.stalled_s = 0.0
        self._silent_since_s = NAN
        self.open(at_s)
        self._started = started
        self._before_pause = self.phase
        self._company: dict[int, list[float]] = {}  # how many others were here -> seconds settled, and profiling
        self._profiled_s = 0.0
        self._paused = False
        self._profiling_since_s: float | None = None
        self._priced_j = 0.0  # what the steps up to the last change of the program would have cost in the baseline
        self._steps_before = 0.0  # steps up to then
        self._proven: tuple[float, float] | None = None  # steps and joules up to the latest window, while it goes on

    def shared(self, apps: Sequence[str], seconds: float, phase: str) -> None:
        """These were here, too, while a window was measured; maybe nobody was."""
        company = self._company.setdefault(len(apps), [0.0, 0.0])
        company[phase == "profiling"] += seconds if isfinite(seconds) else 0.0
        for app in apps:
            if len(self.others) > MOST_NAMED:  # one more than are named: who floods us with names fills no memory
                return
            self.others[app] = None

    @property
    def others_in_words(self) -> str:
        """Their names, as many as are of use; empty where nobody else was here."""
        names = list(self.others)
        return " and ".join(names if len(names) <= MOST_NAMED else [*names[:MOST_NAMED], "others"])

    def open(self, at_s: float) -> None:
        """It has the machine, for the first time or again: energy and profiling count from here."""
        self.since_s, self._opened_j = at_s, self.energy_j
        self._profiled_to_s = at_s  # what was before is counted, or is none of its own
        self._here = bool(self.app)

    def begin(self, at_s: float) -> None:
        """Its first beat since then: nobody knows how long the steps before it took, so their energy does not count."""
        self.since_s, self.energy_j = at_s, self._opened_j
        if isfinite(self._silent_since_s):
            self.stalled_s += at_s - self._silent_since_s
            self._silent_since_s = NAN

    def fell_silent(self, since_s: float, energy_j: float) -> None:
        """Nothing was heard since that beat, up to which it had cost so much; what came after paid for no step."""
        self._silent_since_s, self.energy_j = since_s, min(self.energy_j, energy_j)

    def stalled(self, seconds: float, steps: float, energy_j: float) -> None:
        """Steps that were counted prove to be stalls: they tell nothing of what was turned, nor does their energy."""
        self.stalled_s += seconds
        self.steps -= steps
        self.energy_j -= energy_j

    @property
    def before_j(self) -> float:
        """Joules per step in the baseline; NaN where unknown."""
        return self.baseline.energy_j if self.baseline else NAN

    @property
    def after_j(self) -> float:
        """Joules per step since the latest decision; NaN where unknown."""
        return self.settled.energy_j if self.settled else NAN

    @property
    def mixed(self) -> bool:
        """Whether other programs were here in some windows and not in others, so that none compares with another.

        While profiling in any, since a model was made of them; later for more than `FEW` of the time.
        """
        profiled = sum(profiling_s > 0.0 for _, profiling_s in self._company.values())
        all_s = [sum(seconds) for seconds in self._company.values()]
        return profiled > 1 or sum(all_s) - max(all_s, default=0.0) > FEW * sum(all_s)

    @property
    def saving(self) -> float:
        """What each step costs less now: 1 - after / before; NaN where unknown, or `mixed`."""
        if self.mixed:
            return NAN
        return 1.0 - self.after_j / self.before_j if self.before_j > 0 else NAN

    @property
    def saving_between(self) -> tuple[float, float] | None:
        """Where `saving` lies with 95 %, as sure as the model says it is; None of a measured baseline, too."""
        base = self.baseline
        if not isinstance(base, Estimated) or not isfinite(base.energy_sd) or not isfinite(self.saving):
            return None
        return saving_between(self.saving, base.energy_sd)

    @property
    def vague(self) -> bool:
        """Whether so little is known of the baseline that no single figure is worth quoting, but an interval."""
        between = self.saving_between
        return between is not None and between[1] - between[0] > VAGUE

    @property
    def saving_so_far(self) -> float:
        """The same over all steps of which the energy was measured, profiling included; NaN where unknown.

        Up to the latest window, while it has the machine: what came after may prove to be a stall.
        """
        unknown = self.decided is None and self._rank(self.baseline) == len(BASELINES) - 1
        if self.mixed or unknown:  # a first window that we chose ourselves is nothing to hold a saving against
            return NAN
        steps, energy_j = self._proven or (self.steps, self.energy_j)
        at_baseline_j = self._priced_j + (steps - self._steps_before) * self.before_j
        return 1.0 - energy_j / at_baseline_j if energy_j > 0 and at_baseline_j > 0 else NAN

    @property
    def baseline_name(self) -> str:
        """What the baseline is, for people."""
        return BASELINES[self._rank(self.baseline)]

    def profiling_s(self, now_s: float) -> float:
        """Seconds from the first trial in force to the decision in force, phase changes included.

        Each second counts once, and only while the program had the machine: the window that ends as a program leaves
        or is paused is told after that, and tells of what is counted already.
        """
        since_s = self._profiling_since_s
        return self._profiled_s + (max(now_s - since_s, 0.0) if since_s is not None else 0.0)

    def worked(self, steps: float) -> None:
        """Steps were done while power was measured."""
        self.steps += steps

    def window(self, seen: Observation, phase: str) -> None:
        """A window was measured."""
        if seen.beats or self.latest is None:  # a state left before its first beat says little, and is the past
            self.latest = seen
        if self._here and not self._paused:
            self.phase = phase
        state = self.states.setdefault(seen.configuration, Measured(seen.configuration))
        state.add(seen)
        if phase == "profiling":
            self._profile_from(seen.start_s)
        elif self.settled is not None and self.decided is not None and seen.configuration in _chosen(self.decided):
            self.settled.add(seen)
        if self.baseline is None or self._rank(state) < self._rank(self.baseline):
            self.baseline = state
        self._proven = (self.steps, self.energy_j) if self._here and not self._paused else None

    def decide(self, event: Decided) -> None:
        """A configuration was chosen."""
        self.decided, self.settled = event, Measured(event.configuration)
        started, rate_hz, power_w = self._started, event.rate_at_max_hz, event.power_at_max_w
        if started is not None and rate_hz > 0 and power_w > 0 and self._rank(self.baseline) > 1:
            self.baseline = Estimated(
                max_configuration(started.knobs, started.found), rate_hz, power_w, event.energy_at_max_sd
            )

    def changed(self) -> None:
        """It is another program now: what was measured before compares no more."""
        self._priced_j += (self.steps - self._steps_before) * self.before_j if self.baseline else 0.0
        self._steps_before, self._proven = self.steps, None
        self.before_change |= {configuration: state for configuration, state in self.states.items() if state.windows}
        self.states = {configuration: Measured(configuration) for configuration in self.states}
        self.decided = self.settled = self.baseline = None
        self._company = {}

    def paused(self, at_s: float) -> None:
        """The knobs were given back; what is measured since the latest decision ends here."""
        self.end_profiling(at_s)
        self._paused, self._proven = True, None
        self._before_pause = self.phase if self.phase != "paused" else self._before_pause
        self.phase = "paused"

    def resumed(self, at_s: float) -> None:
        """The knobs may be turned again."""
        self._paused = False
        self._profiled_to_s = max(self._profiled_to_s, at_s)
        if self.phase == "paused":
            self.phase = "waiting" if self._before_pause == "waiting" else "resumed"

    def in_force(self, event: ConfigurationApplied | ConfigurationWithheld) -> None:
        """A configuration was applied, or would have been."""
        if isinstance(event, ConfigurationApplied):
            self.states.setdefault(event.effective, Measured(event.effective))
        if self.decided is None:
            self.phase = "profiling"
            if isinstance(event, ConfigurationApplied):
                self._profile_from(event.at_s)
        elif event.requested == self.decided.configuration:
            self.phase = "idle"
            self.end_profiling(event.at_s)

    def end_profiling(self, at_s: float) -> None:
        """Profiling is over, for good or for now."""
        if self._profiling_since_s is not None:
            self._profiled_s, self._profiling_since_s = self.profiling_s(at_s), None
            self._profiled_to_s = max(self._profiled_to_s, at_s)

    def stop(self, at_s: float) -> None:
        """It has the machine no more: it left, or another one took over."""
        self.end_profiling(at_s)
        self._here, self.phase, self._proven = False, "waiting", None

    def _profile_from(self, at_s: float) -> None:
        """Profiling goes on since then, where it did not already."""
        if self._profiling_since_s is None and self._here and not self._paused:
            self._profiling_since_s = at_s if at_s > self._profiled_to_s else self._profiled_to_s

    def _rank(self, state: Measured | Estimated | None) -> int:
        """How good a baseline a state is; 0 is best."""
        if isinstance(state, Estimated):
            return 2
        if state is not None and self._started is not None:
            if state.configuration == max_configuration(self._started.knobs, self._started.found):
                return 0
            if state.configuration == self._started.found:
                return 1
        return 3


def _chosen(decided: Decided) -> tuple[Configuration | None, ...]:
    """What was chosen: one configuration, or the two that take turns."""
    return decided.configuration, decided.other
