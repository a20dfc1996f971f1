"""A log that cannot be written. Not covered: a whole run whose log is lost (tests/test_serve.py)."""

from __future__ import annotations

import io
import os
from pathlib import Path

import structlog

from ceml.telemetry import log
from ceml.telemetry.stream import Lossy


def test_what_a_full_disk_does_not_take_is_dropped():
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", buffering=1)
    lossy = Lossy(full)
    assert lossy.write("a line\n") == 7
    lossy.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # else closing fails: its buffer is not empty
    full.close()


def test_a_stream_that_was_closed_takes_nothing_and_fails_nobody():
    stream = io.StringIO()
    lossy = Lossy(stream)
    lossy.write("a line\n")
    stream.close()
    lossy.write("another\n")
    lossy.flush()


def test_the_log_is_dropped_while_its_disk_is_full_and_comes_back(tmp_path: Path):
    with (tmp_path / "log").open("w", buffering=1) as file:
        kept = os.dup(file.fileno())
        log.configure("json", "info", file)
        structlog.get_logger().info("before")
        os.dup2(os.open("/dev/full", os.O_WRONLY), file.fileno())
        structlog.get_logger().info("lost for now")
        os.dup2(kept, file.fileno())
        structlog.get_logger().info("after")
    structlog.reset_defaults()
    text = (tmp_path / "log").read_text()
    assert '"before"' in text
    assert '"after"' in text
