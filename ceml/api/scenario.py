"""A scenario: a timeline of wishes and mishaps, in real time (`ceml serve`) or virtual time (`ceml replay`).

[[step]]
at = "600.1s"                        # from the start of the run; every step later than the one before
budget = "6W"                        # any limit of the settings; those not named stay, "none" lifts

[[step]]
at = "700s"
sensor_lost = "board"                # and later: sensor_back = "board"
overwrite = {gpu_hz = "420MHz"}      # somebody else writes a knob, and tells nobody
objective = "edp"                    # something else is wanted
application = "leaves"               # and later: application = "arrives" (replay only)
phase = {step_time = 1.5, power = .9}  # the program is another: factors of what it was at the start (replay only)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

import anyio
import structlog

from ceml import units
from ceml.domain.events import BudgetChanged, ConfigurationRefused, ObjectiveChanged
from ceml.domain.knobs import Configuration
from ceml.errors import CemlError, Refused, SettingsError
from ceml.plant.machine import landing
from ceml.plant.table import parse_fix
from ceml.settings import LIMITS
from ceml.sources import changed_limits
from ceml.store.toml_file import read_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from anyio.abc import TaskStatus

    from ceml.control.ports import Platform, Publish, Stage
    from ceml.domain.knobs import Level
    from ceml.domain.values import Limits

MISHAPS = ("sensor_lost", "sensor_back", "overwrite", "application", "phase")
FACTORS = ("step_time", "power")
MOST = 1000.0  # times as slow or as hungry: beyond it is a slip of the keyboard
LONGEST = 1 << 20  # bytes: a scenario may be written by a program
FOR_EVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happens at one moment.

    Attributes:
        at_s: Seconds from the start of the run.
        limits: The whole set in force from then on; None: they stay.
        lost: The sensor that is lost.
        back: The sensor that answers again.
        overwrite: Knobs that somebody else writes.
        objective: What is wanted from then on, as the user says it, and made.
        phase: Factors of step time and power, of those at the start; None: no new phase.
        away_until_s: When the application that leaves now comes back, infinity for never; None: it does not leave.
    """

    at_s: float
    limits: Limits | None = None
    lost: str | None = None
    back: str | None = None
    overwrite: Mapping[str, Level] = field(default_factory=dict)  # type: ignore[assignment]
    objective: tuple[str, object] | None = None
    phase: tuple[float, float] | None = None
    away_until_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A timeline that has been checked against the board it will happen on."""

    source: str
    steps: tuple[Step, ...]
    stage: Stage | None

    async def run(self, publish: Publish, *, task_status: TaskStatus[None]) -> None:
        """Let it happen, then rest until cancelled; what is due at second 0 has happened once `started()` is called."""
        start_s, started, left = anyio.current_time(), False, list(self.steps)
        try:
            while left:
                if left[0].at_s > 0.0 and not started:
                    task_status.started()
                    started = True
                await anyio.sleep_until(start_s + left[0].at_s)
                self._happen(left.pop(0), start_s, publish)
            if not started:
                task_status.started()
            await anyio.sleep_forever()
        finally:
            if left:
                self._say_left(left)

    def _say_left(self, left: Sequence[Step]) -> None:
        steps = "1 step" if len(left) == 1 else f"{len(left)} steps"
        problem = f"{steps} of {self.source}, from {left[0].at_s:g} s on, did not happen: the run ended before"
        structlog.get_logger().warning("scenario_cut_short", problem=problem)

    def _happen(self, step: Step, start_s: float, publish: Publish) -> None:
        if step.limits is not None:
            publish(BudgetChanged(at_s=anyio.current_time(), limits=step.limits, source=self.source))
        if step.objective is not None:
            name, made = step.objective
            publish(ObjectiveChanged(at_s=anyio.current_time(), objective=name, source=self.source, made=made))
        stage = self.stage
        if stage is None:
            return
        if step.phase is not None:
            stage.change(step_time=step.phase[0], power=step.phase[1])
        if step.lost is not None:
            stage.lose(step.lost)
        if step.back is not None:
            stage.regain(step.back)
        if step.overwrite:
            try:
                stage.overwrite(step.overwrite)
            except Refused as error:  # no such state beside the knobs as they are now
                requested, now_s = Configuration(step.overwrite), anyio.current_time()
                publish(ConfigurationRefused(at_s=now_s, requested=requested, knob=error.knob, reason=str(error)))
        if step.away_until_s is not None:
            stage.leave(start_s + step.away_until_s)


def read_scenario(
    path: Path,
    limits: Limits,
    platform: Platform,
    check: Callable[[Limits], None],
    make_objective: Callable[[str], object],
) -> Scenario:
    """Read a scenario and check every step of it.

    Args:
        path: The TOML file.
        limits: What must hold at the start.
        platform: Where it will happen.
        check: Raises SettingsError for limits that this platform cannot keep.
        make_objective: Makes an objective of its name; raises SettingsError where there is none.

    Raises:
        SettingsError: Anything wrong; the text names the file and the entry.
    """
    source = f"scenario {path}"
    said = read_toml(path, "scenario", longest=LONGEST)
    entries = said.get("step")
    if set(said) != {"step"} or not isinstance(entries, list) or not entries:
        raise SettingsError(f'{source}: it needs [[step]] entries, each with at = "600.1s" and what happens, no more')
    reader = _Reader(limits, platform, check, make_objective)
    steps: list[Step] = []
    for number, entry in enumerate(cast("list[Any]", entries), start=1):
        name = f"step {number}"
        try:
            if not isinstance(entry, dict):
                raise ValueError("it must be a table: write [[step]]")
            name = f"{name} (at = {cast('Any', entry).get('at', 'missing')!r})"
            steps.append(reader.step(cast("dict[str, Any]", entry)))
        except (ValueError, CemlError) as error:
            raise SettingsError(f"{source}, {name}: {error}") from None
    return Scenario(source=source, steps=tuple(_with_returns(steps, reader.arrivals_s)), stage=platform.stage)


class _Reader:
    """Reads one step after the other, and knows what the ones before have left behind."""

    def __init__(
        self,
        limits: Limits,
        platform: Platform,
        check: Callable[[Limits], None],
        make_objective: Callable[[str], object],
    ) -> None:
        self.arrivals_s: list[float] = []
        self._limits = limits
        self._platform = platform
        self._check = check
        self._make_objective = make_objective
        self._last_s = -1.0
        self._lost: set[str] = set()
        self._away = False

    def step(self, entry: dict[str, Any]) -> Step:
        known = ("at", *LIMITS, "objective", *MISHAPS)
        for key in entry:
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise ValueError(f"unknown key {key!r}{hint}; known are: {', '.join(known)}")
        at_s = self._moment(entry)
        said = {key: value for key, value in entry.items() if key in LIMITS}
        wishes = len(said) + ("objective" in entry)
        if len(entry) == 1:
            others = ", ".join(("objective", *MISHAPS))
            raise ValueError(f"nothing happens in it: give a limit such as budget, or one of {others}")
        if said:
            self._limits = changed_limits(self._limits, said, "this step")
            self._check(self._limits)
        if self._platform.stage is None and wishes < len(entry) - 1:
            name = self._platform.name
            raise ValueError(f"{name} is a real board: a scenario can change limits and objective there, and no more")
        lost, back = (self._sensor(entry.get(key), gone=key == "sensor_lost") for key in MISHAPS[:2])
        return Step(
            at_s=at_s,
            limits=self._limits if said else None,
            lost=lost,
            back=back,
            overwrite=self._knobs(entry["overwrite"]) if "overwrite" in entry else {},
            objective=self._objective(entry["objective"]) if "objective" in entry else None,
            phase=self._phase(entry["phase"]) if "phase" in entry else None,
            away_until_s=FOR_EVER if self._leaves(at_s, entry.get("application")) else None,
        )

    def _moment(self, entry: dict[str, Any]) -> float:
        if "at" not in entry:
            raise ValueError('it does not say when: add at = "600.1s"')
        try:
            at_s = units.moment_s(entry["at"])
        except ValueError as error:
            raise ValueError(f"at {error}") from None
        if at_s == self._last_s:
            raise ValueError("it is at the same moment as the step before: put both into one step")
        if at_s < self._last_s:
            raise ValueError(f"it is before the step above it, at {self._last_s:g} s: put the steps in order of time")
        self._last_s = at_s
        return at_s

    def _sensor(self, name: object, *, gone: bool) -> str | None:
        if name is None:
            return None
        names = [sensor.name for sensor in self._platform.sensors]
        if not isinstance(name, str) or name not in names:
            raise ValueError(f"sensor {name!r} is not here; known are: {', '.join(names) or 'none'}")
        if gone == (name in self._lost):
            raise ValueError(f"sensor {name!r} {'is lost already' if gone else 'is not lost at that time'}")
        self._lost ^= {name}
        return name

    def _knobs(self, said: object) -> dict[str, Level]:
        if not isinstance(said, dict) or not said:
            raise ValueError('overwrite must be a table of knobs such as {gpu_hz = "420MHz"}')
        levels = dict(parse_fix(f"{knob}={level}") for knob, level in cast("dict[str, object]", said).items())
        landing(self._platform.space, self._platform.space.max_state, levels)
        return levels

    def _objective(self, said: object) -> tuple[str, object]:
        if not isinstance(said, str):
            raise ValueError(f'objective = {said!r} must be a name such as "edp"')
        return said, self._make_objective(said)

    def _phase(self, said: object) -> tuple[float, float]:
        self._own_program()
        if not isinstance(said, dict) or not said or not set(cast("dict[str, Any]", said)) <= set(FACTORS):
            raise ValueError("phase must be a table of factors such as {step_time = 1.5, power = 0.9}")
        factors = {name: cast("dict[str, Any]", said).get(name, 1.0) for name in FACTORS}
        for name, factor in factors.items():
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1.0 / MOST <= factor <= MOST:
                raise ValueError(
                    f"phase {name} = {factor!r} must be a factor from {1.0 / MOST:g} to {MOST:g}; 1: as is"
                )
        return float(factors["step_time"]), float(factors["power"])

    def _own_program(self) -> None:
        stage = self._platform.stage
        if stage is None or not stage.brings_program:
            raise ValueError("the application is a process of its own here: end and start it yourself (ceml app)")

    def _leaves(self, at_s: float, said: object) -> bool:
        if said is None:
            return False
        if said not in ("leaves", "arrives"):
            raise ValueError(f"application = {said!r}: it leaves or arrives")
        self._own_program()
        if (said == "leaves") == self._away:
            raise ValueError(f"application = {said!r}, but at that time it is {'away' if self._away else 'here'}")
        self._away = said == "leaves"
        if not self._away:
            self.arrivals_s.append(at_s)
        return self._away


def _with_returns(steps: list[Step], arrivals_s: list[float]) -> list[Step]:
    """Each leaving knows when the application comes back."""
    returns = iter([*arrivals_s, FOR_EVER])
    return [step if step.away_until_s is None else replace(step, away_until_s=next(returns)) for step in steps]
