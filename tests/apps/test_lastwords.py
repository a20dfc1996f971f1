"""Closing a pipe under writers that do not stop. Not covered: a whole server's end (test_pipe, test_serve)."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from ceml.apps import lastwords
from ceml.apps.lastwords import close_and_read


@pytest.fixture
def fifo(tmp_path: Path) -> tuple[Path, int]:
    os.mkfifo(tmp_path / "beats")
    fd = os.open(tmp_path / "beats", os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 1 << 20)
    return tmp_path / "beats", fd


def lines(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\n") if line]


@pytest.mark.parametrize("written", [b"", b"one\n", b"one\ntwo\n", b"x" * 4096 + b"\n"])
def test_what_was_written_is_returned_and_nobody_listens_any_more(fifo: tuple[Path, int], written: bytes):
    path, fd = fifo
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, written)
    assert lines(close_and_read(fd)) == lines(written)
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"in vain\n")
    os.close(writer)


def test_a_full_pipe_is_returned_in_full(fifo: tuple[Path, int]):
    path, fd = fifo
    writer, count = os.open(path, os.O_WRONLY | os.O_NONBLOCK), 0
    try:
        while True:
            os.write(writer, b"%07d\n" % count)
            count += 1
    except BlockingIOError:
        pass
    assert count == (1 << 20) // 8
    assert lines(close_and_read(fd)) == [b"%07d" % i for i in range(count)]
    os.close(writer)


@pytest.mark.parametrize("run", range(5))
def test_each_write_that_succeeded_is_returned_whoever_writes_meanwhile(fifo: tuple[Path, int], run: int):
    path, fd = fifo
    said: list[bytes] = []
    begun = threading.Barrier(4)

    def write(name: int) -> None:
        writer, number = os.open(path, os.O_WRONLY | os.O_NONBLOCK), 0
        begun.wait()
        while True:
            line = b"\n%d %d\n" % (name, number)
            try:
                os.write(writer, line)
            except BlockingIOError:
                continue
            except BrokenPipeError:
                break
            said.append(line.strip())
            number += 1
        os.close(writer)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    threading.Event().wait(0.001 * run)
    heard = lines(close_and_read(fd))
    for thread in threads:
        thread.join()
    assert sorted(heard) == sorted(said)


def test_who_writes_in_the_last_moment_is_told_that_there_is_no_room(
    fifo: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
):
    path, fd = fifo
    writer, close, told = os.open(path, os.O_WRONLY | os.O_NONBLOCK), os.close, []

    def last_moment(number: int) -> None:
        if number == fd:
            with pytest.raises(BlockingIOError):
                os.write(writer, b"\n")
            told.append(number)
        close(number)

    monkeypatch.setattr(os, "close", last_moment)
    os.write(writer, b"one\n")
    assert lines(close_and_read(fd)) == [b"one"]
    assert told == [fd]
    close(writer)


def test_where_a_pipe_cannot_be_doubled_it_is_read(fifo: tuple[Path, int], monkeypatch: pytest.MonkeyPatch):
    path, fd = fifo
    monkeypatch.setattr(lastwords.ctypes, "CDLL", lambda name: object())
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"one\ntwo\n")
    assert lines(close_and_read(fd)) == [b"one", b"two"]
    os.close(writer)
