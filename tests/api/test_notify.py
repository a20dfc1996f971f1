"""What a service manager hears, over real datagram sockets. Not covered: what systemd then does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.api.notify import ServiceManager
from ceml.domain.events import AppJoined, AppLeft, ControlPaused, Decided
from ceml.domain.knobs import Configuration


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(ear: socket.socket) -> list[str]:
    told: list[str] = []
    while True:
        try:
            told += ear.recv(4096).decode().split("\n")
        except BlockingIOError:
            return told


def manager(ear: socket.socket, watchdog_s: float = 0.0) -> ServiceManager:
    return ServiceManager(ear.getsockname(), watchdog_s=watchdog_s)


def test_ready_and_the_end_are_told(ear: socket.socket) -> None:
    manager(ear).ready()
    manager(ear).stopping("SIGTERM")
    assert heard(ear) == ["READY=1", "STOPPING=1", "STATUS=putting the knobs back (SIGTERM)"]


def test_an_abstract_socket_is_reached_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0ceml-test-notify")
        ServiceManager("@ceml-test-notify").ready()
        assert listening.recv(100) == b"READY=1"


def test_the_status_line_changes_with_what_happens_and_is_told_once(ear: socket.socket) -> None:
    told = manager(ear)
    joined = AppJoined(at_s=0.0, app="re\nWATCHDOG=1", source="x")
    for event in (joined, joined, ControlPaused(at_s=1.0), AppLeft(at_s=2.0, app="res", reason="left")):
        told.on(event)
    told.on(
        Decided(
            at_s=3.0,
            app="res",
            configuration=Configuration({"cpu_hz": 1.2e9}),
            rate_hz=1.0,
            power_w=2.0,
            cost=2.0,
            feasible=True,
            violation=0.0,
            evaluated=3,
            why="",
        )
    )
    assert heard(ear) == [
        "STATUS=measuring re?WATCHDOG=1",
        "STATUS=paused",
        "STATUS=waiting; res left",
        "STATUS=res at cpu_hz=1200MHz",
    ]


def test_the_environment_is_read_once_and_children_do_not_inherit_it() -> None:
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "PATH": "/bin"}
    assert ServiceManager.named_in(dict(environ), 7).watchdog_s == 30.0
    assert ServiceManager.named_in(dict(environ), 8).watchdog_s == 0.0  # meant for another process
    ServiceManager.named_in(environ, 7)
    assert environ == {"PATH": "/bin"}


WORDS = st.text(max_size=12) | st.sampled_from(["/", "@", "@a", "/nowhere/at/all", "30000000", "-1", "1e3", "٣"])


@given(address=WORDS, usec=WORDS, whom=WORDS)
def test_whatever_the_environment_says_nothing_is_raised(address: str, usec: str, whom: str) -> None:
    told = ServiceManager.named_in({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": usec, "WATCHDOG_PID": whom}, 1)
    if not address.startswith("/"):  # nothing is sent to a file that may be there
        told.ready()
    assert told.watchdog_s >= 0.0


def test_nobody_there_is_no_trouble(tmp_path: Path) -> None:
    told = ServiceManager(str(tmp_path / "nobody"))
    told.ready()
    told.stopping("SIGTERM")


def test_the_watchdog_is_fed_twice_in_its_time_and_only_after_a_read_back(virtually, ear: socket.socket) -> None:
    told, answers = manager(ear, watchdog_s=10.0), True

    async def verified() -> None:
        if not answers:
            await anyio.sleep_forever()
        await anyio.sleep(0.1)

    async def main() -> None:
        nonlocal answers
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: told.watch(verified, task_status=task_status))
            await anyio.sleep(51.0)
            assert heard(ear) == ["WATCHDOG=1"] * 11
            answers = False
            await anyio.sleep(50.0)
            assert heard(ear) == []
            answers = True
            await anyio.sleep(10.0)
            assert set(heard(ear)) == {"WATCHDOG=1"}
            group.cancel_scope.cancel()

    virtually(main)


def test_a_full_inbox_is_waited_for_where_it_matters_and_not_where_it_does_not(ear: socket.socket) -> None:
    told, heard_at_last = manager(ear), []
    for _ in range(1000):  # more than any inbox holds
        told.tell("WATCHDOG=1")
    room = threading.Timer(0.1, lambda: heard_at_last.extend(heard(ear)))
    room.start()
    told.ready()
    room.join()
    assert "READY=1" in heard_at_last + heard(ear)
