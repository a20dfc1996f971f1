"""The controller: takes events, asks managers, applies what they want, announces what became of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from ceml.control.hold import UNKNOWN, Hold
from ceml.domain.events import (
    AppJoined,
    AppLeft,
    BudgetChanged,
    ConfigurationApplied,
    ConfigurationRefused,
    ConfigurationReleased,
    ConfigurationWithheld,
    ControlPaused,
    ControlRefused,
    ControlResumed,
    ControlYielded,
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
    Try,
    Use,
)
from ceml.domain.knobs import Configuration
from ceml.domain.values import NO_LIMITS
from ceml.errors import CemlError, Refused, Temporary
from ceml.saved import VOLATILE, Unrestored

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from ceml.control.bus import Bus
    from ceml.control.machine import Machine
    from ceml.control.ports import PriorValues
    from ceml.domain.events import Event, Intent
    from ceml.domain.knobs import KnobSpace
    from ceml.domain.manager import RuntimeManager
    from ceml.domain.values import Limits
    from ceml.saved import Saved

Key = tuple[str, str]  # application, source

PATIENCE = (0.5, 2.0, 8.0)  # deadlines to wait before a failed apply is tried again; a busy machine recovers in these
NOTHING: frozenset[type] = frozenset()
BEATS = frozenset((Heartbeat,))
BEATS_AND_SAMPLES = frozenset((Heartbeat, Sampled))
TAKE_OVER = 12.0  # deadlines that reading all prior values may take, and where the machine stands at the end
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
        machine: Machine,
        space: KnobSpace,
        make_manager: Callable[[AppJoined, Limits], RuntimeManager],
        *,
        saved: Saved,
        prior: PriorValues | None = None,
        limits: Limits = NO_LIMITS,
        dry_run: bool = False,
        deadline_s: float = 0.25,
        patience_s: float = 0.25,
        slow_s: float = 0.25,
    ) -> None:
        """Wire it up.

        Args:
            bus: Where to listen and to announce.
            machine: What to turn.
            space: The states it may be in.
            make_manager: Makes the mind of an application, given the limits in force.
            saved: Prior values, put back when no application holds the machine; read anew before the first write after
                that, since somebody may have changed them meanwhile.
            prior: Where they are written down; None: nowhere.
            limits: What must hold at start.
            dry_run: Announce what would be applied and write nothing.
            deadline_s: How long an apply may take; it never blocks the mind.
            patience_s: How long beats and samples may gather while nothing hangs on any single one of them: each
                waking has its price, on the very board that is being tuned.
            slow_s: How long thinking may take, in which nothing is read and no cap is guarded, before that is said: our
                own parts take some milliseconds.
        """
        self.managers: dict[Key, RuntimeManager] = {}
        self.limits = limits
        self.paused = False
        self._bus = bus
        self._machine = machine
        self._hold = Hold(machine)
        self._space = space
        self._make_manager = make_manager
        self._saved = saved
        self._prior = prior
        self._touched = False  # whether anything was written since the prior values were
        self._levels: LevelsAllowed | None = None  # the latest word on them
        self._dry_run = dry_run
        self._deadline_s = deadline_s
        self._objective: ObjectiveChanged | None = None  # None: as at the start
        self._holder: Key | None = None
        self._joined: AppJoined | None = None  # how the holder joined
        self._beaten = False  # whether the holder has beaten since it got the machine
        self._waiting: dict[Key, AppJoined] = {}
        self._sensors: dict[str, SensorLost | SensorRecovered] = {}  # the latest word of each, for who joins later
        self._time = asyncio.get_running_loop().time  # the loop's own, at a fifth of the price
        self._slowest_s = slow_s / 2.0
        self._next: Intent | None = None  # at most one intent waits; a newer one replaces it
        self._woken = anyio.Event()
        self._proofs: list[anyio.Event] = []
        self._look_due = False
        self._again = ""  # why what is held is asserted again
        self._inbox = bus.subscribe(
            "controller",
            *(Heartbeat, Sampled),
            *(wishes := (BudgetChanged, ObjectiveChanged, ControlPaused, ControlResumed)),
            *(decisions := (AppJoined, AppLeft, PhaseChanged, SensorLost, SensorRecovered)),
            *(answers := (ConfigurationApplied, ConfigurationRefused, ConfigurationWithheld, KnobOverwritten)),
            urgent=(*wishes, *decisions, *answers),
            patience_s=patience_s,
        )

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Work off events until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._apply_wanted, name="applier")
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
            for said in self._sensors.values():
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
                    self._next = part
                    self._woken.set()
            else:
                self._bus.publish(part)

    # Intents to the machine -----------------------------------------------------------------------------------------

    async def _apply_wanted(self) -> None:
        """One apply at a time; the mind goes on thinking meanwhile."""
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            await self._keep_hold()
            intent, self._next = self._next, None
            match intent:
                case Try() | Use() if self._dry_run:
                    await self._withhold(intent.configuration, intent.why)
                case Try() | Use():
                    await self._turn(intent.configuration, intent.why)
                case Release():
                    await self.release(intent.why)
                case None:
                    pass
            if self._proofs:
                await self._prove()

    async def verified(self) -> None:
        """Return once the loop that applies has had its turn and read the machine back: what a watchdog waits for."""
        proof = anyio.Event()
        self._proofs.append(proof)
        self._woken.set()
        await proof.wait()

    async def _prove(self) -> None:
        proofs, self._proofs = self._proofs, []
        with anyio.move_on_after(self._deadline_s):
            await self._machine.locate()
            for proof in proofs:
                proof.set()

    def look_back(self) -> None:
        """Have the machine read back as soon as nothing is being applied."""
        self._look_due = True
        self._woken.set()

    def assert_again(self, why: str) -> None:
        """Have what is in force applied once more."""
        self._again = why
        self._woken.set()

    async def _keep_hold(self) -> None:
        """Put back what somebody else turned, or yield; what is wanted anew matters more."""
        wanted = self._hold.wanted
        if self._look_due and self._next is None:
            turned = await self._read_back()
            if turned:
                self._again = f"{' and '.join(turned)} was turned by somebody else"
        why, self._again, self._look_due = self._again, "", False
        if why and wanted is not None and self._next is None and not self.paused:
            self._next = Use(configuration=wanted, why=why)

    async def _read_back(self) -> tuple[str, ...]:
        """Announce the knobs that somebody else turned; returns their names, none where they are left to them."""
        turned: tuple[KnobOverwritten, ...] = ()
        with anyio.move_on_after(self._deadline_s):
            turned = await self._hold.look()
            if self._touched and self._prior is not None:
                self._prior.ensure(self._saved)
        for event in turned:
            self._bus.publish(event)
        yielded = self._hold.lost(turned[0].at_s) if turned else None
        if yielded is None:
            return tuple(event.knob for event in turned)
        self._bus.publish(yielded)
        self._bus.publish(ControlPaused(at_s=yielded.at_s, source=f"{yielded.knob} is fought over"))
        return ()

    async def _withhold(self, wanted: Configuration, why: str) -> None:
        stays = await self._machine.locate()
        self._bus.publish(ConfigurationWithheld(at_s=anyio.current_time(), requested=wanted, effective=stays, why=why))

    async def _turn(self, wanted: Configuration, why: str) -> None:
        """Apply what is wanted; before the first write, what stands there is what will be put back."""
        try:
            if not self._touched:
                await self.take_over()
        except (Temporary, TimeoutError) as error:
            reason = str(error) or "a driver gives no answer; see ceml doctor"
            self._refuse(wanted, "", reason)
            return
        except CemlError as error:
            now_s, why = anyio.current_time(), f"{error}; then: ceml resume"
            self._bus.publish(ControlYielded(at_s=now_s, knob="", times=0, why=why))
            self._bus.publish(ControlPaused(at_s=now_s, source=why))
            return
        out = None if self._levels is None else _outside(self._levels, wanted)
        if out is None:
            await self._apply(wanted, why)
            return
        self._refuse(wanted, out, f"{out} is limited by somebody else since then")

    def _refuse(self, wanted: Configuration, knob: str, reason: str) -> None:
        self._bus.publish(
            ConfigurationRefused(at_s=anyio.current_time(), requested=wanted, knob=knob, reason=reason, passing=True)
        )

    async def take_over(self) -> None:
        """Write down what is there; what changed since it was last written down is said, and limits are kept to.

        Raises:
            CemlError: It cannot be read or written down: then nothing may be turned.
            TimeoutError: A driver gives no answer.
        """
        with anyio.fail_after(TAKE_OVER * self._deadline_s):
            saved, levels = await self._machine.save(), await self._machine.allowed()
        if self._prior is not None:
            self._prior.write(saved)
        before = {item.target: item.value for item in self._saved.items}
        changed = tuple(
            f"{item.target} from {before[item.target]} to {item.value}"
            for item in saved.items
            if item.target in before and before[item.target] != item.value and item.kind not in VOLATILE
        )
        self._saved, self._touched = saved, True
        if changed:
            whole = {knob.name: knob.levels for knob in self._space.knobs}
            fewer = {knob: left for knob, left in levels.items() if len(left) < len(whole.get(knob, ()))}
            self._levels = LevelsAllowed(at_s=anyio.current_time(), levels=fewer, changed=changed)
            self._bus.publish(self._levels)
            self._tell_all(self._levels)

    async def _apply(self, wanted: Configuration, why: str) -> None:
        """Apply; what may pass is tried again, unless something else is wanted meanwhile."""
        for patience in (*PATIENCE, None):
            refused = await self._try(wanted, why)
            if refused is None:
                return
            if patience is None or not refused.passing or self._next is not None:
                self._bus.publish(refused)
                return
            with anyio.move_on_after(patience * self._deadline_s):
                await self._wanted_anew()

    async def _wanted_anew(self) -> None:
        """Wait for another intent; a look that is due cuts no patience short."""
        while self._next is None:
            if self._woken.is_set():
                self._woken = anyio.Event()
            await self._woken.wait()

    async def _try(self, wanted: Configuration, why: str) -> ConfigurationRefused | None:
        start_s = anyio.current_time()
        knob, reason, passing = "", f"no answer within {self._deadline_s:g} s", True
        try:
            with anyio.move_on_after(self._deadline_s):
                await self._read_back()  # what was measured until now counts only if nobody else turned a knob
                before = await self._machine.locate()
                self._hold.loosen()
                effective = before if before == wanted else await self._machine.apply(wanted)
                now_s = anyio.current_time()
                self._hold.take(wanted, effective, now_s)
                self._bus.publish(
                    ConfigurationApplied(
                        at_s=now_s,
                        requested=wanted,
                        effective=effective,
                        in_force_s=now_s + self._space.settle_s(before, effective),
                        took_s=now_s - start_s,
                        why=why,
                    )
                )
                return None
        except Refused as error:
            knob, reason, passing = error.knob, str(error), False
        except Temporary as error:
            reason = str(error)
        return ConfigurationRefused(
            at_s=anyio.current_time(), requested=wanted, knob=knob, reason=reason, passing=passing
        )

    async def release(self, why: str) -> tuple[Unrestored, ...]:
        """Put every knob back to its prior value; says and returns what could not be.

        A machine that was not touched since then is left as it is: whoever turned a knob meanwhile meant it.
        """
        self._hold.let_go()
        unrestored: tuple[Unrestored, ...] = ()
        if self._touched:
            try:
                unrestored = await self._machine.restore(self._saved)
            except CemlError as error:
                unrestored = (Unrestored("what was turned", f"{error}: run ceml restore"),)
        if not unrestored:
            self._touched = False
            if self._prior is not None:
                self._prior.clear()
        self._bus.publish(
            ConfigurationReleased(
                at_s=anyio.current_time(),
                effective=await self._where(),
                unrestored=tuple(f"{item.target}: {item.reason}" for item in unrestored),
                why=why,
            )
        )
        return unrestored

    async def _where(self) -> Configuration:
        """What is true now; `?` everywhere where a driver does not say so in time."""
        with suppress(CemlError, TimeoutError), anyio.fail_after(TAKE_OVER * self._deadline_s):
            return await self._machine.locate()
        return Configuration({knob.name: UNKNOWN for knob in self._space.knobs})


def _outside(allowed: LevelsAllowed, wanted: Configuration) -> str | None:
    """The knob whose level the limits of others do not leave; None: there is none."""
    return next((knob for knob, level in wanted.items() if level not in allowed.levels.get(knob, (level,))), None)
