"""A power sensor that says the same whatever is turned: said once, since all that saves energy is then guesswork."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.domain.events import SensorStuck, WindowClosed
from ceml.domain.values import NAN

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from ceml.control.bus import Bus
    from ceml.domain.knobs import Configuration
    from ceml.domain.values import Observation

ENOUGH = 4  # configurations in a row; a coarse sensor may well say the same of two neighbours
APART = 1.5  # times as fast one of them must be as another: so far apart no two draw the same, to a sensor's step
IN_ANY_CASE = 12  # configurations: so many, whatever their rates
FEWEST_SAMPLES = 2  # of a window that counts


class StuckWatcher:
    """Compares the power of closed windows in different configurations."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._inbox = bus.subscribe("stuck watcher", WindowClosed)
        self._power_w = NAN
        self._in: dict[Configuration, float] = {}  # -> rate
        self._said = False

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Watch until cancelled."""
        task_status.started()
        async for event in self._inbox:
            if isinstance(event, WindowClosed) and event.observation.power_samples >= FEWEST_SAMPLES:
                self._look(event.at_s, event.observation)

    def _look(self, at_s: float, seen: Observation) -> None:
        power_w = seen.power_w
        if not power_w == power_w:
            return
        if not abs(power_w - self._power_w) <= 1e-9 * abs(power_w):
            self._power_w, self._in, self._said = power_w, {}, False
        self._in[seen.configuration] = seen.rate_hz
        rates_hz = [rate_hz for rate_hz in self._in.values() if rate_hz > 0.0]
        apart = bool(rates_hz) and max(rates_hz) >= APART * min(rates_hz)
        if self._said or len(self._in) < (ENOUGH if apart else IN_ANY_CASE):
            return
        self._said = True
        why = (
            f"{power_w:.4g} W in {len(self._in)} different configurations, to the last digit: the sensor seems stuck, "
            "and what is chosen by power is chosen by speed alone. See ceml doctor --probe; reload its driver"
        )
        self._bus.publish(SensorStuck(at_s=at_s, power_w=power_w, configurations=len(self._in), why=why))
