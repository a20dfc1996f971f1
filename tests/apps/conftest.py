"""A real named pipe for whoever beats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.listening import Listener


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Where this process and its children beat unless they are told otherwise."""
    listener = Listener(tmp_path / "beats")
    monkeypatch.setenv("CEML_PIPE", str(listener.path))
    yield listener
    listener.close()
