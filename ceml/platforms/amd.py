"""AMD GPUs by amdsmi (extra `amd`): power cap and the top of the clock, energy, load, heat. Not yet tried on a card.

A cap or a clock limit is a ceiling: the GPU chooses its clock below it. Guests of a hypervisor may set neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ceml.control.ports import Platform
from ceml.domain.knobs import Knob, KnobKind, KnobSpace
from ceml.errors import CemlError, SettingsError, Unavailable
from ceml.platforms.levers import NEAR, LeverActuator
from ceml.platforms.radeon import KIND, LEVEL, started
from ceml.platforms.radeoncard import RadeonCard, RadeonSensor
from ceml.saved import Item
from ceml.store.paths import PlatformContext  # noqa: TC001 - pydantic reads the annotation when the plugin is made

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ceml.domain.knobs import Level
    from ceml.platforms.levers import Lever

STEPS = 8
LISTED = 5  # clocks; a shorter list names the ends and the clock of the moment
SETTLE_S = 0.05
LABELS = ("power of the GPUs only",)
KNOBS = ("gpu_w", "gpu_hz")
LEAST_UW = 1_000_000  # a cap below is in W: a virtualisation host counts so, bare metal in uW


def amd(
    context: PlatformContext,
    *,
    gpu: int = 0,
    knobs: tuple[str, ...] = ("gpu_w",),
    sensor_period_s: float = 0.1,
) -> Platform:
    """A discrete AMD GPU; needs root, the extra `amd` and AMD's libamd_smi.

    Args:
        context: What is known of the process.
        gpu: Its number.
        knobs: Which of gpu_w (power cap) and gpu_hz (highest graphics clock, where the driver lets it be) are turned.
        sensor_period_s: Seconds between two readings.

    Raises:
        Unavailable: No library, driver, GPU, or none of the knobs.
        SettingsError: An option is no good.
    """
    if context.in_process:
        raise SettingsError("platform amd is a real machine: use ceml serve, not ceml replay")
    if not knobs or set(knobs) - set(KNOBS):
        raise SettingsError(f"knobs={','.join(knobs)}: must be some of {', '.join(KNOBS)}")
    if not 0.02 <= sensor_period_s <= 60:
        raise SettingsError(f"sensor_period_s={sensor_period_s}: must be from 0.02 to 60 seconds")
    card = RadeonCard(started(), gpu)
    levers, problems = look(card, knobs)
    if not levers:
        raise Unavailable("\n".join([f"GPU {gpu} ({card.name}) has no knob that can be turned:", *problems]))
    sensor = RadeonSensor(card, period_s=sensor_period_s)
    return Platform(
        name="amd",
        space=KnobSpace([lever.knob for lever in levers]),
        sensors=(sensor,),
        actuators=(LeverActuator("amd", levers),),
        machine=f"amd {card.name}",
        total_rails=(card.rail,) if sensor.measures_power else (),
        rails=(card.rail,) if sensor.measures_power else (),
        zones=tuple(sensor.zones),
        labels=LABELS if sensor.measures_power else (),
        claims=(f"/sys/bus/pci/devices/{card.place}",),
        board={"gpu": card.name, "bdf": card.place},
    )


def look(card: RadeonCard, knobs: Sequence[str] = KNOBS) -> tuple[list[Lever], list[str]]:
    """The knobs asked for that this GPU has, and why it has not the others; nothing is changed."""
    kinds: dict[str, Callable[[RadeonCard], Lever]] = {"gpu_w": CapLever, "gpu_hz": TopLever}
    made: list[Lever] = []
    problems: list[str] = []
    for name in dict.fromkeys(knobs):
        try:
            made.append(kinds[name](card))
        except CemlError as error:
            problems.append(f"{name}: {error}")
    return made, problems


def _grid(least: float, most: float) -> tuple[float, ...]:
    """Whole numbers between two, both ends among them."""
    return tuple(sorted({float(round(least + (most - least) * step / STEPS)) for step in range(STEPS + 1)}))


# Knobs ----------------------------------------------------------------------------------------------------------------


class CapLever:
    """The power cap, in W."""

    def __init__(self, card: RadeonCard) -> None:
        """Nothing is set.

        Raises:
            Unavailable: This GPU has no cap to set.
        """
        found = card.ask("amdsmi_get_power_cap_info", card.handle)
        least, most = found["min_power_cap"], found["max_power_cap"]
        made_for, most = most, min(most, int(found["power_cap"]) or most)  # somebody may have set it
        self._per_w = 1 if made_for < LEAST_UW else 1_000_000
        least_w, most_w = least / self._per_w, most / self._per_w
        if most_w < 1:
            raise Unavailable("its power cap cannot be set (guests of a hypervisor may not)")
        least_w = least_w or most_w / 4  # some say 0, which no card keeps
        inside = [watts for watts in _grid(least_w, most_w) if least_w <= watts <= most_w]
        if len(inside) < 2:
            raise Unavailable(f"its power cap goes from {least_w:g} to {most_w:g} W: nothing to choose")
        self.knob = Knob(name=f"{card.rail}_w", levels=tuple(inside), kind=KnobKind.POWER_LIMIT, settle_s=SETTLE_S)
        self._card = card

    def look(self) -> Level:
        """The cap in force."""
        return self._raw() / self._per_w

    def order(self) -> Level:
        """The same: the cap is the order."""
        return self.look()

    def _raw(self) -> int:
        return int(self._card.ask("amdsmi_get_power_cap_info", self._card.handle)["power_cap"])

    def put(self, level: float) -> float:
        """Set it and read it back.

        Raises:
            Refused: This GPU or user cannot.
            Temporary: Not this time.
        """
        self._card.order(self.knob.name, "amdsmi_set_power_cap", 0, round(level * self._per_w))
        return float(self.look())

    def bounds(self, prior: Mapping[str, str]) -> tuple[float, float]:
        """Up to the cap that is there."""
        known = prior.get(self._target)
        return 0.0, float(self.look()) if known is None else float(known) / self._per_w

    @property
    def _target(self) -> str:
        return f"{self._card.place}#power_cap"

    @property
    def unit(self) -> float:
        """W in the library's unit."""
        return 1.0 / self._per_w

    def limits(self) -> tuple[Item, ...]:
        """The cap in force."""
        return self.items()

    def items(self) -> tuple[Item, ...]:
        """The cap in force, in the library's own unit."""
        return (Item(KIND, self._target, str(self._raw())),)


class TopLever:
    """The highest clock of the graphics engine."""

    def __init__(self, card: RadeonCard) -> None:
        """Nothing is set.

        Raises:
            Unavailable: Its clocks cannot be told.
        """
        self._card = card
        self._graphics = card.library.AmdSmiClkType.GFX
        listed = sorted(set(card.ask("amdsmi_get_clk_freq", card.handle, self._graphics)["frequency"]))
        if len(listed) < 2:
            raise Unavailable("its driver lists no clocks")
        grid = [mhz * 1e6 for mhz in _grid(listed[0] / 1e6, listed[-1] / 1e6)]
        levels = tuple(float(hz) for hz in listed) if len(listed) >= LISTED else tuple(grid)
        self._least_mhz = round(levels[0] / 1e6)
        self.knob = Knob(name=f"{card.rail}_hz", levels=levels, settle_s=SETTLE_S)
        self._top_hz: float | None = None

    def look(self) -> Level:
        """The limit that we set; who else set one is not told by every driver."""
        return "driver" if self._top_hz is None else self._seen_hz(self._top_hz)

    def order(self) -> Level:
        """What we set, whatever the clock does."""
        return "driver" if self._top_hz is None else self._top_hz

    def forget(self) -> None:
        """The driver has its clocks back."""
        self._top_hz = None

    def put(self, level: float) -> float:
        """Set the limit, and read the clock: one above it means that the limit is not kept.

        Raises:
            Refused: This GPU or user cannot.
            Temporary: Not this time.
        """
        mhz, least_mhz = round(level / 1e6), self._least_mhz
        if hasattr(self._card.library, "amdsmi_set_gpu_clk_limit"):
            self._card.order(self.knob.name, "amdsmi_set_gpu_clk_limit", "sclk", "max", mhz)
        else:
            kind = self._card.library.AmdSmiClkType.SYS
            self._card.order(self.knob.name, "amdsmi_set_gpu_clk_range", least_mhz, mhz, kind)
        self._top_hz = level
        return self._seen_hz(level)

    def _seen_hz(self, wanted: float) -> float:
        clock = self._info()["clk"]
        measured = clock * 1e6 if isinstance(clock, int | float) else wanted
        return measured if measured > wanted * (1 + NEAR) else wanted

    def _info(self) -> dict[str, Any]:
        return dict(self._card.ask("amdsmi_get_clock_info", self._card.handle, self._graphics))

    def items(self) -> tuple[Item, ...]:
        """The limit in force, then the performance level, which setting a limit makes `manual`."""
        card, info = self._card, self._info()
        least, most = info.get("min_clk"), info.get("max_clk")
        known = isinstance(least, int) and isinstance(most, int) and most > 0
        shown = f"{least}..{most}" if known else f"{self._least_mhz}..{round(float(self.knob.levels[-1]) / 1e6)}"
        level = str(card.ask("amdsmi_get_gpu_perf_level", card.handle)).removeprefix(LEVEL)
        return (
            Item(KIND, f"{card.place}#gpu_clock", shown),
            Item(KIND, f"{card.place}#perf_level", level),
        )
