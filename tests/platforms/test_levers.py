"""Several knobs in one thread. Not covered: what each lever does (test_jetson.py, test_linux.py)."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import anyio
import pytest

from ceml.domain.knobs import Configuration, Knob
from ceml.errors import Temporary
from ceml.platforms import sysfs, worker
from ceml.platforms.levers import LeverActuator
from ceml.saved import Item


class FileLever:
    """A number in a file; a gate that is shut makes its writes hang."""

    def __init__(self, name: str, path: Path, gate: threading.Event | None = None) -> None:
        self.knob = Knob(name=name, levels=(1.0, 2.0, 3.0))
        self._path, self._gate = path, gate

    def look(self) -> float:
        return float(self._path.read_text())

    order = look

    def put(self, level: float) -> float:
        if self._gate is not None:
            self._gate.wait()
        sysfs.order(str(self._path), f"{level:g}", knob=self.knob.name)
        return self.look()

    def items(self) -> tuple[Item, ...]:
        return sysfs.kept([str(self._path)])


def test_one_driver_that_never_comes_back_keeps_nothing_else_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "STUCK_S", 0.2)
    gate, paths = threading.Event(), (tmp_path / "good", tmp_path / "bad")
    for path in paths:
        path.write_text("3")

    async def main() -> None:
        actuator = LeverActuator("two", [FileLever("good", paths[0]), FileLever("bad", paths[1], gate)])
        saved = await actuator.save()
        with anyio.move_on_after(0.1):
            await actuator.apply(Configuration({"good": 1.0, "bad": 1.0}))
        assert paths[0].read_text().strip() == "1"
        with pytest.raises(Temporary):
            await actuator.save()
        began_s = time.monotonic()
        (left,) = await actuator.restore(saved)
        assert (left.target, "under way" in left.reason) == ("two", True)  # it may yet write: the journal must stay
        assert time.monotonic() - began_s < 2.0
        assert [path.read_text().strip() for path in paths] == ["3", "3"]
        gate.set()  # the driver comes back after all
        await anyio.sleep(0.2)
        assert [path.read_text().strip() for path in paths] == ["3", "3"]
        assert await actuator.restore(saved) == ()

    anyio.run(main)
