"""What probing a machine came to: how long its knobs take, which levels it reaches, what its sensors cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ceml.domain.knobs import Knob, Level

QUANTILE = 0.95  # of the latencies, taken as settle time: a window that opens too early is worse than one too late


@dataclass(frozen=True, kw_only=True)
class ProbedKnob:
    """What turning a knob came to.

    Attributes:
        knob: Which.
        latencies_s: From the order until it read as wanted, for each change that succeeded.
        unreached: Level -> what came instead, both from below and from above.
        problem: Why nothing can be said of it; empty where something can.
    """

    knob: Knob
    latencies_s: tuple[float, ...] = ()
    unreached: dict[Level, str] = field(default_factory=dict["Level", str])
    problem: str = ""

    @property
    def settle_s(self) -> float:
        """How long to wait after a change; 0 where none succeeded."""
        if not self.latencies_s:
            return 0.0
        return sorted(self.latencies_s)[ceil(QUANTILE * len(self.latencies_s)) - 1]


@dataclass(frozen=True, kw_only=True)
class ProbedSensor:
    """What reading a sensor came to.

    Attributes:
        name: Which.
        period_s: How often it is polled.
        read_s: Median of a reading.
        steps: Reading -> the least difference that was seen between two values of it; absent where it never moved.
        problem: Why it could not be read; empty where it could.
    """

    name: str
    period_s: float
    read_s: float = 0.0
    steps: dict[str, float] = field(default_factory=dict[str, float])
    problem: str = ""
