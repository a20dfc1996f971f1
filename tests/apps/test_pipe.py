"""The named pipe with real writers: threads, processes, shell, C; dying, flooding, lying.

Not covered: what numbers and times mean (test_roster), speed (test_bench_heartbeat), writers of another user.
"""

import grp
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ceml.apps import pipe
from ceml.apps.client import attach
from ceml.apps.pipe import Fifo, PipeListener
from ceml.domain.events import AppJoined, AppLeft, Heartbeat, LinesRefused
from ceml.errors import SettingsError
from ceml.timeline import scaled

ROOT = Path(pipe.__file__).parents[2]
WRITER = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from ceml.apps.client import attach
app, path, count, then = sys.argv[1:]
with attach(app, total_work=1000, pipe=path) as hb:
    for step in range(int(count)):
        hb.beat()
        if hb._work:
            time.sleep(0.001)
    if float(then):
        print("done", flush=True)
        sys.stdin.readline()
        hb.beat(1000)
        print("once more", flush=True)
        time.sleep(float(then))
"""


def write(app: str, path: Path, count: int, *, then_s: float = 0.0) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-I", "-c", WRITER, app, str(path), str(count), str(then_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


class Ear:
    """A listener at work, and what it published."""

    def __init__(self, listener: PipeListener):
        self.listener = listener
        self.path = listener.path
        self.events: list = []

    @property
    def refused(self) -> dict[str, int]:
        return self.listener.roster.refused

    def work(self, app: str) -> float:
        return sum(event.work for event in self.of(Heartbeat) if event.app == app)

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, true: Callable[[], bool], *, wall_s: float = 20.0) -> None:
        deadline = anyio.current_time() + wall_s
        while not true():
            assert anyio.current_time() < deadline, f"waited in vain; last heard {self.events[-5:]}, {self.refused}"
            await anyio.sleep(0.005)


def listening(path: Path, body, *, speed: float = 1.0, **options) -> Ear:
    """Listen at `path` while the async function `body(ear)` runs."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            await group.start(ear.listener.run, ear.events.append)
            await body(ear)
            group.cancel_scope.cancel()

    ear = Ear(PipeListener(path, **options))
    anyio.run(main, backend_options={"loop_factory": scaled(speed)} if speed != 1.0 else {})
    return ear


async def nothing(ear: Ear) -> None:
    pass


def refusal(path: Path, **options) -> str:
    """The text with which a listener refuses to listen."""
    with pytest.raises(SettingsError) as caught:
        Fifo(path, options.get("group"))
    return str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ceml" / "beats"


# The pipe itself ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_it_is_made_for_us_alone_and_taken_away_at_the_end(path: Path, umask: int):
    async def body(ear: Ear) -> None:
        assert stat.S_ISFIFO(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750

    before = os.umask(umask)
    try:
        listening(path, body)
    finally:
        os.umask(before)
    assert not path.exists()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_group_may_write_but_not_read(path: Path, umask: int):
    gid = next((gid for gid in os.getgroups() if gid != os.getegid()), os.getegid())

    async def body(ear: Ear) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        assert path.stat().st_gid == gid
        assert path.parent.stat().st_gid == gid

    before = os.umask(umask)
    try:
        listening(path, body, group=grp.getgrgid(gid).gr_name)
    finally:
        os.umask(before)


def test_a_group_that_is_not_there_is_named(path: Path):
    text = refusal(path, group="no-such-group")
    assert "no-such-group" in text
    assert not path.exists()


def test_a_file_in_its_place_is_left_as_it_is(tmp_path: Path):
    path = tmp_path / "beats"
    path.write_text("precious")
    assert str(path) in refusal(path)
    assert "--pipe" in refusal(path)
    assert path.read_text() == "precious"


def test_a_link_to_a_pipe_is_not_followed(tmp_path: Path):
    os.mkfifo(tmp_path / "theirs")
    path = tmp_path / "beats"
    path.symlink_to(tmp_path / "theirs")
    assert "something else" in refusal(path)
    assert path.is_symlink()


def test_a_directory_in_its_place_and_a_file_as_its_directory_are_refused(tmp_path: Path):
    (tmp_path / "file").write_text("precious")
    assert "something else" in refusal(tmp_path)
    assert "Not a directory" in refusal(tmp_path / "file" / "beats")


def test_a_long_path_that_is_not_there_is_a_slip_and_nothing_is_made(tmp_path: Path):
    assert "No such file or directory" in refusal(tmp_path / "no" / "such" / "beats")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a pipe of another user")
def test_a_pipe_of_another_user_is_refused_and_left(tmp_path: Path):
    path = tmp_path / "beats"
    os.mkfifo(path)
    os.chown(path, 65534, -1)
    assert "65534" in refusal(path)
    assert path.exists()


def test_a_second_listener_is_refused_and_the_first_goes_on(path: Path):
    async def body(ear: Ear) -> None:
        text = refusal(path)
        assert "another ceml serve listens" in text
        assert str(path) in text
        with attach("a", pipe=str(path)) as hb:
            hb.beat()
        await ear.until(lambda: ear.work("a") == 1)

    listening(path, body)


def test_a_pipe_that_was_taken_away_is_made_anew_and_those_who_hold_the_old_one_are_heard_on(path: Path):
    async def body(ear: Ear) -> None:
        with attach("old", pipe=str(path)) as old:
            old.beat()
            for again in range(1, 7):  # more often than pipes are kept
                path.unlink()
                if again == 1:
                    path.parent.rmdir()
                await ear.until(path.exists)
                with attach(f"new{again}", pipe=str(path)) as new:
                    new.beat()
                    old.beat()
                await ear.until(lambda: ear.work(f"new{again}") == 1)  # noqa: B023
                await anyio.sleep(0.02)  # the old one writes again a while after its pipe was closed
            await anyio.sleep(1.1)
            old.beat()
        await ear.until(lambda: ear.work("old") == 8)

    with capture_logs() as logs:
        listening(path, body, silence_s=60.0)
    assert [line["event"] for line in logs] == ["pipe_made_anew"] * 6
    assert not path.exists()


def test_another_thing_in_its_place_is_said_once_and_left_until_somebody_takes_it_away(path: Path):
    async def body(ear: Ear) -> None:
        path.unlink()
        path.write_text("precious")
        await anyio.sleep(3 * pipe.LOOK_S)
        assert path.read_text() == "precious"
        path.unlink()
        await ear.until(path.is_fifo)

    with capture_logs() as logs:
        listening(path, body)
    assert [line["event"] for line in logs] == ["pipe_lost", "pipe_made_anew"]
    assert str(path) in logs[0]["problem"]
    assert "something else" in logs[0]["problem"]


def test_a_pipe_left_by_a_crash_is_taken_over(path: Path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path; from ceml.apps.pipe import Fifo; "
        "Fifo(Path(sys.argv[1]), None); print('up', flush=True); sys.stdin.read()"
    )
    crashing = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert crashing.stdout.readline() == b"up\n"
    assert "another ceml serve" in refusal(path)
    crashing.kill()
    crashing.communicate()
    inode = path.stat().st_ino

    async def body(ear: Ear) -> None:
        assert path.stat().st_ino == inode
        with attach("a", pipe=str(path)) as hb:
            hb.beat()
        await ear.until(lambda: ear.work("a") == 1)

    listening(path, body)
    assert not path.exists()


def test_what_took_its_place_meanwhile_is_not_taken_away(path: Path):
    async def body(ear: Ear) -> None:
        path.unlink()
        path.write_text("theirs")

    listening(path, body)
    assert path.read_text() == "theirs"


# Good applications --------------------------------------------------------------------------------------------------


def test_a_run_is_heard_from_its_join_to_its_leave(path: Path):
    async def body(ear: Ear) -> None:
        with attach("resnet", total_work=2, pipe=str(path)) as hb:
            hb.beat()
            hb.beat(loss=0.5)
        await ear.until(lambda: bool(ear.of(AppLeft)))

    joined, first, second, left = listening(path, body).events
    assert isinstance(joined, AppJoined)
    assert (joined.app, joined.total_work, joined.pid) == ("resnet", 2.0, os.getpid())
    assert second.metrics == {"loss": 0.5}
    assert first.at_s < second.at_s <= left.at_s
    assert left.reason == "left"


def test_several_processes_at_once_are_counted_in_full(path: Path):
    async def body(ear: Ear) -> None:
        writers = [write(f"app{i}", path, 5000) for i in range(3)]
        await ear.until(lambda: len(ear.of(AppLeft)) == 3)
        for writer in writers:
            writer.communicate()

    ear = listening(path, body)
    assert [ear.work(f"app{i}") for i in range(3)] == [5000.0] * 3
    assert ear.refused == {}


def test_a_restart_of_the_listener_costs_no_work(path: Path):
    async def first(ear: Ear) -> None:
        for _ in range(10):
            hb.beat()

    async def second(ear: Ear) -> None:
        hb._retry_s = 0.0
        hb.beat()
        hb.close()
        await ear.until(lambda: bool(ear.of(AppLeft)))

    path.parent.mkdir()
    hb = attach("a", total_work=12, pipe=str(path))
    hb._retry_s = 0.0
    before = listening(path, first)
    hb.beat()
    after = listening(path, second)
    assert before.work("a") == 10.0
    assert after.work("a") == 2.0
    assert after.of(AppJoined)[0].total_work == 12.0


def test_a_shell_can_write_it(path: Path):
    async def body(ear: Ear) -> None:
        script = (
            'printf "app=sh event=join total_work=3 pid=$$\\n" > "$0"; '
            'for i in 1 2 3; do printf "app=sh beat=$i\\n" > "$0"; done; printf "app=sh event=leave\\n" > "$0"'
        )
        await anyio.run_process(["sh", "-c", script, str(path)])
        await ear.until(lambda: bool(ear.of(AppLeft)))

    ear = listening(path, body)
    assert [type(event) for event in ear.events] == [AppJoined, *[Heartbeat] * 3, AppLeft]


def test_c_can_write_it(path: Path, tmp_path: Path):
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc on this machine")
    (tmp_path / "beat.c").write_text(
        "#include <fcntl.h>\n#include <stdio.h>\n#include <time.h>\n#include <unistd.h>\n"
        "int main(int count, char **words) {\n"
        "  int fd = open(words[1], O_WRONLY | O_NONBLOCK);\n"
        "  for (int step = 1; step <= 100; step++) {\n"
        "    struct timespec now;\n"
        "    clock_gettime(CLOCK_MONOTONIC, &now);\n"
        '    dprintf(fd, "app=c beat=%d t=%ld.%06ld work=2\\n", step, (long)now.tv_sec, now.tv_nsec / 1000);\n'
        "    usleep(100);\n"
        "  }\n"
        '  dprintf(fd, "app=c event=leave\\n");\n'
        "  return 0;\n"
        "}\n"
    )
    subprocess.run([gcc, "-o", tmp_path / "beat", tmp_path / "beat.c"], check=True, capture_output=True)

    async def body(ear: Ear) -> None:
        await anyio.run_process([str(tmp_path / "beat"), str(path)])
        await ear.until(lambda: bool(ear.of(AppLeft)))

    ear = listening(path, body)
    assert ear.work("c") == 200.0
    assert ear.refused == {}


class Looks:
    """Counts how often a listener reads its pipe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        really = pipe._Reader.read_chunk

        def read_chunk(reader) -> int:
            self.count += 1
            return really(reader)

        monkeypatch.setattr(pipe._Reader, "read_chunk", read_chunk)


@pytest.mark.parametrize("hurries", [True, False])
def test_where_nobody_hurries_the_pipe_is_looked_into_at_ticks_and_says_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch, hurries: bool
):
    looks, said = Looks(monkeypatch), []

    async def body(ear: Ear) -> None:
        with attach("a", pipe=str(path)) as hb:
            for _ in range(100):
                before_s = anyio.current_time()
                hb.beat()
                said.append((before_s - 1e-6, anyio.current_time() + 1e-6))
                await anyio.sleep(0.01)
            looked = looks.count
            await ear.until(lambda: ear.work("a") == 100)
            assert looked >= 60 if hurries else looked <= 40

    ear = listening(path, body, hurries=lambda: hurries)
    assert [event.beat for event in ear.of(Heartbeat)] == list(range(1, 101))
    for event, (earliest_s, latest_s) in zip(ear.of(Heartbeat), said, strict=True):
        assert earliest_s <= event.at_s <= latest_s, "as it said, not when it was read"


def test_who_says_no_time_and_who_is_in_a_hurry_are_read_at_once(path: Path, monkeypatch: pytest.MonkeyPatch):
    looks, hurried = Looks(monkeypatch), False

    async def body(ear: Ear) -> None:
        nonlocal hurried
        with path.open("w") as told:
            for beat in range(1, 21):
                told.write(f"app=shell beat={beat}\n")
                told.flush()
                await ear.until(lambda beat=beat: ear.listener.roster.beats == beat)
        assert looks.count >= 20
        with attach("a", pipe=str(path)) as hb:  # one that tells the time, beside one that does not
            before = looks.count
            for _ in range(20):
                hb.beat()
                await anyio.sleep(0.01)
            assert looks.count - before >= 15

    listening(path, body, hurries=lambda: hurried)


def test_a_pipe_that_nobody_writes_to_is_not_looked_into(path: Path, monkeypatch: pytest.MonkeyPatch):
    looks = Looks(monkeypatch)

    async def body(ear: Ear) -> None:
        with attach("a", pipe=str(path)) as hb:
            for _ in range(10):
                hb.beat()
                await anyio.sleep(0.01)
            await anyio.sleep(0.5)
            before = looks.count
            await anyio.sleep(0.5)
            assert looks.count == before
            hb.beat()
            await ear.until(lambda: ear.work("a") == 11)

    listening(path, body, hurries=lambda: False)


def test_a_burst_while_nobody_hurries_is_counted_in_full(path: Path):
    async def body(ear: Ear) -> None:
        with attach("a", pipe=str(path)) as hb:
            for _ in range(10):
                hb.beat()
                await anyio.sleep(0.01)
            for _ in range(20_000):  # more than the pipe holds
                hb.beat()
            hb.beat()
            await anyio.sleep(0.3)
            hb.beat()
            await ear.until(lambda: ear.work("a") == 20_012)

    listening(path, body, hurries=lambda: False)


def test_a_flood_does_not_keep_others_from_their_turn_and_is_counted_in_full(path: Path):
    async def body(ear: Ear) -> None:
        async def turn() -> None:
            while True:
                turns.append(ear.listener.roster.beats)  # read so far; they are published in fewer turns
                await anyio.lowlevel.checkpoint()

        flood = b"".join(b"app=flood beat=%d\n" % number for number in range(50000))
        (path.parent / "flood").write_bytes(flood)
        async with anyio.create_task_group() as group:
            group.start_soon(turn)
            with path.open("wb") as target:
                writer = subprocess.Popen(["cat", path.parent / "flood"], stdout=target)
            await ear.until(lambda: ear.work("flood") == 50000)
            writer.wait()
            group.cancel_scope.cancel()

    turns: list[int] = []
    ear = listening(path, body)
    assert ear.refused == {}
    assert len({count for count in turns if 0 < count < 50000}) >= 5


# Departures ---------------------------------------------------------------------------------------------------------


def test_a_killed_program_is_gone_at_once_even_as_a_zombie_and_its_last_beats_count(path: Path):
    async def body(ear: Ear) -> None:
        writer = write("a", path, 20, then_s=60.0)
        await ear.until(lambda: ear.work("a") == 20.0)
        writer.stdin.write(b"go on\n")
        writer.stdin.flush()
        writer.stdout.readline(), writer.stdout.readline()  # our loop stands still meanwhile and reads no pipe
        writer.send_signal(signal.SIGKILL)  # and nobody waits for it yet: a zombie
        await ear.until(lambda: bool(ear.of(AppLeft)))
        writer.communicate()

    ear = listening(path, body)
    assert ear.work("a") == 1020.0
    assert ear.events[-1] == AppLeft(
        at_s=ear.events[-1].at_s, app="a", source=ear.events[0].source, reason="process gone"
    )


def test_a_program_that_stalls_is_silent_after_five_seconds_and_joins_again_when_it_goes_on(path: Path):
    async def body(ear: Ear) -> None:
        with attach("a", pipe=str(path), clock=anyio.current_time) as hb:
            hb.beat()
            await anyio.sleep(0.01)
            hb.beat()
            await ear.until(lambda: bool(ear.of(AppLeft)), wall_s=1000.0)
            hb.beat()
            await ear.until(lambda: len(ear.of(AppJoined)) == 2, wall_s=1000.0)

    ear = listening(path, body, speed=50.0)
    assert ear.of(AppLeft)[0].reason == "silent"
    assert ear.work("a") == 3.0


# Bad input ----------------------------------------------------------------------------------------------------------


def test_a_megabyte_without_a_newline_is_one_refusal_and_the_next_beat_counts(path: Path):
    async def body(ear: Ear) -> None:
        with path.open("wb", buffering=0) as target:
            writer = threading.Thread(target=lambda: target.write(b"x" * (1 << 20)))
            writer.start()
            await ear.until(lambda: not writer.is_alive())
        with attach("a", pipe=str(path)) as hb:
            hb.beat()  # the pipe may be full still: then this work goes with the next call
            await ear.until(lambda: hb.beat(0) or ear.work("a") == 1)

    assert listening(path, body).refused == {"too_long": 1}


def test_noise_is_counted_and_told_and_good_beats_count(path: Path):
    async def body(ear: Ear) -> None:
        with attach("a", pipe=str(path)) as hb, path.open("wb", buffering=0) as target:
            for _ in range(10):
                target.write(os.urandom(3000))
                hb.beat()
        await ear.until(lambda: bool(ear.of(AppLeft)))

    ear = listening(path, body)
    assert ear.work("a") == 10.0
    told = ear.events[-1]
    assert isinstance(told, LinesRefused)
    assert sum(told.counts.values()) >= 10
    assert len(told.example) <= 120


def test_refused_lines_are_told_every_five_seconds_while_they_come(path: Path):
    async def body(ear: Ear) -> None:
        with path.open("wb", buffering=0) as target:
            while len(ear.of(LinesRefused)) < 2:
                target.write(b"rubbish\n" * 10)
                await anyio.sleep(0.2)

    first, second, *_ = listening(path, body, speed=50.0).of(LinesRefused)
    assert 4.9 < second.at_s - first.at_s < 60.0  # never sooner; how much later is the machine's affair
    assert first.counts["bad_pair"] >= 10
    assert first.example == "b'rubbish'"


HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.binary(min_size=4090, max_size=4200),
    st.sampled_from(
        [
            b"app=good beat=99999999 work=-1\n",
            b"app=good beat=5 src=xyz\n",
            b"app=good event=nonsense\n",
            b"app=good event=join pid=1\n",
            b"app=other beat=9223372036854775808\n",
            b"app=other event=join total_work=nan\n",
            b"app=other event=leave\n",
            b"app=other beat=1 t=1e308 work=1e9\n",
            b"app=" + b"\n" * 50,
            b"\0" * 100,
        ]
    ),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(HOSTILE, st.integers(1, 9)), min_size=1, max_size=6))
def test_hostile_bytes_between_good_beats_cost_no_work(tmp_path_factory: pytest.TempPathFactory, lines):
    async def body(ear: Ear) -> None:
        with attach("good", pipe=str(path)) as hb, path.open("wb", buffering=0) as target:
            for hostile, amount in lines:
                target.write(hostile)
                hb.beat(amount)
        await ear.until(lambda: any(event.app == "good" for event in ear.of(AppLeft)))

    path = tmp_path_factory.mktemp("pipe") / "beats"
    ear = listening(path, body)
    assert ear.work("good") == sum(amount for _, amount in lines)
