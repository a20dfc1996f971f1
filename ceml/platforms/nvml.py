"""Discrete NVIDIA GPUs by NVML (extra `nvidia`: nvidia-ml-py): locked clocks and power limit, energy, load, heat.

NVML has no way to ask which clocks are locked, so what is saved of them is "the driver's default" and restoring
resets them. A lock is a range that is allowed: power and heat still pull below it. Values are probed one by one; that
the library starts proves nothing (on a Jetson it starts and supports next to nothing).
https://docs.nvidia.com/deploy/nvml-api
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ceml.control.ports import Platform
from ceml.domain.knobs import Knob, KnobKind, KnobSpace
from ceml.errors import CemlError, SettingsError, Unavailable
from ceml.platforms.card import Card, CardSensor
from ceml.platforms.levers import LeverActuator, nearest
from ceml.platforms.nvidia import KIND, started
from ceml.saved import Item
from ceml.store.paths import PlatformContext  # noqa: TC001 - pydantic reads the annotation when the plugin is made

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ceml.domain.knobs import Level
    from ceml.platforms.levers import Lever

MOST_LEVELS = 16  # cards list a hundred clocks 15 MHz apart
SETTLE_S = 0.05
LABELS = ("power of the GPUs only",)
KNOBS = ("gpu_hz", "mem_hz", "gpu_w")

_IDLE = 0x1  # nvmlClocksEventReasonGpuIdle


def nvml(
    context: PlatformContext,
    *,
    gpu: int = 0,
    knobs: tuple[str, ...] = ("gpu_hz",),
    sensor_period_s: float = 0.1,
) -> Platform:
    """A discrete NVIDIA GPU; needs root and the extra `nvidia`.

    Args:
        context: What is known of the process.
        gpu: Its number.
        knobs: Which of gpu_hz (locked graphics clock), mem_hz (locked memory clock, Ampere and newer) and gpu_w (power
            limit) are turned.
        sensor_period_s: Seconds between two readings.

    Raises:
        Unavailable: No library, driver, GPU, or none of the knobs.
        SettingsError: An option is no good.
    """
    if context.in_process:
        raise SettingsError("platform nvml is a real machine: use ceml serve, not ceml replay")
    if not knobs or set(knobs) - set(KNOBS):
        raise SettingsError(f"knobs={','.join(knobs)}: must be some of {', '.join(KNOBS)}")
    if not 0.02 <= sensor_period_s <= 60:
        raise SettingsError(f"sensor_period_s={sensor_period_s}: must be from 0.02 to 60 seconds")
    library = started()
    card = Card(library, gpu)
    levers, problems = look(card, knobs)
    if not levers:
        raise Unavailable("\n".join([f"GPU {gpu} ({card.name}) has no knob that can be turned:", *problems]))
    sensor = CardSensor(card, period_s=sensor_period_s)
    return Platform(
        name="nvml",
        space=KnobSpace([lever.knob for lever in levers]),
        sensors=(sensor,),
        actuators=(LeverActuator("nvml", levers),),
        machine=f"nvml {card.name}",
        total_rails=(card.rail,) if sensor.measures_power else (),
        rails=(card.rail,) if sensor.measures_power else (),
        labels=LABELS if sensor.measures_power else (),
        claims=_claims(card),
        board={"gpu": card.name, "uuid": card.uuid},
    )


def look(card: Card, knobs: Sequence[str]) -> tuple[list[Lever], list[str]]:
    """The knobs asked for that this GPU has, and why it has not the others; nothing is changed."""
    makers: dict[str, Callable[[], Lever]] = {
        "gpu_hz": lambda: ClockLever(card, "gpu", _thinned(_graphics_hz(card))),
        "mem_hz": lambda: ClockLever(card, "mem", _thinned(_memory_hz(card))),
        "gpu_w": lambda: LimitLever(card),
    }
    made: list[Lever] = []
    problems: list[str] = []
    for name in dict.fromkeys(knobs):
        try:
            made.append(makers[name]())
        except CemlError as error:
            problems.append(f"{name}: {error}")
    return made, problems


def _claims(card: Card) -> tuple[str, ...]:
    """Its place on the bus, which NVML writes with a domain of eight digits and the kernel with one of four."""
    try:
        place = card.ask("nvmlDeviceGetPciInfo", card.handle).busId
    except CemlError:
        return ()
    text = place.decode() if isinstance(place, bytes) else str(place)
    return (f"/sys/bus/pci/devices/{text[-len('0000:01:00.0') :].lower()}",)


def _memory_hz(card: Card) -> list[float]:
    return sorted(mhz * 1e6 for mhz in card.ask("nvmlDeviceGetSupportedMemoryClocks", card.handle))


def _graphics_hz(card: Card) -> list[float]:
    """Clocks at the highest memory clock."""
    top_mhz = round(_memory_hz(card)[-1] / 1e6)
    listed = card.ask("nvmlDeviceGetSupportedGraphicsClocks", card.handle, top_mhz)
    return sorted(mhz * 1e6 for mhz in listed)


def _thinned(levels_hz: list[float]) -> tuple[float, ...]:
    """At most 16 of the levels, evenly, both ends among them."""
    last = len(levels_hz) - 1
    count = min(last, MOST_LEVELS - 1)
    return tuple(levels_hz[round(step * last / max(count, 1))] for step in range(count + 1))


# Knobs ----------------------------------------------------------------------------------------------------------------


class ClockLever:
    """The graphics or the memory clock, locked to one value."""

    def __init__(self, card: Card, device: str, levels_hz: tuple[float, ...]) -> None:
        """Nothing is set. `device` is `gpu` or `mem`."""
        library = card.library
        index = card.rail.removeprefix("gpu")
        self.knob = Knob(name=f"{device}{index}_hz", levels=levels_hz, settle_s=SETTLE_S)
        self._card = card
        self._locked_hz: float | None = None
        graphics = device == "gpu"
        self._set = f"nvmlDeviceSet{'Gpu' if graphics else 'Memory'}LockedClocks"
        self._clock = library.NVML_CLOCK_SM if graphics else library.NVML_CLOCK_MEM
        self._target = f"{card.uuid}#{'gpu' if graphics else 'mem'}_clocks"

    def look(self) -> Level:
        """The clock where we locked it; nobody can ask who else did."""
        return "driver" if self._locked_hz is None else self._seen_hz(self._locked_hz)

    def order(self) -> Level:
        """What we locked: nobody can ask whether somebody else locked it since."""
        return "driver" if self._locked_hz is None else self._locked_hz

    def put(self, level: float) -> float:
        """Lock it, and read the clock where the GPU is at work: an idle one rests below its lock.

        Raises:
            Refused: This GPU or user cannot.
            Temporary: Not this time.
        """
        mhz = round(level / 1e6)
        self._card.order(self.knob.name, self._set, mhz, mhz)
        self._locked_hz = level
        return self._seen_hz(level)

    def forget(self) -> None:
        """The driver has its clocks back."""
        self._locked_hz = None

    def _seen_hz(self, wanted: float) -> float:
        card = self._card
        try:
            reasons = card.ask("nvmlDeviceGetCurrentClocksEventReasons", card.handle)
        except Unavailable:
            reasons = 0
        if reasons & _IDLE:
            return wanted
        measured = card.ask("nvmlDeviceGetClockInfo", card.handle, self._clock) * 1e6
        return nearest(self.knob.levels, measured, wanted)

    def items(self) -> tuple[Item, ...]:
        """The driver's default: what was locked before cannot be asked."""
        return (Item(KIND, self._target, None),)


class LimitLever:
    """The power limit, in W."""

    def __init__(self, card: Card) -> None:
        """Nothing is set.

        Raises:
            Unavailable: This GPU has no limit to set.
        """
        least_mw, most_mw = card.ask("nvmlDeviceGetPowerManagementLimitConstraints", card.handle)
        most_mw = min(most_mw, card.ask("nvmlDeviceGetPowerManagementLimit", card.handle))  # somebody may have set it
        steps = 8
        levels = sorted({round((least_mw + (most_mw - least_mw) * step / steps) / 1e3) for step in range(steps + 1)})
        inside = tuple(float(watts) for watts in levels if least_mw <= watts * 1000 <= most_mw)
        if not inside:
            raise Unavailable(f"its power limit goes from {least_mw} to {most_mw} mW: nothing to choose")
        self.knob = Knob(name=f"{card.rail}_w", levels=inside, kind=KnobKind.POWER_LIMIT, settle_s=SETTLE_S)
        self._card = card

    def look(self) -> Level:
        """The limit in force."""
        card = self._card
        return card.ask("nvmlDeviceGetPowerManagementLimit", card.handle) / 1e3

    def order(self) -> Level:
        """The same: the limit is the order."""
        return self.look()

    def put(self, level: float) -> float:
        """Set it and read it back.

        Raises:
            Refused: This GPU or user cannot.
            Temporary: Not this time.
        """
        card = self._card
        card.order(self.knob.name, "nvmlDeviceSetPowerManagementLimit", round(level * 1e3))
        return float(self.look())

    def bounds(self, prior: Mapping[str, str]) -> tuple[float, float]:
        """Up to the limit that is there."""
        known = prior.get(self._target)
        return 0.0, float(self.look()) if known is None else float(known) / 1e3

    @property
    def _target(self) -> str:
        return f"{self._card.uuid}#power_limit"

    unit = 1e-3

    def limits(self) -> tuple[Item, ...]:
        """The limit in force."""
        return self.items()

    def items(self) -> tuple[Item, ...]:
        """The limit in force."""
        return (Item(KIND, self._target, str(round(float(self.look()) * 1e3))),)
