"""The wiring room: parts become one task group; nothing else brings anything to life.

Lifetimes (house plan 7): lock, then a journal found is put back, then prior values are saved and journalled, then
the house lives; at the end everything is restored inside a shield, and the journal goes only if nothing is left over.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import anyio
import structlog

from ceml import __version__, timeline
from ceml.aftermath import others, own, put_back_left
from ceml.api.budget_file import BudgetFile
from ceml.api.socket import ControlSocket
from ceml.apps.pipe import TICK_S, PipeListener
from ceml.control import calibration
from ceml.control.applier import Applier
from ceml.control.bus import Bus
from ceml.control.controller import Controller
from ceml.control.ending import Ending, HeldUp
from ceml.control.household import Household
from ceml.control.machine import Machine
from ceml.control.readback import PERIOD_S, ReadBack
from ceml.control.stuck import StuckWatcher
from ceml.control.watch import PhaseWatcher, SensorPoller
from ceml.desk import Desk
from ceml.domain.events import (
    AppJoined,
    AppLeft,
    ConfigurationApplied,
    ControlPaused,
    Decided,
    Event,
    Heartbeat,
    RunEnded,
    RunStarted,
    Sampled,
)
from ceml.domain.manager import RuntimeManager
from ceml.domain.settling import SettleTimes
from ceml.domain.values import NAN
from ceml.errors import CemlError, SettingsError, leaves, of_a_plugin
from ceml.parts import check_limits, choose
from ceml.store.journal import Journal
from ceml.store.lock import claimed, locked
from ceml.telemetry.diary import Diary
from ceml.telemetry.record import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anyio.abc import TaskStatus

    from ceml.api.notify import ServiceManager
    from ceml.control.bus import Subscription
    from ceml.control.calibration import Step, Sweep
    from ceml.domain.knobs import Configuration
    from ceml.domain.values import Limits
    from ceml.parts import Parts
    from ceml.saved import Saved
    from ceml.screens.views import Views
    from ceml.settings import Settings
    from ceml.sources import Loaded
    from ceml.store.paths import PlatformContext
    from ceml.telemetry.ledger import Ledger

Eye = Callable[[Event], None]

RESTORE_DEADLINE_S = 20.0  # below what service managers give; each silent file costs two seconds
INTERRUPTED = "interrupted"  # by Ctrl-C where no signal is heard: then nothing more is said
EYES_PATIENCE_S = 0.5  # for beats and samples alone, which nobody reads one by one: each waking has its price
EYES_DEFER_S = 0.005  # for all else: who turns knobs goes before who writes down why


def _say(told: str) -> None:
    sys.stderr.write(f"ceml: {told}\n")


@dataclass(kw_only=True)
class House:
    """A run while it lives and afterwards: what others may look at.

    Attributes:
        ending: What interrupts a run that does not answer; None: nothing does.
        prior: Where prior values are written down; None: nowhere.
        unrestored: What could not be put back at the end, a sentence each.
        say: Tells a person something that no event is for: knowledge that cannot be read or kept.
    """

    parts: Parts
    ledger: Ledger
    diary: Diary = field(default_factory=Diary)
    bus: Bus = field(default_factory=Bus)
    controller: Controller | None = None
    found: Configuration | None = None
    sure: bool = True  # whether nothing cooled when the prior values were read
    reason: str = "ended"
    ending: Ending | None = None
    prior: Journal | None = None
    unrestored: tuple[str, ...] = ()
    say: Callable[[str], None] = _say


def chosen(loaded: Loaded, context: PlatformContext) -> Parts:
    """The parts of a run that is about to turn knobs.

    What a dead run left is put back first: its limits would be taken for the machine's. Which journals of other runtime
    directories are of this machine only the platform can say, so it is made anew where there were any.

    Raises:
        CemlError: What was left cannot be put back, or what is chosen does not fit.
    """
    root = context.runtime_dir
    if loaded.settings.dry_run:
        parts = choose(loaded, context)
        for path in filter(None, (own(root), *others(root, parts.platform.claims))):
            note = "a server lives, or was killed, that turned knobs: what is found is its, not yours (ceml restore)"
            structlog.get_logger().warning("turned_before", journal=str(path), note=note)
        return parts
    _put_back_left(own(root))
    parts = choose(loaded, context)
    left = others(root, parts.platform.claims) if parts.platform.claims else []
    for path in left:
        _put_back_left(path)
    return choose(loaded, context) if left else parts


def _put_back_left(path: Path | None) -> None:
    came = None if path is None else put_back_left(path)
    if came is None:
        return
    structlog.get_logger().warning(
        "put_back_after_crash", knobs=came.count, failed=[item.target for item in came.failed], beware=list(came.beware)
    )
    if came.failed:
        said = [f"{item.target} could not be put back: {item.reason}" for item in came.failed]
        mend = f"mend this and run ceml restore; a reboot does it too, then delete {path}"
        raise SettingsError("\n".join([*said, mend]))


# Living ---------------------------------------------------------------------------------------------------------------


async def live(
    house: House,
    eyes: Sequence[Eye],
    *,
    run: Callable[[House, Household], Any],
    doors: Callable[[ExitStack], None] = lambda stack: None,
) -> None:
    """Let a house live until `run` returns or it is cancelled; whatever happens, the knobs are put back.

    Args:
        house: What to bring to life.
        eyes: Called with every event, in order; they only look.
        run: What to do once controller and sensors are up: listen, wait for the end.
        doors: Makes what can be refused once we hold the lock, before the run begins and anything is written.
    """
    parts, bus = house.parts, house.bus
    speed = parts.context.speed
    inbox = bus.subscribe(
        "telemetry",
        *get_args(Event),
        gathered=(Heartbeat, Sampled),
        patience_s=EYES_PATIENCE_S * speed,
        defers_s=EYES_DEFER_S * speed,
    )
    for problem in parts.problems:
        house.say(problem)
    looks = (house.ledger.on, house.diary.on, _keeper(house), *eyes)
    try:
        await _live(house, inbox, looks, run, doors)
    finally:
        if house.controller is not None and house.reason != INTERRUPTED:
            for look in looks:
                look(_ended(house))


async def _live(
    house: House,
    inbox: Subscription,
    looks: Sequence[Eye],
    run: Callable[[House, Household], Any],
    doors: Callable[[ExitStack], None],
) -> None:
    parts, bus = house.parts, house.bus
    async with anyio.create_task_group() as watched:
        watched.start_soon(_look, inbox, looks, name="telemetry")
        try:
            async with AsyncExitStack() as stack:
                saved = await _prepare(house, stack, doors)
                machine = Machine(parts.platform.actuators)
                house.found, house.sure = await machine.locate(), not await machine.cools()
                bus.publish(_started(house))
                applier = _applier(house, machine, saved)
                house.controller = _controller(house, applier)
                stack.push_async_callback(_put_back, house, applier)
                async with anyio.create_task_group() as group:
                    home = Household(group)
                    await home.start("applier", applier.run)
                    await home.start("controller", house.controller.run)
                    await home.start("read-back", _read_back(house, applier).run)
                    await home.start("phase watcher", PhaseWatcher(bus, parts.make_detector).run)
                    await home.start("stuck watcher", StuckWatcher(bus).run)
                    for sensor in parts.platform.sensors:
                        await home.start(f"{sensor.name} poller", SensorPoller(sensor, bus).run)
                    if parts.scenario is not None:
                        await home.start("scenario", partial(parts.scenario.run, bus.publish))
                    await run(house, home)
                    group.cancel_scope.cancel()
        except BaseException as error:
            cancelled = isinstance(error, anyio.get_cancelled_exc_class())
            house.reason = INTERRUPTED if cancelled else f"failed: {_why(error)}"
            raise
        finally:
            inbox.close()


def _why(error: BaseException) -> str:
    """What ended a run, in one line."""
    leaf = leaves(error)[0]
    told = of_a_plugin(leaf) or leaf
    if isinstance(told, HeldUp):
        return f"a plugin or a disk held it up, in {told}"
    return str(told).partition("\n")[0] if isinstance(told, CemlError) else type(told).__name__


async def _look(inbox: Subscription, looks: Sequence[Eye]) -> None:
    with anyio.CancelScope(shield=True):  # sees the end, too: it closes when the inbox does
        async for event in inbox:
            for look in looks:
                look(event)


def _keeper(house: House) -> Eye:
    """Writes down what was learnt whenever something was decided, and at the end; a failure is said once."""
    store, told = house.parts.store, False
    times, timed = SettleTimes(), house.parts.context.speed == 1.0 and not house.parts.context.in_process

    def on(event: Event) -> None:
        nonlocal told
        if timed and isinstance(event, ConfigurationApplied):
            times.on(event)
        if (
            store is None
            or house.controller is None
            or not isinstance(event, Decided | AppLeft | ControlPaused | RunEnded)
        ):
            return
        try:
            for (app, _), manager in house.controller.managers.items():
                store.keep(app, manager.reasoning.remembered(), frozenset(manager.reasoning.territory.unreachable))
            if times.seen and not isinstance(event, Decided):
                store.keep_settling(times.seen)
        except Exception as error:  # whatever it is: a run is worth more than what it taught
            if not told:
                told = True
                why = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
                house.say(f"what was learnt cannot be kept in {store.directory}: {why}")
        for news in store.news():
            house.say(news)

    return on


async def _prepare(house: House, stack: AsyncExitStack, doors: Callable[[ExitStack], None]) -> Saved:
    """Lock, make the doors, save what is there now; what a dead one left was put back before anybody looked."""
    made = stack.enter_context(ExitStack())
    parts = house.parts
    machine = Machine(parts.platform.actuators)
    if parts.context.in_process or parts.settings.dry_run:
        doors(made)
        return await machine.save()
    paths = parts.context.paths.made()
    made.enter_context(locked(paths.lock))
    made.enter_context(claimed(parts.platform.claims))
    doors(made)
    saved = await machine.save()
    house.prior = Journal(paths.journal, parts.platform.claims)
    house.prior.write(saved)  # what cannot be written is said now, not when the first program comes
    house.prior.clear()
    return saved


async def _put_back(house: House, applier: Applier) -> None:
    """Restore inside a shield, with a deadline."""
    if house.ending is not None:
        house.ending.rest()
    if house.parts.settings.dry_run:
        return
    house.unrestored = (f"not everything was put back within {RESTORE_DEADLINE_S:g} s: run ceml restore",)
    with anyio.CancelScope(shield=True), anyio.move_on_after(RESTORE_DEADLINE_S * house.parts.context.speed):
        house.unrestored = tuple(
            f"{item.target} could not be put back: {item.reason}" for item in await applier.release("the run ends")
        )


def _read_back(house: House, applier: Applier) -> ReadBack:
    context = house.parts.context
    slept_s = (lambda: 0.0) if context.in_process else timeline.slept_s  # virtual time sleeps never
    return ReadBack(house.bus, applier, period_s=PERIOD_S * context.speed, slept_s=slept_s)


def _applier(house: House, machine: Machine, saved: Saved) -> Applier:
    parts = house.parts
    return Applier(
        house.bus,
        machine,
        parts.platform.space,
        saved=saved,
        prior=house.prior,
        dry_run=parts.settings.dry_run,
        deadline_s=0.25 * parts.context.speed,
        sure=house.sure,
    )


def _controller(house: House, applier: Applier) -> Controller:
    parts, mind = house.parts, house.parts.mind
    if not parts.context.in_process:
        mind = replace(mind, unix_offset_s=datetime.now(timezone.utc).timestamp() - anyio.current_time())

    def make_manager(joined: AppJoined, limits: Limits) -> RuntimeManager:
        return RuntimeManager(joined, parts.platform.space, mind, limits)

    return Controller(
        house.bus,
        applier,
        make_manager,
        limits=parts.limits,
        patience_s=0.25 * parts.context.speed,
        slow_s=0.25 * parts.context.speed,
    )


def _started(house: House) -> RunStarted:
    parts, platform = house.parts, house.parts.platform
    assert house.found is not None  # noqa: S101 - located just before
    return RunStarted(
        at_s=anyio.current_time(),
        schema=SCHEMA_VERSION,
        version=__version__,
        platform=platform.name,
        labels=platform.labels,
        knobs={knob.name: knob.levels for knob in platform.space.knobs},
        found=house.found,
        objective=parts.settings.objective,
        model=parts.settings.model,
        search=parts.settings.search,
        limits=parts.limits,
        total_rails=platform.total_rails,
        board=platform.board,
    )


def _ended(house: House) -> RunEnded:
    ledger = house.ledger
    return RunEnded(
        at_s=anyio.current_time(),
        reason=house.reason,
        steps=ledger.steps,
        seconds=ledger.seconds,
        energy_j=ledger.energy_j if ledger.measured else NAN,
        profiling_s=ledger.profiling_s,
    )


# Two ways of running --------------------------------------------------------------------------------------------------


async def serve(
    house: House,
    eyes: Sequence[Eye],
    manager: ServiceManager,
    *,
    until: Callable[[Ending], Awaitable[str]] = Ending.wait,
) -> None:
    """In real time: open the pipe, and live until a signal that ends programs; the service manager hears of it.

    Args:
        house: What to bring to life.
        eyes: Called with every event, in order; they only look.
        manager: Who started us, if it wants to know.
        until: What to wait for once the doors are open, instead of a signal; returns the reason of the end.

    Raises:
        CemlError: It did not answer the signal, and was interrupted.
    """
    parts = house.parts
    listener = PipeListener(
        parts.settings.pipe or parts.context.paths.beats,
        group=parts.settings.group,
        t_tolerance_s=1.0 * parts.context.speed,
        silence_s=5.0 * parts.context.speed,
        tick_s=TICK_S * parts.context.speed,
        hurries=lambda: house.bus.hurries(Heartbeat),
    )

    views = _views(parts.settings, speed=parts.context.speed)

    def doors(stack: ExitStack) -> None:
        listener.open(stack)
        if views is not None:
            views.open(stack)

    async def listen(*, task_status: TaskStatus[None]) -> None:
        await listener.run(house.bus.publish, task_status=task_status)

    async def watch_budget(path: Path, desk: Desk, *, task_status: TaskStatus[None]) -> None:
        check = partial(check_limits, platform=parts.platform)
        watcher = BudgetFile(path, check, lambda: desk.limits, speed=parts.context.speed)
        await watcher.run(house.bus.publish, task_status=task_status)

    async def until_signal(house: House, home: Household) -> None:
        assert house.controller is not None  # noqa: S101 - it is up before the doors open
        desk = Desk(parts, house.ledger, house.diary, house.controller, house.bus)
        door = ControlSocket(
            parts.context.paths.control,
            desk.answer,
            version=__version__,
            group=parts.settings.group,
            speed=parts.context.speed,
        )
        await home.start("pipe listener", listen)
        if parts.settings.budget_file is not None:
            await home.start("budget file", partial(watch_budget, parts.settings.budget_file, desk))
        await home.start("control socket", door.run)
        if views is not None:
            await views.start(home, desk.answer, house.bus)
        where = str(parts.settings.pipe or parts.context.paths.beats)
        if parts.settings.dry_run:
            note = "nothing is changed: what would be tried is named, what would be chosen only measuring can tell"
            structlog.get_logger().info("dry_run", note=note)
        if manager.watchdog_s:
            await home.start("watchdog", partial(manager.watch, house.controller.applier.verified))
        group = parts.settings.group
        may = f"group {group}" if group else f"user {os.geteuid()} alone; others with --group NAME"
        structlog.get_logger().info("ready", platform=parts.platform.name, pipe=where, may_beat=may, end_with="Ctrl-C")
        manager.ready()
        house.reason = await until(ending)
        manager.stopping(house.reason)

    with Ending() as ending:
        house.ending = ending
        ending.heir = [sys.executable, "-m", "ceml", "restore", "--runtime-dir", str(parts.context.runtime_dir)]
        ending.heir += ["--ends-with", "2"]
        try:
            await live(house, (*eyes, manager.on), run=until_signal, doors=doors)
        finally:
            if ending.held_up:  # whatever else came of it: this is the reason
                raise CemlError(
                    f"{ending.waited}: a plugin or a disk held the run up, in {ending.held_up}. It was interrupted "
                    "there, and the run was ended"
                ) from None


def _views(settings: Settings, *, speed: float) -> Views | None:
    """What looks at the run, where anything does: nothing of it is imported otherwise."""
    if settings.web is None and settings.metrics is None and settings.otlp is None:
        return None
    from ceml.screens.views import Views

    return Views(settings, speed=speed)


async def replay(house: House, eyes: Sequence[Eye]) -> None:
    """In virtual time: the platform's own program runs to its end."""
    beats = house.parts.platform.beats
    if beats is None:
        raise SettingsError(f"platform {house.parts.platform.name} brings no program to replay; use ceml serve")

    async def until_done(house: House, home: Household) -> None:
        await beats.run(house.bus.publish, task_status=anyio.TASK_STATUS_IGNORED)
        house.reason = "program done"

    await live(house, eyes, run=until_done)


async def calibrate(house: House, sweep: Sweep, say: Callable[[int, Step], None]) -> bool:
    """Measure a sweep with the same care for the knobs as a run; returns whether no signal came first."""
    machine = Machine(house.parts.platform.actuators)
    done = False

    async def measure(house: House, _home: Household) -> None:
        nonlocal done
        async with anyio.create_task_group() as race:

            async def hear() -> None:
                house.reason = await ending.wait()
                race.cancel_scope.cancel()

            race.start_soon(hear, name="signals")
            assert house.controller is not None  # noqa: S101 - it is up by now
            await house.controller.applier.take_over()
            await calibration.run(sweep, machine, house.parts.platform.space, house.bus, say)
            done = True
            race.cancel_scope.cancel()

    with Ending() as ending:
        house.ending = ending
        await live(house, (), run=measure)
    return done
