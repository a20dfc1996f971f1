"""The windows of one application: the one that is open, the commitment that idle ones add up to, what they taught."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.domain.stays import PROOF, Lessons, Looks, is_sure, may_have_stalled
from ceml.domain.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from ceml.domain.events import Heartbeat, Sampled
    from ceml.domain.knobs import Configuration
    from ceml.domain.mind import Mind
    from ceml.domain.rhythm import Rhythm
    from ceml.domain.values import Observation, Stay


READ_LATER_S = 0.5  # than power samples of the same moment beats may be read: they come through a pipe


class Measuring:
    """Opens and closes windows; says when one holds what was asked for.

    Attributes:
        window: The open one; None while nothing of ours is in force.
        idle: What the latest idle window showed.
    """

    def __init__(self, mind: Mind) -> None:
        self.window: Window | None = None
        self.idle: Observation | None = None
        self._mind = mind
        self._lost: set[str] = set()
        self._thermometers: set[str] = set()
        self._whole: dict[Configuration, Window] = {}  # all of a commitment so far, over its idle windows
        self._looks = Looks()
        self._lessons = Lessons()

    # What comes in ------------------------------------------------------------------------------------------------

    def beat(self, beat: Heartbeat) -> bool:
        """Fold in a heartbeat; whether it shows that steps repeat, so that nothing measured before it counts."""
        window = self.window
        if window is not None:
            window.beat(beat)
        if not self.rhythm.beat(beat.at_s, beat.work) or window is None:
            return False
        self._lessons.start_over()
        self.start_over()
        self.open(window.configuration, beat.at_s, started_s=beat.at_s)
        return True

    @property
    def rhythm(self) -> Rhythm:
        """After how many beats the program's steps repeat, as far as is known."""
        return self._lessons.rhythm

    def lose(self, sensor: str) -> None:
        """A sensor no longer answers."""
        self._lost.add(sensor)

    def regain(self, sensor: str) -> None:
        """It answers again."""
        self._lost.discard(sensor)

    @property
    def blind(self) -> bool:
        """Whether a sensor was lost that the power of the whole board comes from."""
        return bool(self._mind.power_sensors & self._lost)

    def sampled(self, sample: Sampled) -> None:
        """Which sensors tell of temperatures is seen when they do."""
        if sample.temperatures_c:
            self._thermometers.add(sample.sensor)

    @property
    def blind_to_heat(self) -> bool:
        """Whether all sensors that told of temperatures were lost."""
        return bool(self._thermometers) and self._thermometers <= self._lost

    @property
    def powered(self) -> bool:
        """Whether power samples can be waited for; without a working sensor there is nothing to wait for."""
        return bool(self._mind.power_sensors) and not self.blind

    # Windows ------------------------------------------------------------------------------------------------------

    def open(self, configuration: Configuration, opens_s: float, *, started_s: float | None = None) -> Window:
        """Measure a configuration from `opens_s` on; `started_s`: the beat that starts the clock, where known."""
        mind, self._looks = self._mind, Looks()
        if started_s is None:
            self.rhythm.change(opens_s)
        self.window = window = Window(
            configuration,
            opens_s=opens_s,
            lag_s=mind.lag_s,
            total_rails=mind.total_rails,
            started_s=started_s,
            period_work=self.rhythm.work,
        )
        return window

    def shut(self) -> None:
        """What was being measured is measured no longer; the commitment so far is forgotten."""
        self.window = None
        self.rhythm.change()
        self._whole = {}

    def answers(self, at_s: float, stay: Stay, expected_hz: Callable[[], float]) -> bool:
        """Whether the open window holds what its trial asked for, or it has lasted too long and holds something.

        One that may hold hardly more than a stall goes on: `expected_hz` gives the rate expected there, NaN where
        nobody knows, and is asked during the first beats alone.
        """
        window = self.window
        if window is None:
            return False
        read_s = max(
            at_s - READ_LATER_S, window.end_s if window.beats else window.opens_s
        )  # up to when beats are known
        late = read_s - window.opens_s >= stay.longest_s
        if not late and not self._looks.due(window, stay):
            return False
        seen = self._lessons.read(window)
        if not seen.beats or (seen.beats < PROOF and may_have_stalled(seen, expected_hz())):
            return False
        return late or is_sure(seen, stay, powered=self.powered)

    @property
    def counts(self) -> bool:
        """Whether the open window holds anything at all."""
        return self.window is not None and self._lessons.read(self.window).beats > 0

    def close(self, window: Window) -> Observation:
        """A window is over; what it showed."""
        return self._lessons.close(window)

    def keep(self, window: Window, observations: list[Observation]) -> None:
        """A closed window joins the observations."""
        self._lessons.keep(window, observations)

    def next_idle(self, at_s: float) -> Observation | None:
        """Close an idle window that is long enough, and open the next one; None where it goes on."""
        window, mind = self.window, self._mind
        if window is None or window.beats < mind.idle_beats:
            return None
        if at_s - window.opens_s < mind.idle_window_s or not self._looks.due(window, None):
            return None
        seen = self._lessons.read(window)
        short_of_power = self.powered and seen.power_samples < mind.idle_samples
        if seen.beats < mind.idle_beats or short_of_power or seen.counted_s < mind.idle_window_s:
            return None
        self.open(window.configuration, window.end_s, started_s=window.end_s).follow(window)
        return self._idle_over(window)

    def end_turn(self) -> Observation | None:
        """Another state's turn begins: close the window as it is; None where it holds nothing."""
        window, self.window = self.window, None
        return None if window is None or not window.beats else self._idle_over(window)

    def _idle_over(self, window: Window) -> Observation:
        self.idle = self._lessons.close(window)
        before = self._whole.get(window.configuration)
        if before is None:
            self._whole[window.configuration] = window
        else:
            before.extend(window)
        return self.idle

    # Commitments --------------------------------------------------------------------------------------------------

    @property
    def committed_steps(self) -> float:
        """Steps in the idle windows of the commitment so far."""
        return sum([window.steps for window in self._whole.values()])

    def start_over(self) -> None:
        """A commitment begins; the idle windows before it are no part of it."""
        self._whole = {}

    def conclude(self, observations: list[Observation]) -> bool:
        """The commitment so far joins the observations, one a state; whether there was anything to join."""
        whole, self._whole = self._whole, {}
        for window in whole.values():
            self._lessons.keep(window, observations)
        return bool(whole)

    def discard(self, observations: list[Observation], from_s: float, to_s: float) -> bool:
        """Something else was in force then: what was measured does not count; whether an observation has gone."""
        self.window = self.idle = None
        self._whole = {here: window for here, window in self._whole.items() if window.end_s <= from_s}
        return self._lessons.discard(observations, from_s, to_s)

    def forget(self) -> None:
        """The program changed: its slow steps and the commitment were another program's."""
        self._lessons.forget()
        self._whole = {}
