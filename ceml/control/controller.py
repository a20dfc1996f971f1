"""The controller: takes events, asks managers, hands what they want to the applier and says the rest."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from ceml.domain.events import (
    AppJoined,
    AppLeft,
    BudgetChanged,
    ConfigurationApplied,
    ConfigurationRefused,
    ConfigurationWithheld,
    ControlPaused,
    ControlRefused,
    ControlResumed,
    DecisionSlow,
    Heartbeat,
    KnobOverwritten,
    LevelsAllowed,
    ObjectiveChanged,
    PhaseChanged,
    Release,
    Sampled,
    SensorLost,
    SensorRecovered,
    Throttled,
    Try,
    Use,
)
from ceml.domain.values import NO_LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from ceml.control.applier import Applier
    from ceml.control.bus import Bus
    from ceml.domain.events import Event, Intent
    from ceml.domain.manager import RuntimeManager
    from ceml.domain.values import Limits

Key = tuple[str, str]  # application, source

NOTHING: frozenset[type] = frozenset()
BEATS = frozenset((Heartbeat,))
BEATS_AND_SAMPLES = frozenset((Heartbeat, Sampled))
KEPT_AWAY = 16  # managers of applications that fell silent, kept for their return


class Controller:
    """One application holds the machine; others are heard, and take over when it leaves.

    The first one to join gets it, since the first step may take minutes (compilation). But who has joined and not
    beaten yet gives way to the first other one that beats, and waits from then on like any other: a line that anybody
    can write must not keep the machine from a program that works.
    """

    def __init__(
        self,
        bus: Bus,
        applier: Applier,
        make_manager: Callable[[AppJoined, Limits], RuntimeManager],
        *,
        limits: Limits = NO_LIMITS,
        patience_s: float = 0.25,
        slow_s: float = 0.25,
    ) -> None:
        """Wire it up.

        Args:
            bus: Where to listen and to announce.
            applier: Who turns the knobs.
            make_manager: Makes the mind of an application, given the limits in force.
            limits: What must hold at start.
            patience_s: How long beats and samples may gather while nothing hangs on any single one of them: each
                waking has its price, on the very board that is being tuned.
            slow_s: How long thinking may take, in which nothing is read and no cap is guarded, before that is said: our
                own parts take some milliseconds.
        """
        self.managers: dict[Key, RuntimeManager] = {}
        self.limits = limits
        self.paused = False
        self._bus = bus
        self.applier = applier
        self._make_manager = make_manager
        self._levels: LevelsAllowed | None = None  # the latest word on them
        self._objective: ObjectiveChanged | None = None  # None: as at the start
        self._holder: Key | None = None
        self._joined: AppJoined | None = None  # how the holder joined
        self._beaten = False  # whether the holder has beaten since it got the machine
        self._waiting: dict[Key, AppJoined] = {}
        self._sensors: dict[str, SensorLost | SensorRecovered] = {}  # the latest word of each, for who joins later
        self._throttled: dict[str, Throttled] = {}
        self._time = asyncio.get_running_loop().time  # the loop's own, at a fifth of the price
        self._slowest_s = slow_s / 2.0
        self._pid = os.getpid()
        self._inbox = bus.subscribe(
            "controller",
            *(Heartbeat, Sampled),
            *(wishes := (BudgetChanged, ObjectiveChanged, ControlPaused, ControlResumed)),
            *(decisions := (AppJoined, AppLeft, PhaseChanged, SensorLost, SensorRecovered, LevelsAllowed, Throttled)),
            *(answers := (ConfigurationApplied, ConfigurationRefused, ConfigurationWithheld, KnobOverwritten)),
            urgent=(*wishes, *decisions, *answers),
            patience_s=patience_s,
        )

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Work off events until cancelled."""
        task_status.started()
        async for event in self._inbox:
            self._take(event)
            self._inbox.gathered = self._may_gather()

    def _may_gather(self) -> frozenset[type]:
        holder = self.holder
        if holder is None or not self._beaten or not holder.rests:
            return NOTHING
        return BEATS if holder.guards else BEATS_AND_SAMPLES

    # Events to managers ---------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        match event:
            case Heartbeat():
                self._beat(event)
            case AppJoined():
                self._join(event)
            case AppLeft():
                self._leave(event)
            case PhaseChanged():
                if (event.app, event.source) == self._holder:
                    self._tell(event)
            case BudgetChanged() | ObjectiveChanged() | ControlPaused() | ControlResumed():
                self._wish(event)
            case SensorLost() | SensorRecovered():
                self._sensors[event.sensor] = event
                self._tell_all(event)
            case LevelsAllowed():
                self._levels = event
                self._tell_all(event)
            case Throttled():
                self._throttled[event.sensor] = event
                self._tell_all(event)
            case _:
                self._tell(event)

    @property
    def holder(self) -> RuntimeManager | None:
        """The mind of the application that holds the machine."""
        return None if self._holder is None else self.managers[self._holder]

    def _wish(self, event: BudgetChanged | ObjectiveChanged | ControlPaused | ControlResumed) -> None:
        """What people want concerns every application, also those that come later."""
        match event:
            case BudgetChanged():
                self.limits = event.limits
            case ObjectiveChanged():
                self._objective = event
            case ControlResumed():
                self.paused = False
            case ControlPaused() if self.paused:
                return
            case ControlPaused():
                pass
        self._tell_all(event)
        if isinstance(event, ControlPaused):
            self.paused = True  # only now: putting back what was there before is the last thing done

    def _tell(self, event: Event) -> None:
        if self._holder is not None:
            self._carry_out(self._holder, self._ask(self._holder, event))

    def _tell_all(self, event: Event) -> None:
        for key in self.managers:
            self._carry_out(key, self._ask(key, event))

    def _ask(self, key: Key, event: Event) -> tuple[Intent | Event, ...]:
        """What a manager makes of an event; that plugins are slow is said, since all else waited."""
        began_s = self._time()
        answer = self.managers[key].on(event)
        if os.getpid() != self._pid:  # a plugin forked: its child must turn nothing, nor keep our locks
            os._exit(1)
        took_s = self._time() - began_s
        if took_s < 2.0 * self._slowest_s:
            return answer
        self._slowest_s = took_s
        why = (
            f"a decision took {took_s:.2g} s, in which no beat, sample or cap was looked at: objective, model, sampler "
            "and search must answer in milliseconds (ceml plugin check FILE.py:FACTORY)"
        )
        return *answer, DecisionSlow(at_s=self._time(), app=key[0], took_s=took_s, why=why)

    def _beat(self, event: Heartbeat) -> None:
        key = (event.app, event.source)
        if not self._beaten and key in self._waiting:
            self._give_way(event)
        if key == self._holder:
            self._beaten = True
            self._tell(event)

    def _give_way(self, event: Heartbeat) -> None:
        """The holder has not beaten yet, and somebody else does: that one takes over."""
        silent, joined = self._holder, self._joined
        if silent is None or joined is None:
            return
        why = f"{event.app} beats, and {silent[0]}, which had the machine, has not beaten yet"
        self._bus.publish(
            ControlRefused(
                at_s=event.at_s, app=silent[0], source=silent[1], holder=event.app, holder_source=event.source, why=why
            )
        )
        self.managers[silent].on(AppLeft(at_s=event.at_s, app=silent[0], source=silent[1], reason=why))
        self._holder, self._waiting[silent] = None, joined
        self._join(self._waiting.pop((event.app, event.source)))

    def _join(self, event: AppJoined) -> None:
        key, holder = (event.app, event.source), self._holder
        if holder is not None and holder != key:
            self._waiting[key] = event
            self._bus.publish(
                ControlRefused(
                    at_s=event.at_s, app=event.app, source=event.source, holder=holder[0], holder_source=holder[1]
                )
            )
            return
        self._holder, self._joined, self._beaten = key, event, False
        if key not in self.managers:
            self._forget_oldest()
            self.managers[key] = manager = self._make_manager(event, self.limits)
            for said in (*self._sensors.values(), *self._throttled.values()):
                manager.on(said)
            for said in (self._levels, self._objective):
                if said is not None:
                    manager.on(said)
            if self.paused:
                manager.on(ControlPaused(at_s=event.at_s))
        self._tell(event)

    def _leave(self, event: AppLeft) -> None:
        key = (event.app, event.source)
        self._waiting.pop(key, None)
        if key != self._holder:
            return
        answer = self._ask(key, event)
        self._holder = None
        if self._waiting:  # somebody waits: hand over instead of going home first
            self._carry_out(key, tuple(part for part in answer if not isinstance(part, Release)))
            self._join(self._waiting.pop(next(iter(self._waiting))))
        else:
            self._carry_out(key, answer)

    def _forget_oldest(self) -> None:
        while len(self.managers) >= KEPT_AWAY:
            self.managers.pop(next(key for key in self.managers if key != self._holder))

    def _carry_out(self, key: Key, answer: tuple[Intent | Event, ...]) -> None:
        for part in answer:
            if isinstance(part, Try | Use | Release):
                if not self.paused and (key == self._holder or isinstance(part, Release)):
                    self.applier.want(part)
            else:
                self._bus.publish(part)
