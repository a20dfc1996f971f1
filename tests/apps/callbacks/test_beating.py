"""What the callbacks share, on a real pipe. Not covered: what each framework calls (the files beside this one)."""

from __future__ import annotations

import ast
import copy
import gc
import math
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.apps.callbacks import beating
from ceml.apps.callbacks.beating import MOST_METRICS, RANKS, Beating, framework, local_rank
from ceml.apps.client import _KEY as CLIENT_KEY
from tests.apps.listening import Listener

CALLBACKS = Path(beating.__file__).parent


class Run:
    """What a framework would call a trainer."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beating, "BEAT_S", 0.0)  # each step is a beat of its own, unless a test wants otherwise
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)


def started(app: str = "a", run: object = None, **more: object) -> Beating:
    one = Beating(app)
    one.start(run or Run(), **more)  # type: ignore[arg-type]
    return one


def test_a_run_is_a_join_its_beats_and_a_leave(pipe: Listener):
    one = started(total_work=3)
    one.beat()
    one.beat(2, {"loss": 0.5})
    one.close()
    one.close()
    one.beat()
    assert [join.total_work for join in pipe.joins()] == [3]
    assert (pipe.work(), pipe.leaves(), pipe.metrics()) == (3, 1, {"loss"})


def test_metrics_and_steps_of_any_name_and_kind_break_no_training(pipe: Listener):
    one = started()
    one.beat(2, {"work": 7.0, "self": 1.0, "loss": 0.5})
    for nothing in (None, "3", [1], -1, float("nan"), object()):
        one.beat(nothing)  # type: ignore[arg-type]
    one.close()
    assert (pipe.work(), pipe.metrics()) == (2, {"loss"})


@pytest.mark.parametrize("name", RANKS)
def test_only_the_first_rank_of_a_machine_beats(pipe: Listener, monkeypatch: pytest.MonkeyPatch, name: str):
    for rank in range(4):
        monkeypatch.setenv(name, str(rank))
        one = started()
        one.beat()
        one.close()
    assert (len(pipe.joins()), pipe.work()) == (1, 1)


def test_the_rank_on_this_machine_counts_before_the_rank_among_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "8")
    assert local_rank() == 8
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert local_rank() == 0
    monkeypatch.setenv("LOCAL_RANK", "none")
    assert local_rank() == 8


def test_who_comes_second_for_the_same_run_is_mute_until_the_first_is_done(pipe: Listener):
    run = Run()
    first, second = started(run=run), started(run=run)
    for one in (first, second):
        one.beat()
    assert (len(pipe.joins()), pipe.work()) == (1, 1)
    first.close()
    second.start(run)
    second.beat()
    second.close()
    assert (len(pipe.joins()), pipe.work(), pipe.leaves()) == (2, 2, 2)


def test_a_run_that_takes_the_place_of_a_dead_one_in_memory_is_another(pipe: Listener):
    for _ in range(50):
        started().beat()  # dropped without a word: training raised
    gc.collect()
    assert (pipe.work(), pipe.leaves()) == (50, 50)


def test_short_steps_share_a_beat_and_none_is_lost(pipe: Listener, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beating, "BEAT_S", 3600.0)
    one = started()
    for _ in range(10):
        one.beat()
    assert pipe.work() == 1
    one.close()
    assert [beat.work for beat in pipe.beats()] == [1, 9]
    dropped = started("dropped")
    dropped.beat()
    dropped.beat()
    del dropped
    gc.collect()
    assert pipe.work("dropped") == 2


def test_threads_share_it_and_no_step_is_lost(pipe: Listener, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beating, "BEAT_S", 0.0001)
    one = started()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: one.beat(), range(2000)))
    one.close()
    assert pipe.work() == 2000


def test_two_runs_at_a_time_are_two_programs(pipe: Listener):
    handles = [started("a"), started("b")]
    for one in handles:
        one.beat()
    assert (pipe.work("a"), pipe.work("b")) == (1, 1)


def test_started_again_it_says_goodbye_first(pipe: Listener):
    one = started()
    one.beat()
    one.start(Run(), total_work=5)
    one.beat()
    assert (len(pipe.joins()), pipe.leaves()) == (2, 1)
    assert len({join.source for join in pipe.joins()}) == 2


@given(st.lists(st.integers(0, 50), max_size=20))
def test_however_often_and_in_whatever_order_a_hook_is_called_the_work_is_the_highest_count(counts: list[int]):
    one = Beating("a")
    assert sum(max(one.reached(count), 0) for count in counts) == max(counts, default=0)


@pytest.mark.parametrize("ends", ["closed", "dropped"])
def test_steps_between_two_beats_are_said_with_the_next_across_epochs_and_at_the_end(pipe: Listener, ends: str):
    one, run = started(), Run()
    one.start(run)
    for _ in range(3):
        one.restart()
        for step in range(1, 1001):
            if (work := one.reached(step)) > 0:
                one.beat(work)
    if ends == "closed":
        one.close()
    else:  # training raised
        del one
        gc.collect()
    assert pipe.work() == 3000


def test_what_is_copied_or_sent_elsewhere_is_mute_and_leaves_the_original_alone(pipe: Listener):
    one = started("original")
    copies = [copy.deepcopy(one), copy.copy(one), pickle.loads(pickle.dumps(one))]
    for each in copies:
        assert not each.started
        each.beat()
        each.close()
    del copies, each
    gc.collect()
    assert (len(pipe.joins()), pipe.leaves()) == (1, 0)
    one.beat()
    assert pipe.work() == 1


def test_a_forked_child_is_mute(pipe: Listener):
    one = started()
    child = os.fork()
    if child == 0:
        one.beat()
        one.close()
        os._exit(0)
    os.waitpid(child, 0)
    one.beat()
    assert (pipe.work(), pipe.leaves()) == (1, 0)


class Device:
    type = "cuda"


class OnTheAccelerator:
    device = Device()

    def __float__(self) -> float:
        raise AssertionError("this would wait for the accelerator")


class Hostile:
    def __float__(self) -> float:
        raise SystemError

    def __str__(self) -> str:
        raise SystemError


def test_metrics_are_numbers_at_hand_under_names_that_a_line_may_carry(pipe: Listener):
    one = started()
    bad = {"gpu": OnTheAccelerator(), "text": "high", "none": None, "bad": Hostile(), "nan": math.nan, "list": [1, 2]}
    one.beat(1, {"train/loss": 0.5, **bad, Hostile(): 1.0})
    assert [beat.metrics for beat in pipe.beats()] == [{"train_loss": 0.5}]


def test_metrics_are_said_now_and_then_and_only_so_many(pipe: Listener, monkeypatch: pytest.MonkeyPatch):
    one = started()
    many = {f"metric{number}": number for number in range(100)}
    assert one.wants_metrics()
    for _ in range(20):
        one.beat(1, many)
    said = [len(beat.metrics) for beat in pipe.beats()]
    assert said[0] == MOST_METRICS
    assert said.count(0) >= 15
    monkeypatch.setattr(one, "_metrics_s", 0.0)  # as if a tenth of a second had passed
    one.beat(1, many)
    assert len(pipe.beats()[-1].metrics) == MOST_METRICS


def test_names_are_made_of_what_the_client_lets_pass():
    assert set(beating._KEY) == set(CLIENT_KEY)


def test_a_missing_framework_is_named_with_its_remedy():
    with pytest.raises(ImportError, match=r"no_such_thing 2.0 or newer, .* pip install thing"):
        framework("no_such_thing", (2, 0), "thing")


def test_an_old_framework_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "oldframework.py").write_text("__version__ = '1.9.3+cpu'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"oldframework 2.0 or newer, and found 1.9.3"):
        framework("oldframework", (2, 0), "oldframework")
    assert framework("oldframework", (1, 9), "oldframework").__version__ == "1.9.3+cpu"


@pytest.mark.parametrize(("module", "package"), [("lightning", "lightning"), ("huggingface", "transformers")])
def test_without_its_framework_a_callback_says_what_to_install(module: str, package: str):
    code = f"import ceml.apps.callbacks.{module}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = [{str(CALLBACKS.parents[2])!r}]; {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1].startswith("ImportError: this callback needs ")
    assert f"pip install {package}" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("path", sorted(CALLBACKS.glob("*.py")), ids=lambda path: path.name)
def test_they_keep_to_the_syntax_of_python_3_6(path: Path):
    source = path.read_text()
    ast.parse(source, feature_version=(3, 6))
    assert "from __future__" not in source
