"""The control socket's server and its client on a real socket: bounds, noise, half-open and greedy clients, rights.

The server runs in a thread with an answer of its own. Not covered: what a house answers (tests/test_control.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ceml.api import access, client
from ceml.api import socket as server_module
from ceml.api.access import Door, Peer
from ceml.api.client import MAX_REQUEST_BYTES, ask
from ceml.api.protocol import Changed, ObjectiveRequest, Request
from ceml.api.socket import MOST_CLIENTS, ControlSocket
from ceml.errors import CemlError, SettingsError, Unavailable

STATUS = b'{"version": 1, "verb": "status"}\n'
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


class Serving:
    """A server in a thread; answers with what it was asked, and as much text as the objective says."""

    def __init__(self, path: Path, *, group: str | None = None, speed: float = 1.0) -> None:
        self.path = path
        self.asked: list[tuple[Request, str]] = []
        self.server = ControlSocket(path, self._answer, version="9.9", group=group, speed=speed)
        self._ready = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._live)

    def _answer(self, request: Request, source: str) -> Changed:
        self.asked.append((request, source))
        said = request.objective if isinstance(request, ObjectiveRequest) else request.verb
        if said == "refuse":
            raise SettingsError("objective refuse: not today")
        if said == "fail":
            raise ZeroDivisionError
        size = int(said.partition(":")[2]) if said.startswith("long:") else 0
        return Changed(verb=request.verb, objective="x" * size, paused=False, limits=[])

    def _live(self) -> None:
        async def main() -> None:
            async with anyio.create_task_group() as group:
                await group.start(lambda *, task_status: self.server.run(task_status=task_status))
                self._scope, self._token = group.cancel_scope, anyio.lowlevel.current_token()
                self._ready.set()

        try:
            anyio.run(main)
        except BaseException as error:
            self._failed.append(error)
        finally:
            self._ready.set()

    def __enter__(self) -> Serving:
        self._thread.start()
        self._ready.wait(10)
        if self._failed:
            raise self._failed[0]
        return self

    def __exit__(self, *_: object) -> None:
        anyio.from_thread.run_sync(self._scope.cancel, token=self._token)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def link(self) -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(10)
        link.connect(str(self.path))
        return link

    def works(self) -> None:
        assert ask(self.path, "status")["verb"] == "status"


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    with Serving(tmp_path / "control.sock") as made:
        yield made


def reply(link: socket.socket) -> dict[str, Any]:
    with link.makefile("rb") as file:
        return json.loads(file.readline())


def ended(link: socket.socket) -> bool:
    """Whether the other side closes; what it still says is passed over."""
    with contextlib.suppress(ConnectionResetError):
        while link.recv(1 << 16):
            pass
    return True


# Asking ---------------------------------------------------------------------------------------------------------------


def test_requests_on_one_connection_are_answered_in_order(serving: Serving):
    verbs = ["pause", "status", "resume", "explain"]
    with serving.link() as link, link.makefile("rb") as file:
        link.sendall(b"".join(b'{"version": 1, "verb": "%s"}\n' % verb.encode() for verb in verbs))
        assert [json.loads(file.readline())["result"]["verb"] for _ in verbs] == verbs


def test_a_request_may_come_byte_by_byte_and_blank_lines_say_nothing(serving: Serving):
    with serving.link() as link:
        for byte in b"\r\n\n" + STATUS:
            link.sendall(bytes([byte]))
        assert reply(link)["ok"] is True
    assert len(serving.asked) == 1


def test_who_says_no_more_still_gets_every_answer(serving: Serving):
    with serving.link() as link, link.makefile("rb") as file:
        link.sendall(STATUS * 3)
        link.shutdown(socket.SHUT_WR)
        assert len(file.readlines()) == 3


def test_a_refusal_and_a_bug_are_answers_and_the_server_goes_on(serving: Serving):
    with pytest.raises(SettingsError, match="not today"):
        ask(serving.path, "objective", objective="refuse")
    with capture_logs() as logs, pytest.raises(CemlError, match="ZeroDivisionError"):
        ask(serving.path, "objective", objective="fail")
    assert [entry["event"] for entry in logs] == ["control_socket_failed"]
    serving.works()


def test_who_asked_is_told_to_the_house(serving: Serving):
    serving.works()
    assert serving.asked[0][1] == f"socket, user {os.geteuid()}, process {os.getpid()}"


# Noise ----------------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_binary_noise_gets_refusals_and_the_next_one_an_answer(serving: Serving, chunks: list[bytes]):
    with serving.link() as link, link.makefile("rb") as file:
        for chunk in chunks:
            link.sendall(chunk)
        link.sendall(b"\n")
        link.shutdown(socket.SHUT_WR)
        replies = [json.loads(line) for line in file]
    assert all(not each["ok"] for each in replies)
    assert len(replies) == sum(bool(line.strip(b"\r")) for line in b"".join(chunks).split(b"\n"))
    serving.works()


@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_a_request_too_long_is_refused_and_ends_the_connection(serving: Serving, newline: bytes):
    with serving.link() as link:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            link.sendall(b"x" * (10 * MAX_REQUEST_BYTES) + newline)
        assert reply(link)["error"]["code"] == "too_long"
    with serving.link() as link:
        link.sendall(b" " * (MAX_REQUEST_BYTES - len(STATUS)) + STATUS)
        assert reply(link)["ok"] is True


def test_who_never_reads_is_dropped_and_costs_a_bounded_amount(serving: Serving):
    with serving.link() as link:
        link.settimeout(0.5)
        request = b'{"version": 1, "verb": "objective", "objective": "long:60000"}\n'
        sent = 0
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            while sent < 50_000 * len(request):
                sent += link.send(request * 100)
        assert sent < 50_000 * len(request)  # it was not read without end
        assert len(serving.asked) < 100
        serving.works()


def test_a_flood_of_questions_leaves_room_for_others(serving: Serving):
    done = threading.Event()

    def flood(link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not done.is_set():
                link.sendall(STATUS * 50)
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        links = [stack.enter_context(serving.link()) for _ in range(4)]
        floods = [pool.submit(flood, link) for link in links]
        readers = [pool.submit(ended, link) for link in links]
        for _ in range(20):
            serving.works()
        done.set()
        for each in (*floods, *readers):
            each.result(20)


# Many and silent ones -------------------------------------------------------------------------------------------------


def test_a_hundred_clients_at_once_are_all_answered(serving: Serving):
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: ask(serving.path, "status", timeout_s=30), range(100)))
    assert all(answer["verb"] == "status" for answer in answers)


def test_half_open_connections_make_room_after_a_moment_and_meanwhile_say_busy(serving: Serving):
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(serving.link()) for _ in range(MOST_CLIENTS)]
        silent[0].sendall(STATUS[:10])
        with pytest.raises(Unavailable, match="ask again"):
            ask(serving.path, "status", timeout_s=0.2)
        assert ask(serving.path, "status", timeout_s=10)["verb"] == "status"
        assert len(serving.server.clients) <= MOST_CLIENTS


def test_silence_ends_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_module, "IDLE_S", 0.2)
    with Serving(tmp_path / "s") as serving, serving.link() as link, serving.link() as half:
        half.sendall(b'{"version"')
        link.sendall(STATUS)
        assert reply(link)["ok"] is True
        assert ended(link)
        assert ended(half)
        serving.works()


# The place ------------------------------------------------------------------------------------------------------------


def test_the_socket_is_for_owner_and_group_only_and_goes_at_the_end(tmp_path: Path):
    path = tmp_path / "control.sock"
    with Serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_a_stale_socket_is_replaced(tmp_path: Path):
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    with pytest.raises(Unavailable, match="no server"):
        ask(path, "status")
    with Serving(path) as serving:
        serving.works()


def test_a_living_server_is_not_replaced(serving: Serving):
    with pytest.raises(SettingsError, match="another server listens"):
        Door(serving.path, None)
    serving.works()


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "link"])
def test_something_else_at_the_path_is_left_as_it_is(tmp_path: Path, kind: str):
    path = tmp_path / "control.sock"
    {
        "file": path.touch,
        "directory": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(tmp_path / "nowhere"),
    }[kind]()
    before = path.lstat()
    with pytest.raises(SettingsError, match=r"something else at this path.*--runtime-dir"):
        Door(path, None)
    assert path.lstat().st_ino == before.st_ino


def test_a_socket_that_is_swept_away_with_its_directory_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_module, "LOOK_S", 0.01)
    path = tmp_path / "run" / "control.sock"
    path.parent.mkdir()
    with Serving(path) as serving, serving.link() as before:
        for _ in range(2):
            shutil.rmtree(path.parent)
            path.parent.mkdir()
            deadline_s = time.monotonic() + 10
            while not path.exists():
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            serving.works()
        assert ended(before)
    assert not path.exists()


def test_what_replaced_our_socket_is_not_taken_away(tmp_path: Path):
    path = tmp_path / "control.sock"
    door = Door(path, None)
    path.unlink()
    path.touch()
    door.close()
    assert path.exists()


def test_an_unknown_group_is_said(tmp_path: Path):
    with pytest.raises(SettingsError, match="no such group"):
        Door(tmp_path / "control.sock", "no-such-group-here")


def test_a_path_longer_than_the_kernel_takes_works_all_the_same(tmp_path: Path):
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    path = folder / "control.sock"
    with Serving(path):
        assert ask(path, "status")["verb"] == "status"
        with pytest.raises(SettingsError, match="another server listens"):
            Door(path, None)
    assert not path.exists()


# Rights ---------------------------------------------------------------------------------------------------------------

AS_ANOTHER = """
import os, sys
from pathlib import Path
from ceml.api.client import ask
from ceml.errors import CemlError
path, verb, groups, gid, uid = sys.argv[1:]
os.setgroups([int(g) for g in groups.split(",") if g])
os.setgid(int(gid))
os.setuid(int(uid))
try:
    print(ask(Path(path), verb)["verb"])
except CemlError as error:
    print(type(error).__name__, error)
"""


def another(path: Path, verb: str, *, groups: str = "", gid: int = 65534, uid: int = 12345) -> str:
    words = [sys.executable, "-c", AS_ANOTHER, str(path), verb, groups, str(gid), str(uid)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


@pytest.fixture
def reachable(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are for us alone."""
    opened = [each for each in (tmp_path, *tmp_path.parents[:3]) if each.stat().st_uid == os.geteuid()]
    modes = [each.stat().st_mode for each in opened]
    for each in opened:
        each.chmod(0o755)
    yield tmp_path
    for each, mode in zip(opened, modes, strict=True):
        each.chmod(mode)


@as_root
def test_others_may_look_but_not_change_and_members_of_the_group_may(reachable: Path):
    path = reachable / "control.sock"
    with Serving(path, group="daemon") as serving:
        gid = access.group_id("daemon")
        assert another(path, "status").startswith("Unavailable you may not connect")
        assert another(path, "pause", groups=str(gid)) == "pause"
        assert another(path, "pause", gid=gid or 0) == "pause"
        path.chmod(0o666)  # as an administrator may: then the kernel lets everybody in
        assert another(path, "status") == "status"
        assert another(path, "explain") == "explain"
        told = another(path, "pause")
        assert told.startswith("Unavailable you may look but not change anything (pause)")
        assert "daemon" in told
        assert [type(request).__name__ for request, _ in serving.asked].count("PauseRequest") == 2


@as_root
def test_without_a_group_not_even_the_group_of_the_file_may_change(reachable: Path):
    path = reachable / "control.sock"
    with Serving(path):
        assert another(path, "status", gid=0) == "status"
        assert "may look but not change" in another(path, "pause", gid=0)


@as_root
def test_a_directory_made_for_us_lets_the_group_in(reachable: Path):
    folder = reachable / "run"
    folder.mkdir(mode=0o750)
    folder.chmod(0o750)
    with Serving(folder / "control.sock", group="daemon"):
        assert folder.stat().st_gid == access.group_id("daemon")
        assert another(folder / "control.sock", "resume", groups=str(access.group_id("daemon"))) == "resume"


def test_where_the_kernel_tells_no_groups_those_of_the_user_count():
    listed = os.getgrouplist("root", 0)
    peer = Peer(pid=1, uid=0, gid=0, groups=None)
    assert peer.may_change(None)
    assert Peer(pid=1, uid=12345, gid=7, groups=None).may_change(7)
    assert not Peer(pid=1, uid=12345, gid=7, groups=None).may_change(listed[0])
    assert not Peer(pid=1, uid=12345, gid=7, groups=frozenset({8})).may_change(None)
    assert Peer(pid=1, uid=12345, gid=7, groups=frozenset({8})).may_change(8)


# The client -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def saying(path: Path, answer: bytes, *, hold_s: float = 0.0) -> Iterator[None]:
    """Something else than our server, which answers once."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def once() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(1 << 16)
                time.sleep(hold_s)
                with contextlib.suppress(BrokenPipeError):  # who asked has gone
                    link.sendall(answer)

        thread = threading.Thread(target=once)
        thread.start()
        yield
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"hello\n", "is no ceml server"),
        (b'{"ok": true}\n', "is no ceml server"),
        (b"[]\n", "is no ceml server"),
        (b"\xff\xfe\n", "is no ceml server"),
        (b"half an answ", "without a whole answer"),
        (b"", "without a whole answer"),
        (b'{"ok": true, "version": 2, "server": "7.0", "result": {}}\n', "ceml 7.0 and speaks version 2"),
    ],
)
def test_what_is_no_server_of_ours_is_said(tmp_path: Path, answer: bytes, words: str):
    with saying(tmp_path / "s", answer), pytest.raises(CemlError, match=words):
        ask(tmp_path / "s", "status")


def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path):
    with saying(tmp_path / "s", b"", hold_s=0.5), pytest.raises(Unavailable, match=r"did not answer within 0\.1 s"):
        ask(tmp_path / "s", "status", timeout_s=0.1)


def test_no_server_and_no_directory_are_said_with_the_remedy(tmp_path: Path):
    for path in (tmp_path / "s", tmp_path / "nowhere" / "s", tmp_path / ("d" * 200) / "s"):
        with pytest.raises(Unavailable, match="Start one with `ceml serve`"):
            ask(path, "status")


def test_a_request_too_long_is_not_even_sent(tmp_path: Path):
    with pytest.raises(SettingsError, match="longer than"):
        ask(tmp_path / "s", "objective", objective="x" * MAX_REQUEST_BYTES)


def test_the_client_needs_the_standard_library_only():
    code = (
        "import sys; import ceml.api.client; "
        "sys.exit(bool({'numpy', 'pydantic', 'anyio', 'structlog'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    assert client.VERSION == 1
