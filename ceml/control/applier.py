"""The applier: carries out what managers want, one at a time, keeps hold of it, and puts everything back.

Before the first write the prior values are read and written down; whatever else happens, they return.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

import anyio
import structlog

from ceml.control.hold import UNKNOWN, Hold
from ceml.domain.events import (
    ConfigurationApplied,
    ConfigurationRefused,
    ConfigurationReleased,
    ConfigurationWithheld,
    ControlPaused,
    ControlYielded,
    KnobOverwritten,
    LevelsAllowed,
    Release,
    Try,
    Use,
)
from ceml.domain.knobs import Configuration
from ceml.errors import CemlError, Refused, Temporary
from ceml.saved import VOLATILE, Unrestored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import TaskStatus

    from ceml.control.bus import Bus
    from ceml.control.machine import Machine
    from ceml.control.ports import NewLimit, PriorValues
    from ceml.domain.events import Intent
    from ceml.domain.knobs import KnobSpace, Level
    from ceml.saved import Saved

PATIENCE = (0.5, 2.0, 8.0)  # deadlines to wait before a failed apply is tried again; a busy machine recovers in these
COOLED = 4.0  # deadlines between two looks whether the kernel cools no more
TAKE_OVER = 12.0  # deadlines that reading all prior values may take, and where the machine stands at the end


class Applier:
    """One hand on the machine, so that no two changes are ever under way."""

    def __init__(
        self,
        bus: Bus,
        machine: Machine,
        space: KnobSpace,
        *,
        saved: Saved,
        prior: PriorValues | None = None,
        dry_run: bool = False,
        deadline_s: float = 0.25,
        sure: bool = True,
    ) -> None:
        """Wire it up.

        Args:
            bus: Where to announce what became of it.
            machine: What to turn.
            space: The states it may be in.
            saved: Prior values, put back when no application holds the machine; read anew before the first write after
                that, since somebody may have changed them meanwhile.
            prior: Where they are written down; None: nowhere.
            dry_run: Announce what would be applied and write nothing.
            deadline_s: How long an apply may take; it never blocks the mind.
            sure: Whether `saved` was read while the kernel cooled nothing: else limits may have read too low.
        """
        self._bus = bus
        self._machine = machine
        self._hold = Hold(machine)
        self._space = space
        self._saved = saved
        self._prior = prior
        self._sure = sure
        self._touched = False  # whether anything was written since the prior values were
        self._levels: LevelsAllowed | None = None  # the latest word on them
        self._dry_run = dry_run
        self._deadline_s = deadline_s
        self._next: Intent | None = None  # at most one waits
        self._postponed: Intent | None = None  # until the kernel cools no more
        self._woken = anyio.Event()
        self._proofs: list[anyio.Event] = []
        self._look_due = False
        self._again = ""  # why what is held is asserted again
        self._knobs = frozenset(knob.name for knob in space.knobs)
        self._told_cooling = False
        self._cool: Saved | None = None  # what stood there when it was last looked at while nothing cooled

    def want(self, intent: Intent) -> None:
        """Have this done as soon as nothing is being applied; what waited is replaced by it."""
        self._next = intent
        self._woken.set()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """One apply at a time, until cancelled; the mind goes on thinking meanwhile."""
        task_status.started()
        while True:
            with anyio.move_on_after(inf if self._postponed is None else COOLED * self._deadline_s):
                await self._woken.wait()
            self._woken = anyio.Event()
            await self._keep_hold()
            intent, self._next, self._postponed = self._next or self._postponed, None, None
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
        if self._look_due and not self._touched and not self._dry_run:
            await self._look_idle()
        if self._look_due and self._next is None:
            turned = await self._read_back()
            if turned and wanted is not None and self._outside(wanted) is None:
                self._again = f"{' and '.join(turned)} {'was' if len(turned) == 1 else 'were'} turned by somebody else"
        why, self._again, self._look_due = self._again, "", False
        if why and wanted is not None and self._next is None:
            self._next = Use(configuration=wanted, why=why)

    async def _look_idle(self) -> None:
        """While the machine is left alone: limits that somebody sets are his also if cooling hides them later."""
        with suppress(CemlError), anyio.move_on_after(self._deadline_s):
            saved = await self._machine.save()
            if not await self._machine.cools():
                self._cool = saved

    async def _read_back(self) -> tuple[str, ...]:
        """Announce the knobs that somebody else turned; returns their names, none where they are left to them."""
        turned: tuple[KnobOverwritten, ...] = ()
        with anyio.move_on_after(self._deadline_s):
            turned = await self._hold.look()
            if self._touched and self._prior is not None:
                self._prior.ensure(self._saved)
        if not turned:
            return ()
        for event in turned:
            self._bus.publish(event)
        self._hold.no_fight(await self._keep_limits({event.knob for event in turned}))
        yielded = self._hold.lost(turned[0].at_s)
        if yielded is not None:
            self._yield(yielded, f"{yielded.knob} is fought over")
            return ()
        return tuple(event.knob for event in turned)

    async def _keep_limits(self, knobs: frozenset[str] | set[str]) -> set[str]:
        """A limit that somebody set while it was ours is what is put back, and kept to from now on.

        Returns:
            The knobs over which nobody fights: a limit was lowered, or is another one than was known.
        """
        new: tuple[NewLimit, ...] = ()
        levels: Mapping[str, tuple[Level, ...]] = {}
        with suppress(CemlError), anyio.move_on_after(self._deadline_s):
            found = await self._machine.new_limits(knobs)
            levels = await self._machine.allowed(self._saved.with_values(limit.item for limit in found))
            new = found
        if not new:
            return set()
        before, self._saved = self._saved.values, self._saved.with_values(limit.item for limit in new)
        peace = {limit.knob for limit in new if limit.lowers or limit.item.value != before.get(limit.item.target)}
        changed = tuple(
            f"{item.target} from {before.get(item.target, 'another value')} to {item.value}" for _, item, _ in new
        )
        self._limit(levels, changed)
        if self._prior is not None:
            try:
                self._prior.write(self._saved)
            except CemlError as error:
                self._yield_for(error)
        return peace

    async def _withhold(self, wanted: Configuration, why: str) -> None:
        stays = await self._machine.locate()
        self._bus.publish(ConfigurationWithheld(at_s=anyio.current_time(), requested=wanted, effective=stays, why=why))

    async def _turn(self, wanted: Configuration, why: str) -> None:
        """Apply what is wanted; before the first write, what stands there is what will be put back."""
        try:
            if not self._touched and not await self.take_over():
                self._postpone(wanted, why)
                return
        except (Temporary, TimeoutError) as error:
            reason = str(error) or "a driver gives no answer; see ceml doctor"
            self._refuse(wanted, "", reason)
            return
        except CemlError as error:
            self._yield_for(error)
            return
        await self._read_back()  # what was measured until now counts only if nobody else turned a knob
        await self._apply(wanted, why)

    def _postpone(self, wanted: Configuration, why: str) -> None:
        if not self._told_cooling:
            self._told_cooling = True
            problem = (
                "the kernel cools this machine, and lowers limits for it: nobody can tell now what they were, so "
                "nothing is turned until it has cooled (ceml doctor names what cools)"
            )
            structlog.get_logger().warning("waits_for_cooling", problem=problem)
        self._postponed = Use(configuration=wanted, why=why)

    def _outside(self, wanted: Configuration) -> str | None:
        """The knob whose level the limits of others do not leave; None: there is none."""
        if self._levels is None:
            return None
        left = self._levels.levels
        return next((knob for knob, level in wanted.items() if level not in left.get(knob, (level,))), None)

    def _yield_for(self, error: CemlError) -> None:
        why = f"{error}; then: ceml resume"
        self._yield(ControlYielded(at_s=anyio.current_time(), knob="", times=0, why=why), why)

    def _yield(self, said: ControlYielded, source: str) -> None:
        self._bus.publish(said)
        self._bus.publish(ControlPaused(at_s=said.at_s, source=source))

    def _refuse(self, wanted: Configuration, knob: str, reason: str) -> None:
        self._bus.publish(
            ConfigurationRefused(at_s=anyio.current_time(), requested=wanted, knob=knob, reason=reason, passing=True)
        )

    async def take_over(self) -> bool:
        """Write down what is there; what changed since it was last written down is said, and limits are kept to.

        Returns:
            Whether it may be turned now: not while the kernel cools and nobody knows the limits from before.

        Raises:
            CemlError: It cannot be read or written down: then nothing may be turned.
            TimeoutError: A driver gives no answer.
        """
        with anyio.fail_after(TAKE_OVER * self._deadline_s):
            cools = await self._machine.cools()
            if cools and not self._sure:
                return False
            saved = await self._machine.uncooled(await self._machine.save(), self._cool or self._saved)
            levels = await self._machine.allowed(saved)
        if self._prior is not None:
            self._prior.write(saved)
        before = {item.target: item.value for item in self._saved.items}
        changed = tuple(
            f"{item.target} from {before[item.target]} to {item.value}"
            for item in saved.items
            if item.target in before and before[item.target] != item.value and item.kind not in VOLATILE
        )
        sure, self._sure = self._sure, True
        self._saved, self._touched, self._cool = saved, True, None
        if not sure:  # that cooling ended changed what was read; which limits are somebody's shows only now
            self._limit(levels, ())
        elif changed:
            self._limit(levels, changed)
        return True

    def _limit(self, levels: Mapping[str, tuple[Level, ...]], changed: tuple[str, ...]) -> None:
        """Say which levels are left; where there are none of a knob, the machine is left alone."""
        now_s, whole = anyio.current_time(), {knob.name: knob.levels for knob in self._space.knobs}
        fewer = {knob: left for knob, left in levels.items() if len(left) < len(whole.get(knob, ()))}
        if not changed and not fewer:
            return
        self._levels = LevelsAllowed(at_s=now_s, levels=fewer, changed=changed)
        self._bus.publish(self._levels)
        none_left = next((knob for knob, left in fewer.items() if not left), None)
        if none_left is not None:
            why = (
                f"somebody limited {none_left} below every level that ceml knows ({'; '.join(changed)}): the machine "
                "is left alone, every knob is put back. Raise the limit, then `ceml resume`"
            )
            self._yield(ControlYielded(at_s=now_s, knob=none_left, times=1, why=why), f"{none_left} is limited")

    async def _apply(self, wanted: Configuration, why: str) -> None:
        """Apply; what may pass is tried again, unless something else is wanted meanwhile."""
        for patience in (*PATIENCE, None):
            out = self._outside(wanted)
            if out is not None:
                self._refuse(wanted, out, f"{out} is limited by somebody else since then")
                return
            refused = await self._try(wanted, why)
            if refused is None:
                return
            if patience is None or not refused.passing or self._next is not None:
                self._bus.publish(refused)
                return
            await self._keep_limits(self._knobs)  # one may have been lowered this very moment
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
        self._postponed = None
        unrestored: tuple[Unrestored, ...] = ()
        if self._touched:
            await self._keep_limits(self._knobs)  # one that was lowered since the last look
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
