"""The session that beats, around a stand-in and around ONNX Runtime. Not covered: what all share (test_beating)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ceml.apps.callbacks import beating
from ceml.apps.callbacks.onnx import Session
from tests.apps.listening import Listener
from tests.conftest import ROOT
from tests.frameworks import run_with


class Doubling:
    """Something that runs, as an inference session does."""

    providers = ("CPU",)

    def run(self, names: object, feed: dict[str, Any]) -> list[Any]:
        if feed["x"] is None:
            raise ValueError("no input")
        return [feed["x"] * 2]


@pytest.fixture(autouse=True)
def each_run_a_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beating, "BEAT_S", 0.0)


def test_runs_answer_as_before_and_count_with_their_latency(pipe: Listener):
    session = Session(Doubling(), "doubling", total_runs=3)
    assert [session.run(None, {"x": x}) for x in range(3)] == [[0], [2], [4]]
    assert session.providers == ("CPU",)
    session.close()
    assert [join.total_work for join in pipe.joins()] == [3]
    assert (pipe.work(), pipe.leaves(), pipe.metrics()) == (3, 1, {"latency_s"})
    assert 0 <= pipe.beats()[0].metrics["latency_s"] < 1


def test_a_run_that_raises_is_no_work(pipe: Listener):
    session = Session(Doubling(), "doubling")
    with pytest.raises(ValueError, match="no input"):
        session.run(None, {"x": None})
    with pytest.raises(AttributeError, match="run_with_iobinding"):
        session.run_with_iobinding(None)
    assert pipe.work() == 0


def test_wrapped_twice_a_run_counts_once(pipe: Listener):
    session = Session(Session(Doubling(), "inner"), "outer")
    session.run(None, {"x": 1})
    assert (pipe.work(), len(pipe.joins())) == (1, 1)


def test_threads_share_a_session_and_no_run_is_lost(pipe: Listener):
    session = Session(Doubling(), "threads")
    with ThreadPoolExecutor(8) as pool:
        assert sum(answer for (answer,) in pool.map(lambda x: session.run(None, {"x": x}), range(500))) == 249500
    session.close()
    assert pipe.work() == 500


def test_with_onnx_runtime_itself(pipe: Listener):
    words = [ROOT / "examples" / "09-onnxruntime" / "infer.py", "--runs", 50]
    done = run_with("onnxruntime", "onnx", words=words, CEML_PIPE=str(pipe.path))
    assert "50 runs of 16 samples by CPUExecutionProvider" in done.stdout
    assert [join.total_work for join in pipe.joins()] == [50]
    assert (pipe.work(), pipe.leaves(), pipe.metrics()) == (50, 1, {"latency_s"})
