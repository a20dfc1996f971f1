"""Who is speaking: turns parsed lines and their time of arrival into events. Bookkeeping only, no input or output.

A session is one run of one program, known by (application, source). Whatever comes in, the memory stays bounded, work
that was really said is published exactly once, and the `at_s` of a session's heartbeats always increases. Anybody may
write anything: sessions behind which no process was seen come at a bounded rate, and make room for others when all
places are taken, unless they beat.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, nextafter
from typing import TYPE_CHECKING, Protocol

from ceml.apps.gathering import Gathering
from ceml.apps.newcomers import Newcomers
from ceml.apps.strays import PROOF_BEATS, Heard, Strays
from ceml.apps.wire import Beat, Join, Leave
from ceml.domain.events import SILENT, AppJoined, AppLeft, Heartbeat, LinesRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ceml.domain.events import Event

MOST_SESSIONS = 256
FIRST_BEATS_S = 60.0  # patience with a program of which too few beats are known to say how often it beats
PATIENCE_INTERVALS = 10  # silence of so many intervals: gone
INTERVAL_WEIGHT = 0.2  # of the newest interval in the running mean
RESTART_BEATS = 3  # so many numbers in order, all below the last one: the program was started anew
LOOKS = 32  # processes looked up between two calls of `look`, so that a flood of joins cannot keep us busy
TRIES = 3  # look-ups of one process until it is taken for one that we cannot see
EXAMPLE_LENGTH = 120


class Liveness(Protocol):
    """What the operating system knows of processes."""

    def identify(self, pid: int) -> int | None:
        """What tells this process from a later one of the same pid; None: not here, or not on our pipe."""
        ...

    def alive(self, pid: int, identity: int) -> bool:
        """Whether this very process still runs."""
        ...


@dataclass(slots=True)
class _Session:
    """One run of one program. `last_s` is the time of its last heartbeat, `seen_s` the arrival of its last line."""

    app: str
    source: str
    seen_s: float
    total_work: float | None = None
    pid: int | None = None  # as it says
    identity: int | None = None  # known where the pid is verified
    tries: int = 0
    present: bool = True
    dead: bool = False
    our_clock: bool = False  # a time of its own was once near its arrival
    foreign_clock: bool = False
    back: bool = False  # the gap before its next beat is no interval
    beats: int = 0
    number: int = -1
    last_s: float = -inf
    interval_s: float = 0.0
    arrived_s: float = -inf  # of the last beat that was not gathered
    pace_s: float = 0.0  # between the last two of those
    gathered: Gathering = field(default_factory=Gathering)
    held: list[tuple[str, Beat, bytes]] = field(default_factory=list[tuple[str, Beat, bytes]])

    @property
    def patience_s(self) -> float:
        """Silence after which it counts as gone, not yet at least `silence_s`."""
        if self.beats >= 2:
            return PATIENCE_INTERVALS * self.interval_s
        return FIRST_BEATS_S if self.identity is None else inf

    @property
    def proven(self) -> bool:
        """Whether it is a program for sure: its process was seen, or it beats. It keeps its place."""
        return self.identity is not None or self.beats >= PROOF_BEATS


class Roster:
    """The sessions, and what was refused.

    Attributes:
        beats: Beats accepted so far.
        work: Steps accepted so far.
        refused: What was no good so far: reason -> count. `far_time` and `not_finite` are remarks: their beats count.
    """

    def __init__(
        self, liveness: Liveness, *, t_tolerance_s: float = 1.0, silence_s: float = 5.0, gather_s: float = 0.0
    ) -> None:
        """Start with nobody.

        Args:
            liveness: What is known of processes.
            t_tolerance_s: A `t` further than this from the arrival is not believed.
            silence_s: The shortest silence that counts as having left.
            gather_s: Beats without a time of their own that come sooner than this after a heartbeat are published
                with the next one, spread over the time until then: a burst is read within microseconds, and what
                it tells of was not done in them.
        """
        self.beats = 0
        self.work = 0.0
        self.refused: dict[str, int] = {}
        self._liveness = liveness
        self._t_tolerance_s = t_tolerance_s
        self._silence_s = silence_s
        self._gather_s = gather_s
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._strays = Strays()
        self._newcomers = Newcomers()
        self._looks = LOOKS
        self._news: dict[str, int] = {}
        self._example = b""

    # Lines ------------------------------------------------------------------------------------------------------

    def hear(self, said: Beat | Join | Leave, arrival_s: float, line: bytes = b"") -> Sequence[Event]:
        """Take in one line.

        Args:
            said: What the line says.
            arrival_s: When it was read.
            line: The line itself, as example if it is refused.

        Returns:
            What happened, in order: mostly one `Heartbeat`.
        """
        session = self._sessions.get((said.app, said.source))
        if isinstance(said, Beat):
            if session is not None and session.present:
                return self._beat(session, said, arrival_s, line)
            held = [*self._strays.take(said.app, said.source), Heard(said, arrival_s, line)]
            if session is None and len(held) < PROOF_BEATS and self._is_here(said.app):
                self._refuse_strays(self._strays.hold(held))
                return ()
            session, events = self._enter(session, said, arrival_s, line)
            return [*events, *self._replayed(session, held)] if session is not None else events
        if isinstance(said, Leave):
            if session is not None and session.present:
                return self._remove(session, arrival_s, "left")
            self.refuse("not_joined", line)
            return ()
        held = self._strays.take(said.app, said.source)
        events = self._join(session, said, arrival_s, line)
        return [*events, *self._replayed(self._sessions.get((said.app, said.source)), held)] if held else events

    def _is_here(self, app: str) -> bool:
        return any(other.present and other.app == app for other in self._sessions.values())

    def _replayed(self, session: _Session | None, held: Sequence[Heard]) -> list[Event]:
        if session is None:
            return []
        return [event for said, arrival_s, line in held for event in self._beat(session, said, arrival_s, line)]

    def _refuse_strays(self, held: Sequence[Heard]) -> None:
        for heard in held:
            self.refuse("stray", heard.line)

    def refuse(self, reason: str, line: bytes) -> None:
        """Count a line that is no good."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        self._news[reason] = self._news.get(reason, 0) + 1
        self._example = line

    def drain(self, now_s: float) -> LinesRefused | None:
        """What was refused since the last call, with the latest as example; None where nothing was."""
        if not self._news:
            return None
        counts, self._news = self._news, {}
        return LinesRefused(at_s=now_s, counts=counts, example=repr(self._example[:EXAMPLE_LENGTH])[:EXAMPLE_LENGTH])

    def _enter(
        self, session: _Session | None, said: Beat | Join, arrival_s: float, line: bytes
    ) -> tuple[_Session | None, list[Event]]:
        """Someone new, or back after silence. No session: the house is full, or too many came at once."""
        key = (said.app, said.source)
        room: list[Event] = []
        known, session = session is not None, session or _Session(said.app, said.source, arrival_s)
        if isinstance(said, Join):
            self._note(session, said)
        if not known:
            welcome = session.identity is not None or self._newcomers.admit(arrival_s)
            made = self._make_room(arrival_s) if welcome else None
            if made is None:
                self.refuse("too_many", line)
                return None, []
            room, self._sessions[key] = made, session
        session.present, session.seen_s, session.back = True, arrival_s, True
        events = [*room, *self._bury(said.app, key, arrival_s)]
        joined = AppJoined(
            at_s=arrival_s, app=said.app, source=said.source, total_work=session.total_work, pid=session.pid
        )
        return session, [*events, joined]

    def _join(self, session: _Session | None, said: Join, arrival_s: float, line: bytes) -> Sequence[Event]:
        events: list[Event] = []
        if session is not None and session.present and said.pid not in (None, session.pid) and self._died(session):
            events += self._remove(session, arrival_s, "process gone")
            session = None
        if session is not None and not said.source:  # cannot be told from a new start: numbers begin anew
            self._refuse_held(session)
            session.number = -1
        if session is None or not session.present:
            return [*events, *self._enter(session, said, arrival_s, line)[1]]
        session.seen_s = arrival_s
        self._note(session, said)
        return events

    def _note(self, session: _Session, said: Join) -> None:
        if session.total_work is None:
            session.total_work = said.total_work
        if session.identity is None and said.pid is not None:
            session.pid, session.tries = said.pid, 0
            self._verify(session)

    # Beats ------------------------------------------------------------------------------------------------------

    def _beat(self, session: _Session, said: Beat, arrival_s: float, line: bytes) -> Sequence[Event]:
        session.seen_s = arrival_s
        work = said.work
        if session.held or said.beat <= session.number:
            judged = self._hold(session, said, line)
            if judged is None:
                return ()
            work = judged
        if said.dropped:
            self.refuse("not_finite", line)
        session.number = said.beat
        self.beats += 1
        self.work += work
        at_s = self._when(session, said.t, arrival_s, line)
        if at_s != said.t and session.beats and at_s - session.last_s < self._gather_s:
            session.gathered.add(said._replace(work=work))
            return ()
        session.pace_s = at_s - session.arrived_s if session.arrived_s > 0.0 else 0.0
        session.arrived_s = at_s
        before = self._spread(session, at_s)
        at_s = max(at_s, nextafter(session.last_s, inf))
        if session.beats == 1:  # after silence too: of a program slower than our patience nothing else is known
            session.interval_s = at_s - session.last_s
        elif session.beats and not session.back:
            session.interval_s += INTERVAL_WEIGHT * (at_s - session.last_s - session.interval_s)
        session.back = False
        session.beats += 1
        session.last_s = at_s
        beat = Heartbeat(at_s=at_s, app=said.app, source=said.source, beat=said.beat, work=work, metrics=said.metrics)
        return (*before, beat)

    def _spread(self, session: _Session, until_s: float) -> list[Heartbeat]:
        events = session.gathered.spread(session.last_s, until_s)
        if events:
            session.last_s = events[-1].at_s
        return events

    def _hold(self, session: _Session, said: Beat, line: bytes) -> float | None:
        """Judge a number that is not above the last one, or that follows such numbers.

        With a source it can only be a line said twice or out of order. Without, the program may have been started
        anew, or the last number was forged: then `RESTART_BEATS` numbers in order, nothing else between, are taken,
        and the work of all of them counts with the last. Until then they are held back.

        Returns:
            The work to count now; None: hold it back or drop it.
        """
        held = session.held
        if said.beat > session.number:
            if len(held) < RESTART_BEATS - 1 or said.beat > held[-1][1].beat + 1:
                self._refuse_held(session)
                return said.work
        else:
            reason = "duplicate" if said.beat == session.number else "reordered"
            if said.source:
                self.refuse(reason, line)
                return None
            if held and said.beat <= held[-1][1].beat:
                self._refuse_held(session)
            if len(held) < RESTART_BEATS - 1:
                held.append((reason, said, line))
                return None
        work = said.work + sum(beat.work for _, beat, _ in held)
        held.clear()
        return work

    def _refuse_held(self, session: _Session) -> None:
        for reason, _, line in session.held:
            self.refuse(reason, line)
        session.held.clear()

    def _when(self, session: _Session, t: float | None, arrival_s: float, line: bytes) -> float:
        """The time of a beat: `t`, else the arrival, else just after the beat before, so that it always increases.

        Many beats without `t` may arrive at once: their work counts, even if nobody knows when it was done.
        """
        if t is not None:
            late_s = arrival_s - t
            near = abs(late_s) <= self._t_tolerance_s
            session.our_clock = session.our_clock or near
            if not near and not (session.our_clock and late_s > 0):  # a clock known as ours may be behind: a full pipe
                if not session.foreign_clock:  # said once: a program with a clock of its own has it in every line
                    session.foreign_clock = True
                    self.refuse("far_time", line)
            elif t > session.last_s:
                return t
        return arrival_s if arrival_s > session.last_s else nextafter(session.last_s, inf)

    # Departures -------------------------------------------------------------------------------------------------

    @property
    def tells_time(self) -> bool:
        """Whether all who are here say when their beats were, on our clock: it does not matter when we read them."""
        return all(each.our_clock and not each.foreign_clock for each in self._sessions.values() if each.present)

    def look(self) -> bool:
        """Look up the processes: verify new ones, mark dead ones. True: someone died.

        Whoever calls this reads what the dead may have left in the pipe, then asks `gone`.
        """
        self._looks = LOOKS
        died = False
        for session in self._sessions.values():
            if session.present and session.pid is not None:
                if session.identity is None:
                    self._verify(session)
                elif self._died(session):
                    died = session.dead = True
        return died

    def gone(self, now_s: float, *, heard: bool = True) -> list[Event]:
        """Those who left without a word: their process died (as `look` found), or they were silent for too long.

        `heard`: whether all was read that was written; while a pipe is full, silence proves nothing.
        """
        self._refuse_strays(self._strays.silent_since(now_s - self._silence_s))
        events: list[Event] = []
        for session in list(self._sessions.values()):
            if session.dead:
                continue
            if heard and session.present and now_s - session.seen_s > max(session.patience_s, self._silence_s):
                self._refuse_held(session)
                session.present = False
                if not session.source:
                    session.number = -1  # it may well be another run that speaks next
                events += self._left(session, now_s, SILENT)
            elif now_s - session.seen_s > 2 * max(self._gather_s, session.pace_s):  # no further burst is to come
                events += self._spread(session, now_s)
        for session in list(self._sessions.values()):  # after the silent: none of those is to take over
            if session.present and session.dead:
                events += self._remove(session, now_s, "process gone")
        return events

    def rest(self, now_s: float) -> list[Event]:
        """What was gathered and no heartbeat carried yet: nothing will be read any more."""
        return [event for session in self._sessions.values() for event in self._spread(session, now_s)]

    def end(self, now_s: float) -> list[Event]:
        """The same at the end of all; lines that were held back until more is known are refused: none will tell."""
        self._refuse_strays(self._strays.silent_since(inf))
        for session in self._sessions.values():
            self._refuse_held(session)
        return self.rest(now_s)

    def _bury(self, app: str, newcomer: tuple[str, str], now_s: float) -> list[Event]:
        """Earlier runs of the same program whose process is dead leave before the new one joins."""
        earlier = [s for key, s in self._sessions.items() if key != newcomer and s.app == app and s.present]
        dead = [session for session in earlier if self._died(session)]
        return [event for session in dead for event in self._remove(session, now_s, "process gone")]

    def _died(self, session: _Session) -> bool:
        known = session.pid is not None and session.identity is not None
        return known and not self._liveness.alive(session.pid or 0, session.identity or 0)

    def _verify(self, session: _Session) -> None:
        if session.pid is None or session.tries >= TRIES or self._looks <= 0:
            return
        self._looks -= 1
        session.tries += 1
        session.identity = self._liveness.identify(session.pid)

    def _remove(self, session: _Session, now_s: float, reason: str) -> list[Event]:
        self._refuse_held(session)
        del self._sessions[session.app, session.source]
        return self._left(session, now_s, reason)

    def _left(self, session: _Session, now_s: float, reason: str) -> list[Event]:
        gathered = [*self.rest(now_s), *self._spread(session, now_s)]  # of all: another may hold the machine next
        at_s = max(now_s, session.last_s)
        return [*gathered, AppLeft(at_s=at_s, app=session.app, source=session.source, reason=reason)]

    def _make_room(self, now_s: float) -> list[Event] | None:
        """Have a place for one more: forget who has been away longest, else send away who is not proven.

        Of those the one that was heard longest ago. None: all are here, and proven.
        """
        if len(self._sessions) < MOST_SESSIONS:
            return []
        away = [session for session in self._sessions.values() if not session.present]
        if away:
            oldest = min(away, key=lambda session: session.seen_s)
            del self._sessions[oldest.app, oldest.source]
            return []
        doubtful = [session for session in self._sessions.values() if not session.proven]
        if not doubtful:
            return None
        return self._remove(min(doubtful, key=lambda session: session.seen_s), now_s, "made room for another")
