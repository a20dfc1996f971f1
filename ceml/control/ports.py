"""What the middle floor asks of the floor above: sensors, actuators, sources of heartbeats."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from ceml.domain.events import Event
    from ceml.domain.knobs import Configuration, Knob, KnobSpace, Level
    from ceml.domain.values import Knowledge, Sample
    from ceml.saved import Item, Saved, Unrestored

Publish = Callable[["Event"], None]


class Sensor(Protocol):
    """Something that can be read for power, utilisation or temperature."""

    @property
    def name(self) -> str:
        """For logs and records."""
        ...

    @property
    def period_s(self) -> float:
        """Seconds between two polls."""
        ...

    @property
    def lag_s(self) -> float:
        """Seconds by which a reading trails the truth; samples that early in a window are not counted."""
        ...

    async def read(self) -> Sample:
        """One reading, stamped `anyio.current_time()`.

        Raises:
            Temporary: Not this time.
            Unavailable: Not any more.
        """
        ...


@runtime_checkable
class InstantSensor(Sensor, Protocol):
    """A sensor whose answer lies in memory, so that nobody need wait: no task is woken for it, which halves a poll."""

    def read_now(self) -> Sample:
        """What `read` returns, and raises, at once: it must never block, since everything else waits meanwhile."""
        ...


class Actuator(Protocol):
    """Something that turns knobs, and can put them back."""

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What it turns."""
        ...

    async def locate(self) -> Configuration:
        """What is true now."""
        ...

    async def glance(self) -> Configuration:
        """What it is ordered to be, by reads that cost little and disturb nothing: asked every second.

        As `locate`, but for devices that do not do as ordered: then it names the order. It raises nothing for one
        knob: one that cannot be read now stands at `?`.

        Raises:
            Temporary: Not this time.
        """
        ...

    async def apply(self, wanted: Configuration) -> Configuration:
        """Turn the knobs; returns what is then true, read back, which need not be what was wanted.

        Raises:
            Refused: The device would not take a value.
            Temporary: Not this time.
        """
        ...

    async def save(self) -> Saved:
        """Everything that `apply` may touch, as it is now."""
        ...

    async def restore(self, saved: Saved) -> tuple[Unrestored, ...]:
        """Put it back: idempotent, each knob on its own, never raises for one. Returns what could not be put back."""
        ...


class NewLimit(NamedTuple):
    """A limit that somebody else set while a knob was ours.

    Attributes:
        knob: Whose limit.
        item: What stands there now, and is to be put back.
        lowers: Whether it is lower than what was put there: then it is kept to, and nobody fights over the knob.
    """

    knob: str
    item: Item
    lowers: bool


@runtime_checkable
class Limited(Protocol):
    """An actuator whose levels somebody else may limit: nvpmodel, cooling, an administrator."""

    async def allowed(self, saved: Saved) -> Mapping[str, tuple[Level, ...]]:
        """The levels of each knob within those limits: the prior values, and what we never write read anew."""
        ...

    async def new_limits(self, knobs: Collection[str]) -> tuple[NewLimit, ...]:
        """Limits of these knobs that somebody else set since they were put; none while the kernel itself cools."""
        ...

    async def cools(self) -> bool:
        """Whether the kernel itself holds clocks down now, so that limits may read lower than anybody set."""
        ...

    async def uncooled(self, now: Saved, before: Saved) -> Saved:
        """What stands there now, but limits that cooling may have lowered as they were before."""
        ...


class PriorValues(Protocol):
    """Where prior values are written down, so that they can be put back whatever ends us."""

    def write(self, saved: Saved) -> None:
        """Before the first write.

        Raises:
            Unavailable: It cannot be written: then no knob may be turned.
        """
        ...

    def ensure(self, saved: Saved) -> None:
        """Again where somebody removed it; raises nothing."""
        ...

    def clear(self) -> None:
        """Everything is back."""
        ...


class BeatSource(Protocol):
    """Where applications speak: a named pipe, or a program inside this process."""

    async def run(self, publish: Publish, *, task_status: TaskStatus[None]) -> None:
        """Publish AppJoined, Heartbeat, AppLeft as they happen, until cancelled; `started()` once it listens."""
        ...


class Stage(Protocol):
    """Where mishaps can be made to happen: simulated and replayed boards have one, real ones do not."""

    @property
    def brings_program(self) -> bool:
        """Whether the program is the platform's own, so that it can leave and come back."""
        ...

    def lose(self, sensor: str) -> None:
        """From now on this sensor does not answer."""
        ...

    def regain(self, sensor: str) -> None:
        """It answers again."""
        ...

    def overwrite(self, levels: Mapping[str, Level]) -> None:
        """Write knobs behind the controller's back.

        Raises:
            Refused: That leads to no state of the board.
        """
        ...

    def leave(self, until_s: float) -> None:
        """The program leaves, and comes back at this moment of the loop; infinity: never."""
        ...

    def change(self, *, step_time: float, power: float) -> None:
        """The program begins another phase: so many times the time of each step, and the power, of its start."""
        ...


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A bundle of sensors and actuators; not a class to inherit from.

    Attributes:
        name: What it is called in logs.
        machine: Which machine it is, so that knowledge of another one is never used; empty: the name says it.
        space: The states that its actuators can reach.
        sensors: What can be read.
        actuators: What can be turned.
        total_rails: Rails whose sum is the power of the whole board; none: power is not measured.
        rails: All rails that are measured, for caps on single ones.
        zones: Zones whose temperature is measured.
        beats: Its own application, where the platform brings one (replay).
        stage: Where a scenario can let mishaps happen; None: a real board.
        labels: What must be said wherever its numbers are printed ("simulated", "estimated").
        knowledge: What is known of this machine beforehand (C9).
        board: Its description for records, as plain text values.
        claims: Directories that stand for what it turns, e.g. /sys: two servers that claim the same one never run
            at once. None where nothing real is turned.
    """

    name: str
    space: KnobSpace
    machine: str = ""
    sensors: Sequence[Sensor] = ()
    actuators: Sequence[Actuator] = ()
    total_rails: tuple[str, ...] = ()
    rails: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    beats: BeatSource | None = None
    stage: Stage | None = None
    labels: tuple[str, ...] = ()
    knowledge: Knowledge | None = None
    board: Mapping[str, str] = field(default_factory=dict[str, str])
    claims: tuple[str, ...] = ()
