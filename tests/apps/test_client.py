"""What runs in the user's process: on real pipes, in real threads and real forked processes.

Not covered: what the house makes of the lines (test_roster, test_pipe), how long a beat takes (test_bench_heartbeat).
"""

import ast
import fcntl
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import ceml
from ceml.apps import client
from ceml.apps.client import Heartbeats, attach
from ceml.apps.wire import Beat, Join, Leave, parse
from ceml.sources import load
from ceml.store.paths import RuntimePaths

ROOT = Path(client.__file__).parents[2]


class Listener:
    """The other end of a real named pipe."""

    def __init__(self, path: Path):
        self.path = path
        if not path.exists():
            os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.rest = b""

    def heard(self) -> list[Beat | Join | Leave]:
        data = self.rest
        try:
            while chunk := os.read(self.fd, 65536):
                data += chunk
        except BlockingIOError:
            pass
        *lines, self.rest = data.split(b"\n")
        return [parse(line) for line in lines if line]

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def listener(tmp_path: Path):
    one = Listener(tmp_path / "beats")
    yield one
    one.close()


def beats(said: list) -> list[Beat]:
    return [one for one in said if isinstance(one, Beat)]


def work(said: list) -> float:
    return sum(beat.work for beat in beats(said))


def again(handle: Heartbeats) -> None:
    """As if the second between two attempts to open had passed."""
    handle._retry_s = -math.inf


def test_a_run_is_a_join_its_beats_and_a_leave(listener: Listener):
    with attach("resnet", total_work=3, pipe=str(listener.path), clock=lambda: 12.5) as hb:
        hb.beat()
        hb.beat(2, loss=0.5)
    join, first, second, leave = listener.heard()
    assert isinstance(join, Join)
    assert (join.app, join.total_work, join.pid) == ("resnet", 3.0, os.getpid())
    assert len(join.source) == 8
    assert first == Beat("resnet", join.source, 1, 12.5, 1.0, {}, 0)
    assert second == Beat("resnet", join.source, 2, 12.5, 2.0, {"loss": 0.5}, 0)
    assert leave == Leave("resnet", join.source)


def test_the_package_offers_it_by_its_short_name(listener: Listener):
    with ceml.attach("a", total_work=2, pipe=str(listener.path)) as hb:
        hb.beat()
    assert work(listener.heard()) == 1


def test_two_handles_of_one_name_are_two_sources(listener: Listener):
    handles = [attach("a", pipe=str(listener.path)) for _ in range(2)]
    assert len({join.source for join in listener.heard()}) == 2
    for handle in handles:
        handle.close()


def test_every_line_starts_afresh_after_what_another_left_unfinished(listener: Listener):
    os.write(listener.fd, b"\xff unfinished rubbish")
    with attach("a", pipe=str(listener.path)) as hb:
        hb.beat()
    lines = os.read(listener.fd, 4096).split(b"\n")
    assert lines[0] == b"\xff unfinished rubbish"
    assert [type(parse(line)) for line in lines[1:] if line] == [Join, Beat, Leave]


def test_work_done_while_nobody_listens_is_carried_over(tmp_path: Path):
    path = tmp_path / "beats"
    hb = attach("a", total_work=100, pipe=str(path))
    for _ in range(7):
        hb.beat()
    late = Listener(path)
    again(hb)
    hb.beat(work=3)
    join, beat = late.heard()
    assert isinstance(join, Join)
    assert (beat.beat, beat.work) == (8, 10.0)
    hb.close()
    late.close()


def test_it_looks_for_the_pipe_at_most_once_a_second(tmp_path: Path):
    hb = attach("a", pipe=str(tmp_path / "beats"))
    hb.beat()
    next_look = hb._retry_s
    for _ in range(100):
        hb.beat()
    assert hb._retry_s == next_look or hb._retry_s - next_look >= client.RETRY_S
    hb.close()


def test_a_full_pipe_costs_no_work(listener: Listener):
    fcntl.fcntl(listener.fd, fcntl.F_SETPIPE_SZ, 4096)
    hb = attach("a", pipe=str(listener.path))
    for _ in range(500):
        hb.beat()
    said = listener.heard()
    assert len(beats(said)) < 500
    hb.beat()
    said += listener.heard()
    assert work(said) == 501
    numbers = [beat.beat for beat in beats(said)]
    assert numbers == sorted(set(numbers))
    hb.close()


def test_close_flushes_what_was_carried(listener: Listener):
    fcntl.fcntl(listener.fd, fcntl.F_SETPIPE_SZ, 4096)
    hb = attach("a", pipe=str(listener.path))
    for _ in range(500):
        hb.beat()
    said = listener.heard()
    hb.close()
    said += listener.heard()
    assert work(said) == 500
    assert isinstance(said[-1], Leave)
    assert isinstance(said[-2], Beat)


def test_close_waits_for_a_full_pipe_but_not_for_ever(listener: Listener):
    fcntl.fcntl(listener.fd, fcntl.F_SETPIPE_SZ, 4096)
    hb, given_up = attach("a", pipe=str(listener.path)), attach("b", pipe=str(listener.path))
    for _ in range(500):
        hb.beat()
    given_up.close()  # comes back though nobody reads
    said: list = []

    def read():
        until_s = time.monotonic() + 10.0
        while time.monotonic() < until_s and not any(isinstance(one, Leave) and one.app == "a" for one in said):
            said.extend(listener.heard())

    reader = threading.Thread(target=read)
    reader.start()
    hb.close()
    reader.join()
    assert work(said) == 500


def test_it_survives_a_restart_of_the_listener_and_joins_again(tmp_path: Path):
    first = Listener(tmp_path / "beats")
    hb = attach("a", total_work=9, pipe=str(first.path))
    hb.beat()
    said = first.heard()
    first.close()
    first.path.unlink()
    hb.beat()
    second = Listener(first.path)
    again(hb)
    hb.beat()
    hb.close()
    told = second.heard()
    second.close()
    assert [type(one) for one in said] == [Join, Beat]
    assert [type(one) for one in told] == [Join, Beat, Leave]
    assert told[0] == said[0]
    assert work(said + told) == 3


def test_many_threads_lose_no_work_and_repeat_no_number(listener: Listener):
    fcntl.fcntl(listener.fd, fcntl.F_SETPIPE_SZ, 1 << 20)
    hb = attach("a", pipe=str(listener.path))

    def run():
        for _ in range(1000):
            hb.beat()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hb.close()
    said = listener.heard()
    assert work(said) == 8000
    numbers = [beat.beat for beat in beats(said)]
    assert numbers == sorted(set(numbers))


def test_a_beat_inside_a_beat_neither_waits_nor_counts_twice(listener: Listener):
    # What a signal handler does that beats while the program is just beating.
    def clock() -> float:
        if not nested:
            nested.append(1)
            hb.beat(3)
        return 1.0

    nested: list[int] = []
    hb = attach("a", pipe=str(listener.path), clock=clock)
    hb.beat()
    hb.close()
    assert [beat.work for beat in beats(listener.heard())] == [1, 3]


def test_after_a_fork_the_child_is_mute_until_it_attaches_itself(listener: Listener):
    hb = attach("a", pipe=str(listener.path))
    hb.beat()
    code = 0
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            hb.beat(1000)
            hb.close()
            with attach("child", pipe=str(listener.path)) as own:
                own.beat(5)
        except BaseException:
            code = 1
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    hb.beat()
    hb.close()
    said = listener.heard()
    assert sum(beat.work for beat in beats(said) if beat.app == "a") == 2
    assert sum(beat.work for beat in beats(said) if beat.app == "child") == 5
    assert [one.app for one in said if isinstance(one, Leave)] == ["child", "a"]


def test_a_fork_while_another_thread_holds_the_lock_does_not_hang_the_child(listener: Listener):
    hb = attach("a", pipe=str(listener.path))
    hb._lock.acquire()
    child = os.fork()
    if child == 0:  # pragma: no cover
        hb.beat()
        hb.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    hb._lock.release()
    hb.close()


class Hostile:
    def __str__(self):
        raise RuntimeError("no name")

    def __float__(self):
        raise RuntimeError("no number")

    __int__ = __eq__ = __lt__ = __gt__ = __float__
    __hash__ = None


@pytest.mark.parametrize("app", ["", "ResNet 50/große", "x" * 500, None, 3, Hostile(), "\n", "a\0b", "%d%s"])
def test_any_name_becomes_one_that_is_allowed(listener: Listener, app: object):
    with attach(app, pipe=str(listener.path)) as hb:
        hb.beat()
    assert [type(one) for one in listener.heard()] == [Join, Beat, Leave]


@pytest.mark.parametrize("amount", [0, -1, math.nan, math.inf, -math.inf, "many", None, Hostile(), 10**400, [], 1 + 2j])
def test_work_that_is_no_positive_number_counts_as_none(listener: Listener, amount: object):
    with attach("a", total_work=amount, pipe=str(listener.path)) as hb:
        hb.beat(amount)
        hb.beat(2)
    said = listener.heard()
    assert said[0].total_work is None
    assert work(said) == 2


def test_work_of_any_kind_of_number_counts_in_full(listener: Listener):
    numpy = pytest.importorskip("numpy")
    with attach("a", total_work=numpy.int64(10), pipe=str(listener.path)) as hb:
        hb.beat(numpy.float32(0.5))
        hb.beat(numpy.int64(4))
        hb.beat(True)
        hb.beat(0.25)
    said = listener.heard()
    assert said[0].total_work == 10
    assert work(said) == 5.75


def test_more_work_than_a_line_may_say_goes_into_several(listener: Listener):
    with attach("a", pipe=str(listener.path)) as hb:
        hb.beat(3 * 10**9 + 7)
        hb.beat()
    said = listener.heard()
    assert work(said) == 3 * 10**9 + 8
    numbers = [beat.beat for beat in beats(said)]
    assert numbers == sorted(set(numbers))


def test_bad_metrics_are_left_out_and_the_beat_goes_on(listener: Listener):
    bad = {"nan": math.nan, "inf": math.inf, "text": "high", "none": None, "hostile": Hostile(), "t": 1.0, "app": 2.0}
    bad.update({"a b": 1.0, "a=b": 1.0, "1a": 1.0, ".a": 1.0, "": 1.0, "größe": 1.0, "a\n": 1.0, "rank": 1.0})
    with attach("a", pipe=str(listener.path)) as hb:
        hb.beat(1, good=0.5, **bad)
    assert beats(listener.heard())[0].metrics == {"good": 0.5}


def test_a_line_stays_below_4096_bytes_by_leaving_out_metrics(listener: Listener):
    with attach("a" * 64, total_work=10**18, pipe=str(listener.path)) as hb:
        hb._joined = False  # so that the join must fit in too
        os.read(listener.fd, 65536)
        hb.beat(1.5, **{f"metric_{number}": number / 3 for number in range(1000)})
        sent = os.read(listener.fd, 65536)
    assert 3900 < len(sent) <= 4096
    assert len(parse(sent.split(b"\n")[3]).metrics) > 50


@pytest.mark.parametrize("now", [math.nan, math.inf, -1.0, None, "late"])
def test_with_a_mad_clock_the_beat_says_no_time(listener: Listener, now: object):
    with attach("a", pipe=str(listener.path), clock=lambda: now) as hb:
        hb.beat()
    assert [(beat.t, beat.work) for beat in beats(listener.heard())] == [(None, 1.0)]


def test_a_closed_handle_is_mute(listener: Listener):
    hb = attach("a", pipe=str(listener.path))
    hb.close()
    hb.close()
    hb.beat()
    assert [type(one) for one in listener.heard()] == [Join, Leave]


def test_an_error_inside_the_block_is_the_users_and_passes(listener: Listener):
    with pytest.raises(KeyError), attach("a", pipe=str(listener.path)):
        raise KeyError("theirs")
    assert isinstance(listener.heard()[-1], Leave)


def test_what_is_not_a_pipe_is_neither_written_nor_made(tmp_path: Path):
    file, absent = tmp_path / "file", tmp_path / "absent"
    file.write_text("precious")
    for path in (file, absent, tmp_path, Path("a\0b")):
        with attach("a", pipe=str(path)) as hb:
            hb.beat()
    assert file.read_text() == "precious"
    assert not absent.exists()


def test_it_finds_the_pipe_by_argument_then_environment_then_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "ceml").mkdir()
    named, session = Listener(tmp_path / "named"), Listener(tmp_path / "ceml" / "beats")
    monkeypatch.delenv("CEML_PIPE", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    attach("by-session").close()
    monkeypatch.setenv("CEML_RUNTIME_DIR", str(tmp_path / "elsewhere"))
    attach("by-nobody").close()
    monkeypatch.setenv("CEML_RUNTIME_DIR", str(tmp_path / "ceml"))
    attach("by-directory").close()
    monkeypatch.setenv("CEML_PIPE", str(named.path))
    attach("by-environment").close()
    attach("by-argument", pipe=str(session.path)).close()
    assert {one.app for one in named.heard()} == {"by-environment"}
    assert {one.app for one in session.heard()} == {"by-session", "by-directory", "by-argument"}
    monkeypatch.delenv("CEML_PIPE")
    monkeypatch.delenv("CEML_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "elsewhere"))
    assert client._paths(None) == [f"{tmp_path}/elsewhere/ceml/beats", "/run/ceml/beats"]
    named.close()
    session.close()


@pytest.mark.parametrize("directory", ["", "/srv/ceml", "~/ceml", "/srv/ceml/"])
@pytest.mark.parametrize("session", ["", "/run/user/7"])
def test_it_looks_first_where_a_server_of_the_same_environment_makes_the_pipe(
    monkeypatch: pytest.MonkeyPatch, directory: str, session: str
):
    environment = {"CEML_RUNTIME_DIR": directory, "XDG_RUNTIME_DIR": session}
    monkeypatch.delenv("CEML_PIPE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load(None, {}, {"CEML_RUNTIME_DIR": directory}).settings
    assert os.path.normpath(client._paths(None)[0]) == str(RuntimePaths.at(settings.runtime_dir).beats)


def test_the_pipe_is_not_inherited_by_programs_that_are_started(listener: Listener):
    hb = attach("a", pipe=str(listener.path))
    assert not os.get_inheritable(hb._fd)
    assert os.get_blocking(hb._fd) is False
    hb.close()


def test_importing_it_needs_no_site_packages_at_all():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import ceml.apps.client; "
        "names = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(names - set(sys.stdlib_module_names) - {'__main__', 'ceml'})); "
        "print(sorted({'typing', 'dataclasses', 're', 'logging', 'asyncio'} & names))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"


@pytest.mark.parametrize("name", ["__init__.py", "apps/__init__.py", "apps/client.py"])
def test_what_runs_in_the_users_process_keeps_to_the_syntax_of_python_3_6(name: str):
    source = (ROOT / "ceml" / name).read_text()
    ast.parse(source, feature_version=(3, 6))
    assert "from __future__" not in source


def old_python() -> str | None:
    """One that answers: what is found first may be a launcher for a version that is not chosen."""
    managed = sorted(str(one) for one in Path("~/.pyenv/versions").expanduser().glob("3.6.*/bin/python3.6"))
    for python in [*managed, shutil.which("python3.6")]:
        if python and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    return None


def test_alone_beside_any_program_it_runs_on_a_real_python_3_6(listener: Listener, tmp_path: Path):
    python = old_python()
    if python is None:
        pytest.skip("no Python 3.6 on this machine")
    shutil.copy(client.__file__, tmp_path / "heartbeat.py")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, heartbeat\n"
        "with heartbeat.attach('old', total_work=5, pipe=sys.argv[1]) as hb:\n"
        "    for step in range(5):\n"
        "        hb.beat(loss=0.5)\n"
    )
    subprocess.run([python, "-W", "error", str(program), str(listener.path)], check=True, env={"LC_ALL": "C"})
    said = listener.heard()
    assert [type(one) for one in said] == [Join, *[Beat] * 5, Leave]
    assert work(said) == 5
