"""Who is speaking: numbers, times, departures, by plain values and made-up processes.

Not covered: real processes and real pipes (test_pipe).
"""

import itertools

from hypothesis import assume, given
from hypothesis import strategies as st

from ceml.apps.newcomers import AT_ONCE, PER_S
from ceml.apps.roster import FIRST_BEATS_S, MOST_SESSIONS, Roster
from ceml.apps.wire import Beat, Join, Leave
from ceml.domain.events import AppJoined, AppLeft, Heartbeat

SRC = "0123abcd"


class Town:
    """Processes that live and die as the test says: pid -> identity."""

    def __init__(self, **_: int):
        self.living: dict[int, int] = {}
        self.asked = 0

    def identify(self, pid: int) -> int | None:
        self.asked += 1
        return self.living.get(pid)

    def alive(self, pid: int, identity: int) -> bool:
        return self.living.get(pid) == identity


def beat(number: int, *, app="a", source=SRC, t=None, work=1.0, dropped=0) -> Beat:
    return Beat(app, source, number, t, work, {}, dropped)


def hear(roster: Roster, *said, at_s: float = 10.0, step_s: float = 0.1) -> list:
    return [event for i, one in enumerate(said) for event in roster.hear(one, at_s + i * step_s, b"line")]


def kinds(events: list) -> list[type]:
    return [type(event) for event in events]


def heartbeats(events: list) -> list[Heartbeat]:
    return [event for event in events if isinstance(event, Heartbeat)]


# Laws ---------------------------------------------------------------------------------------------------------------

LINES = st.one_of(
    st.builds(
        Beat,
        st.sampled_from(["a", "b"]),
        st.sampled_from(["", SRC]),
        st.integers(0, 12),
        st.none() | st.floats(0, 100),
        st.integers(1, 5).map(float),
        st.just({}),
        st.integers(0, 1),
    ),
    st.builds(Join, st.sampled_from(["a", "b"]), st.sampled_from(["", SRC]), st.none(), st.none() | st.integers(1, 3)),
    st.builds(Leave, st.sampled_from(["a", "b"]), st.sampled_from(["", SRC])),
)


@given(st.lists(st.tuples(LINES, st.floats(0, 40)), max_size=60), st.sets(st.integers(1, 3)))
def test_whatever_is_said_everyone_joins_before_they_beat_and_time_increases(lines, living):
    town = Town()
    town.living = dict.fromkeys(living, 7)
    roster, now_s, events = Roster(town), 0.0, []
    for said, pause_s in lines:
        now_s += pause_s
        if pause_s > 30:
            town.living.popitem() if town.living else None
        roster.look()
        events += roster.gone(now_s)
        events += roster.hear(said, now_s, b"line")
    here, last_s = set(), {}
    for event in events:
        key = (event.app, event.source)
        if isinstance(event, AppJoined):
            assert key not in here
            here.add(key)
            last_s.pop(key, None)
        elif isinstance(event, AppLeft):
            here.remove(key)
            assert event.at_s >= last_s.get(key, 0.0)
        else:
            assert key in here
            assert event.at_s > last_s.get(key, -1.0)
            last_s[key] = event.at_s
    assert roster.work == sum(event.work for event in heartbeats(events))
    assert roster.beats == len(heartbeats(events))


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(0, 2**63), st.integers(0, 40))
def test_a_forged_number_costs_a_nameless_source_no_work(amounts, forged, place):
    said = [beat(number, source="", work=float(work)) for number, work in enumerate(amounts, 1)]
    said += [beat(len(amounts) + 1 + i, source="") for i in range(3)]
    place = min(place, len(amounts))
    assume(forged != place + 1)  # the very next number: nobody can say which of the two is the forged one
    roster = Roster(Town())
    hear(roster, *said[:place], beat(forged, source="", work=0.25), *said[place:])
    assert roster.work - sum(amounts) - 3 in (0.0, 0.25)


@given(st.lists(st.integers(0, 30), max_size=60))
def test_with_a_source_each_number_counts_once_and_in_order(numbers):
    roster = Roster(Town())
    events = hear(roster, *(beat(number) for number in numbers))
    counted = [event.beat for event in heartbeats(events)]
    assert counted == list(dict.fromkeys(itertools.accumulate(numbers, max)))
    assert sum(roster.refused.values()) == len(numbers) - len(counted)


# Joining ------------------------------------------------------------------------------------------------------------


def test_a_join_is_announced_with_what_it_says():
    town = Town()
    town.living = {5: 1}
    events = hear(Roster(town), Join("a", SRC, 100.0, 5))
    assert events == [AppJoined(at_s=10.0, app="a", source=SRC, total_work=100.0, pid=5)]


def test_a_beat_without_a_join_is_a_join():
    assert kinds(hear(Roster(Town()), beat(4), beat(5))) == [AppJoined, Heartbeat, Heartbeat]


def test_a_join_said_again_is_no_second_join():
    events = hear(Roster(Town()), Join("a", SRC, 100.0, 5), beat(1), Join("a", SRC, 100.0, 5), beat(2))
    assert kinds(events) == [AppJoined, Heartbeat, Heartbeat]


def test_total_work_may_be_learned_later_but_not_changed():
    roster = Roster(Town())
    hear(roster, beat(1), Join("a", SRC, 100.0, None), Join("a", SRC, 7.0, None))
    roster.gone(1000.0)
    assert hear(roster, beat(2), at_s=1000.0)[0].total_work == 100.0


def test_the_house_is_full_at_some_time_and_those_inside_go_on():
    roster = Roster(Town())
    hear(roster, beat(1))
    hear(roster, *(beat(1, app=f"x{i}") for i in range(1000)), step_s=0.0)
    assert len(roster._sessions) == MOST_SESSIONS
    assert roster.refused == {"too_many": 1000 - MOST_SESSIONS + 1}
    assert kinds(hear(roster, beat(2), at_s=11.0)) == [Heartbeat]


def test_who_fell_silent_makes_room_for_who_comes():
    roster = Roster(Town())
    hear(roster, *(beat(1, app=f"x{i}") for i in range(MOST_SESSIONS)), step_s=0.0)
    assert len(roster.gone(100.0)) == MOST_SESSIONS
    assert kinds(hear(roster, beat(1, app="new"), at_s=100.0)) == [AppJoined, Heartbeat]


def forged(*, beating: bool) -> list:
    return [beat(1, app=f"x{i}") if beating else Join(f"x{i}", "", None, None) for i in range(MOST_SESSIONS)]


def test_a_process_that_is_here_takes_the_place_of_the_forged_one_heard_longest_ago():
    town = Town()
    town.living = {5: 77}
    for beating in (True, False):
        roster = Roster(town)
        hear(roster, *forged(beating=beating), step_s=0.0)
        events = hear(roster, Join("real", SRC, None, 5), beat(1, app="real"), at_s=10.0)
        assert kinds(events) == [AppLeft, AppJoined, Heartbeat]
        assert (events[0].app, events[0].reason) == ("x0", "made room for another")
        assert len(roster._sessions) == MOST_SESSIONS
        assert roster.refused == {}


def test_who_is_not_seen_as_a_process_gets_such_a_place_a_moment_later():
    roster = Roster(Town())
    hear(roster, *forged(beating=False), step_s=0.0)
    assert hear(roster, beat(1, app="shell"), at_s=10.0) == []
    assert kinds(hear(roster, beat(2, app="shell"), at_s=10.3)) == [AppLeft, AppJoined, Heartbeat]


def test_neither_a_living_process_nor_who_beats_ever_makes_room():
    town = Town()
    town.living = {5: 77}
    roster = Roster(town)
    hear(roster, Join("compiling", SRC, None, 5), at_s=0.0)
    hear(roster, *(beat(number, app="shell") for number in range(20)), at_s=1.0)
    for second in range(3, 300):
        hear(roster, *forged(beating=False), at_s=float(second), step_s=0.0)
        assert kinds(hear(roster, beat(20 + second, app="shell"), at_s=second + 0.5)) == [Heartbeat]
    assert kinds(hear(roster, beat(1, app="compiling"), at_s=300.0)) == [Heartbeat]
    assert len(roster._sessions) == MOST_SESSIONS


def test_where_all_are_proven_one_more_is_refused():
    town = Town()
    town.living = dict.fromkeys(range(1, MOST_SESSIONS + 2), 1)
    roster = Roster(town)
    for pid in town.living:
        roster.look()
        hear(roster, Join(f"x{pid}", "", None, pid))
    assert roster.refused == {"too_many": 1}


@given(st.integers(1, 20), st.sampled_from([1.0, 0.01]))
def test_a_flood_of_comings_and_goings_costs_few_events_and_no_beat_of_who_is_here(names, pause_s):
    roster, events, beats = Roster(Town()), [], 0
    hear(roster, beat(0, app="real"))
    for round_ in range(10):
        now_s = 10.0 + (round_ + 1) * pause_s
        for i in range(1000):
            events += roster.hear(Join(f"x{i % names}", "", None, None), now_s, b"line")
            events += roster.hear(Leave(f"x{i % names}", ""), now_s, b"line")
        beats += len(heartbeats(hear(roster, beat(round_ + 1, app="real"), at_s=now_s)))
    assert len(events) <= 2 * (AT_ONCE + PER_S * 10 * pause_s)
    assert beats == 10
    assert roster.refused["too_many"] > 9000


# Numbers ------------------------------------------------------------------------------------------------------------


def test_duplicates_and_reordered_beats_are_dropped_and_counted():
    roster = Roster(Town())
    events = hear(roster, beat(1), beat(1), beat(3), beat(2), beat(4))
    assert [event.beat for event in heartbeats(events)] == [1, 3, 4]
    assert roster.refused == {"duplicate": 1, "reordered": 1}


def test_a_nameless_program_started_anew_is_noticed_by_its_third_beat_and_loses_none():
    roster = Roster(Town())
    events = hear(roster, *(beat(number, source="") for number in [50, 51, 1, 2, 3, 4]))
    assert [(event.beat, event.work) for event in heartbeats(events)] == [(50, 1), (51, 1), (3, 3), (4, 1)]
    assert roster.refused == {}


def test_a_nameless_program_that_joins_again_starts_its_numbers_anew():
    roster = Roster(Town())
    hear(roster, beat(50, source=""), Join("a", "", None, None), beat(1, source=""), beat(2, source=""))
    assert roster.beats == 3


def test_after_leaving_the_same_numbers_are_new():
    roster = Roster(Town())
    events = hear(roster, beat(1, source=""), Leave("a", ""), beat(1, source=""))
    assert kinds(events) == [AppJoined, Heartbeat, AppLeft, AppJoined, Heartbeat]


def test_two_sources_of_one_name_do_not_disturb_each_other():
    roster = Roster(Town())
    for number in range(1, 11):
        hear(roster, beat(number), beat(number + 100, source="ffffffff"), at_s=10.0 + number)
    assert roster.beats == 20
    assert roster.refused == {}


# Times --------------------------------------------------------------------------------------------------------------


def test_the_time_in_the_line_is_when_it_happened():
    assert hear(Roster(Town()), beat(1, t=9.5))[1].at_s == 9.5


def test_without_a_time_the_arrival_counts():
    assert hear(Roster(Town()), beat(1))[1].at_s == 10.0


def test_a_time_far_from_the_arrival_is_not_believed_but_the_beat_counts():
    roster = Roster(Town())
    events = hear(roster, beat(1, t=8.9), beat(2, t=1e12), step_s=0.5)
    assert [event.at_s for event in heartbeats(events)] == [10.0, 10.5]
    assert roster.refused == {"far_time": 1}


def test_a_clock_known_as_ours_may_lag_behind_a_full_pipe():
    roster = Roster(Town())
    events = hear(roster, beat(1, t=10.0), beat(2, t=10.4), step_s=30.0)
    assert [event.at_s for event in heartbeats(events)] == [10.0, 10.4]
    assert roster.refused == {}


def test_a_time_that_goes_back_is_replaced_by_the_arrival():
    events = hear(Roster(Town()), beat(1, t=10.0), beat(2, t=9.9))
    assert [event.at_s for event in heartbeats(events)] == [10.0, 10.1]


def test_many_beats_without_a_time_that_arrive_at_once_all_count_in_order():
    roster = Roster(Town())
    events = heartbeats(hear(roster, *(beat(number) for number in range(1000)), step_s=0.0))
    times = [event.at_s for event in events]
    assert len(times) == 1000
    assert times == sorted(set(times))
    assert times[-1] - times[0] < 1e-9


def test_metrics_that_are_not_finite_are_counted_and_the_beat_counts():
    roster = Roster(Town())
    assert len(heartbeats(hear(roster, beat(1, dropped=2)))) == 1
    assert roster.refused == {"not_finite": 1}


# Departures ---------------------------------------------------------------------------------------------------------


def test_who_says_goodbye_has_left():
    events = hear(Roster(Town()), beat(1), Leave("a", SRC))
    assert events[-1] == AppLeft(at_s=10.1, app="a", source=SRC, reason="left")


def test_a_goodbye_of_a_stranger_is_counted():
    roster = Roster(Town())
    assert hear(roster, Leave("a", SRC)) == []
    assert roster.refused == {"not_joined": 1}


def test_a_process_that_dies_is_gone_at_once():
    town = Town()
    town.living = {5: 77}
    roster = Roster(town)
    hear(roster, Join("a", SRC, None, 5), beat(1))
    assert not roster.look()
    assert roster.gone(10.2) == []
    town.living = {5: 78}  # the pid lives on as another process
    assert roster.look()
    assert roster.gone(10.3) == [AppLeft(at_s=10.3, app="a", source=SRC, reason="process gone")]


def test_silence_of_ten_intervals_but_at_least_five_seconds_is_gone():
    quick, slow = Roster(Town()), Roster(Town())
    hear(quick, *(beat(number) for number in range(20)), step_s=0.1)  # last seen at 11.9
    hear(slow, *(beat(number) for number in range(20)), step_s=2.0)  # last seen at 48.0
    assert quick.gone(16.8) == []
    assert kinds(quick.gone(17.0)) == [AppLeft]
    assert slow.gone(67.9) == []
    assert [event.reason for event in slow.gone(68.2)] == ["silent"]


def test_while_not_all_was_read_nobody_is_silent_but_the_dead_are_dead():
    town = Town()
    town.living = {5: 77}
    roster = Roster(town)
    hear(roster, Join("dies", SRC, None, 5), beat(1, app="dies"), *(beat(number) for number in range(20)), step_s=0.1)
    assert roster.gone(1000.0, heard=False) == []
    town.living = {}
    assert roster.look()
    assert [event.reason for event in roster.gone(1000.0, heard=False)] == ["process gone"]
    assert [event.reason for event in roster.gone(1000.0)] == ["silent"]


def test_a_program_of_which_too_little_is_known_gets_a_minute():
    roster = Roster(Town())
    hear(roster, Join("a", SRC, None, 5), beat(1))
    assert roster.gone(10.1 + FIRST_BEATS_S) == []
    assert kinds(roster.gone(10.2 + FIRST_BEATS_S)) == [AppLeft]


def test_before_its_second_beat_a_living_process_is_waited_for_for_ever():
    town = Town()
    town.living = {5: 77}
    roster = Roster(town)
    hear(roster, Join("a", SRC, None, 5), beat(1))
    assert roster.gone(1e6) == []


def test_who_beats_again_after_silence_joins_again_with_the_same_source():
    roster = Roster(Town())
    hear(roster, *(beat(number) for number in range(5)))
    roster.gone(100.0)
    events = hear(roster, beat(4), beat(5), beat(6), at_s=100.0)
    assert kinds(events) == [AppJoined, Heartbeat, Heartbeat]
    assert roster.gone(104.0) == []  # the silence was no interval: five seconds again
    assert kinds(roster.gone(106.0)) == [AppLeft]


def test_a_program_slower_than_a_minute_a_beat_is_understood_by_its_second_beat():
    roster = Roster(Town())
    hear(roster, beat(1), at_s=0.0)
    assert len(roster.gone(65.0)) == 1
    hear(roster, beat(2), at_s=70.0)
    assert roster.gone(600.0) == []


def test_a_new_run_finds_the_dead_one_before_it_gone():
    town = Town()
    town.living = {5: 77}
    roster = Roster(town)
    hear(roster, Join("a", SRC, None, 5), beat(1))
    town.living = {6: 78}
    events = hear(roster, Join("a", "ffffffff", None, 6), at_s=11.0)
    assert kinds(events) == [AppLeft, AppJoined]
    assert (events[0].source, events[0].reason) == (SRC, "process gone")
    assert len(roster._sessions) == 1


def test_a_nameless_new_run_finds_the_dead_one_before_it_gone():
    town = Town()
    town.living = {5: 77}
    roster = Roster(town)
    hear(roster, Join("a", "", 10.0, 5), beat(1, source=""))
    town.living = {6: 78}
    events = hear(roster, Join("a", "", 20.0, 6), beat(1, source=""), at_s=11.0)
    assert kinds(events) == [AppLeft, AppJoined, Heartbeat]
    assert events[1].total_work == 20.0


def test_a_process_that_cannot_be_seen_at_first_is_looked_for_again_but_not_for_ever():
    town = Town()
    roster = Roster(town)
    hear(roster, Join("a", SRC, None, 5))
    town.living = {5: 77}
    roster.look()
    town.living = {}
    assert roster.look()
    stranger = Town()
    roster = Roster(stranger)
    hear(roster, Join("a", SRC, None, 1))
    for _ in range(100):
        roster.look()
    assert stranger.asked == 3


def test_a_flood_of_joins_is_not_a_flood_of_look_ups():
    town = Town()
    roster = Roster(town)
    hear(roster, *(Join("a", SRC, None, pid) for pid in range(1, 5000)))
    assert town.asked <= 32


# What was refused ---------------------------------------------------------------------------------------------------


def test_refusals_are_told_once_with_the_latest_as_example_cut_short():
    roster = Roster(Town())
    assert roster.drain(1.0) is None
    roster.refuse("bad_app", b"first")
    roster.refuse("bad_app", b"\xff" * 5000)
    told = roster.drain(2.0)
    assert (told.at_s, told.counts) == (2.0, {"bad_app": 2})
    assert told.example.startswith("b'\\xff")
    assert len(told.example) == 120
    assert roster.drain(3.0) is None
    assert roster.refused == {"bad_app": 2}


# Bursts -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 2000), st.floats(0.02, 2.0), st.integers(2, 10), st.floats(0.0, 1e-6))
def test_what_comes_in_bursts_counts_in_full_and_never_looks_faster_than_it_is(size, period_s, bursts, beat_s):
    roster, events = Roster(Town(), gather_s=0.2, silence_s=60.0), []
    for number in range(size * bursts):
        arrival_s = 10.0 + number // size * period_s + number % size * beat_s
        events += roster.hear(beat(number), arrival_s, b"line")
    published = heartbeats(events)
    for place in range(len(published) - 20):
        window = published[place : place + 21]  # the first one starts the clock
        took_s = window[-1].at_s - window[0].at_s
        assert sum(each.work for each in window[1:]) / took_s <= 1.15 * size / period_s
    published += heartbeats(roster.rest(10.0 + bursts * period_s))
    assert sum(each.work for each in published) == roster.work == size * bursts
    times = [each.at_s for each in published]
    assert times == sorted(set(times))


def test_at_the_end_no_line_vanishes_what_was_held_back_is_refused():
    roster = Roster(Town())
    events = hear(roster, *[Beat("a", "", number, None, 1.0, {}, 0) for number in (1, 2, 3, 1, 2)], step_s=0.1)
    events += roster.end(11.0)
    assert sum(each.work for each in heartbeats(events)) + sum(roster.refused.values()) == 5
    assert roster.refused == {"reordered": 2}


def test_what_was_gathered_is_told_before_the_goodbye():
    roster = Roster(Town(), gather_s=0.2)
    events = hear(roster, beat(1), beat(2), beat(3), Leave("a", SRC), step_s=0.01)
    assert kinds(events) == [AppJoined, *[Heartbeat] * 3, AppLeft]
    assert [each.at_s for each in heartbeats(events)] == [10.0, 10.01, 10.02]


def test_beats_with_a_time_of_their_own_are_never_gathered():
    roster = Roster(Town(), gather_s=0.2)
    assert len(heartbeats(hear(roster, beat(1, t=9.98), beat(2, t=9.99), beat(3, t=10.0), step_s=0.0))) == 3


# Strays -------------------------------------------------------------------------------------------------------------


def test_a_stray_line_in_the_name_of_a_program_that_is_here_never_joins():
    roster = Roster(Town())
    hear(roster, Join("a", SRC, None, None), beat(1), beat(2), at_s=10.0)
    assert hear(roster, beat(5, source=""), beat(7, source=""), at_s=11.0) == []
    assert roster.gone(17.0) != []
    assert roster.refused == {"stray": 2}
    assert roster.work == 2


def test_a_second_run_without_a_join_is_heard_from_its_third_beat_on_and_all_its_work_counts():
    roster = Roster(Town())
    hear(roster, Join("a", SRC, None, None), beat(1))
    events = hear(roster, *(beat(number, source="") for number in range(1, 5)), at_s=11.0)
    assert kinds(events) == [AppJoined, *[Heartbeat] * 4]
    assert [event.at_s for event in heartbeats(events)] == [11.0, 11.1, 11.2, 11.3]


def test_a_stray_that_joins_after_all_is_heard_in_full():
    roster = Roster(Town())
    hear(roster, Join("a", SRC, None, None), beat(1))
    events = hear(roster, beat(1, source="ffffffff"), Join("a", "ffffffff", 9.0, None), at_s=11.0)
    assert kinds(events) == [AppJoined, Heartbeat]


def test_who_is_silent_leaves_before_the_dead_so_that_he_does_not_take_over():
    town = Town()
    town.living = {5: 77}
    roster = Roster(town, silence_s=1.0)
    hear(roster, Join("a", SRC, None, 5), beat(1))
    hear(roster, *(beat(number, app="b") for number in range(5)), at_s=10.0)
    town.living = {}
    assert roster.look()
    assert [event.reason for event in roster.gone(12.0)] == ["silent", "process gone"]


def test_what_was_gathered_of_a_program_that_pauses_is_told_soon():
    roster = Roster(Town(), gather_s=0.2)
    hear(roster, *(beat(number) for number in range(1, 6)), step_s=0.0)
    assert roster.gone(10.3) == []
    assert sum(event.work for event in heartbeats(roster.gone(10.5))) == 4


def test_what_the_others_did_before_one_leaves_is_told_before_the_news():
    roster = Roster(Town(), gather_s=0.2)
    hear(roster, beat(1), *(beat(number, app="b") for number in range(5)), step_s=0.0)
    events = hear(roster, Leave("a", SRC))
    assert kinds(events) == [*[Heartbeat] * 4, AppLeft]
