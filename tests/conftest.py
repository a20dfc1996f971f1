"""What the tests share: where measured tables may lie, and how to live in virtual time."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

import anyio
import pytest
from hypothesis import settings

from ceml.timeline import VirtualLoop

T = TypeVar("T")

os.environ["XDG_STATE_HOME"] = mkdtemp(prefix="ceml-tests-")  # what runs learn here teaches nobody else

for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):  # a shell's background jobs inherit a deaf ear
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

for profile, examples in (("house", 40), ("full", 200)):  # `make test` is for every commit, `make test-full` digs
    settings.register_profile(profile, deadline=None, derandomize=True, max_examples=examples)  # no verdict on timing
settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files of whole runs first: they take longest, and one processor should not wait for the other at the end."""
    items.sort(key=lambda item: item.path.parent != ROOT / "tests")


@pytest.fixture
def virtually() -> Callable[[Callable[[], Awaitable[T]]], T]:
    """Run an async function in virtual time, starting at second 0."""

    def run(main: Callable[[], Awaitable[T]]) -> T:
        return anyio.run(main, backend_options={"loop_factory": VirtualLoop})

    return run


@pytest.fixture(scope="session")
def tables() -> Path:
    """The folder of measured tables; without it the test is skipped by name."""
    if not TABLES.is_dir():
        pytest.skip("measured tables (../shared/data) are not here")
    return TABLES
