"""The loader that beats and the helper for other loops; where PyTorch is found, with its workers and its ranks.

Not covered: metrics and ranks in general (test_beating).
"""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ceml.apps.callbacks import beating
from ceml.apps.callbacks.torch import Loop, Steps
from tests.apps.listening import Listener
from tests.frameworks import run_with

TRAIN = """
import sys, torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from ceml.apps.callbacks.torch import Loop, Steps

class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(20.0))

data = TensorDataset(torch.randn(40, 2))
for method in ("fork", "spawn"):
    workers = {"num_workers": 1, "multiprocessing_context": method, "persistent_workers": True}
    loader = Steps(DataLoader(data, batch_size=4, **workers), method, epochs=2)
    for epoch in range(2):
        for (batch,) in loader:
            loader.report(loss=batch.mean().requires_grad_())
    assert loader.batch_size == 4 and loader.dataset is data
    loader.close()
for batch in Steps(DataLoader(Stream(), batch_size=5), "stream", epochs=3):
    pass
for x in Steps(torch.arange(6), "tensor", epochs=1):
    pass
"""

RANKS = """
import torch, torch.distributed as dist
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from ceml.apps.callbacks.torch import Loop, Steps

dist.init_process_group("gloo")
data = TensorDataset(torch.randn(64, 2))
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
loader = Steps(DataLoader(data, batch_size=4, sampler=DistributedSampler(data)), "ranks", epochs=2)
for epoch in range(2):
    loader.sampler.set_epoch(epoch)
    for (batch,) in loader:
        model(batch).sum().backward()
dist.barrier()
dist.destroy_process_group()
"""

SPAWNED = """
import torch, torch.distributed as dist, torch.multiprocessing as mp
from ceml.apps.callbacks.torch import Loop

def work(rank, store):
    dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
    with Loop("spawned", total_steps=5) as loop:
        for step in range(5):
            loop.step(loss=torch.tensor(0.5))
    dist.barrier()  # nobody may leave while another still connects
    dist.destroy_process_group()

if __name__ == "__main__":
    import sys
    mp.spawn(work, (sys.argv[1],), nprocs=2)
"""


@pytest.fixture(autouse=True)
def each_step_a_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beating, "BEAT_S", 0.0)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(epochs=st.integers(1, 4), batches=st.lists(st.integers(), max_size=10))
def test_batches_come_unchanged_and_each_counts_once(epochs: int, batches: list[int]):
    loader = Steps(batches, "a", epochs=epochs, pipe="/nonexistent")
    assert [list(loader) for _ in range(epochs)] == [batches] * epochs
    assert len(loader) == len(batches)
    beats = loader._beating._beats
    assert beats is not None
    assert beats._work == epochs * len(batches)


def test_the_total_is_announced_and_a_step_counts_when_its_batch_was_worked_on(pipe: Listener):
    loader = Steps(["a", "b", "c"], "loop", epochs=2)
    assert pipe.heard() == []  # not before it is gone through
    for epoch in range(2):
        for at, _ in enumerate(loader):
            loader.report(loss=0.5)
            assert pipe.work() == 3 * epoch + at
    loader.close()
    assert [join.total_work for join in pipe.joins()] == [6]
    assert (pipe.work(), pipe.leaves()) == (6, 1)
    assert {"epoch", "loss"} <= pipe.metrics()


class Tensor:
    """Something with a history that is worth letting go of."""

    def detach(self) -> float:
        return 0.25


def test_what_is_reported_is_neither_held_nor_read_unless_it_is_time(pipe: Listener):
    loader = Steps([1, 2, 3], "a", epochs=1)
    held = []
    for _ in loader:
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        loader.report(loss=tensor)
        del tensor
        assert held[-1]() is None
    loader.close()
    assert [beat.metrics.get("loss") for beat in pipe.beats()] == [0.25, None, None]


def test_a_generator_has_no_total_unless_it_is_said(pipe: Listener):
    for _ in Steps(iter("abc"), "unknown", epochs=2):
        pass
    for _ in Steps(iter("abc"), "said", total_steps=3):
        pass
    assert [join.total_work for join in pipe.joins()] == [None, 3]
    assert (pipe.work("unknown"), pipe.work("said")) == (3, 3)


def test_wrapped_twice_the_work_counts_once(pipe: Listener):
    for _ in Steps(Steps([1, 2, 3], "inner", epochs=1), "outer", epochs=1):
        pass
    assert (pipe.work(), pipe.work("outer"), len(pipe.joins())) == (3, 3, 1)


def test_training_that_raises_is_the_users_own_and_ends_with_a_goodbye(pipe: Listener):
    def train() -> None:
        for batch in Steps([1, 2, 0], "a", epochs=1):
            1 / batch

    with pytest.raises(ZeroDivisionError):
        train()
    gc.collect()
    assert (pipe.work(), pipe.leaves()) == (2, 1)


def test_a_loader_that_raises_is_heard(pipe: Listener):
    def broken():
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(Steps(broken(), "a"))
    assert pipe.work() == 1


def test_a_loop_of_another_kind(pipe: Listener):
    def train() -> None:
        with Loop("loop", total_steps=10) as loop:
            loop.step(loss=0.5)
            loop.step(4)
            raise KeyError

    with pytest.raises(KeyError):
        train()
    assert (pipe.work(), pipe.leaves(), pipe.metrics()) == (5, 1, {"loss"})


def script(folder: Path, text: str) -> Path:
    path = folder / "program.py"
    path.write_text(text if "__main__" in text else f"if __name__ == '__main__':\n{_indented(text)}")
    return path


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def test_loaders_with_forked_and_spawned_workers(pipe: Listener, tmp_path: Path):
    run_with("torch", words=["-W", "error::UserWarning", script(tmp_path, TRAIN)], CEML_PIPE=str(pipe.path))
    for method in ("fork", "spawn"):
        assert [join.total_work for join in pipe.joins(method)] == [20]
        assert (pipe.work(method), pipe.leaves(method)) == (20, 1)
        assert {"epoch", "loss"} <= pipe.metrics(method)
    assert [join.total_work for join in pipe.joins("stream")] == [None]
    assert (pipe.work("stream"), pipe.work("tensor")) == (4, 6)


def test_of_two_ranks_under_torchrun_one_beats(pipe: Listener, tmp_path: Path):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, script(tmp_path, RANKS)]
    run_with("torch", words=words, CEML_PIPE=str(pipe.path))
    assert [join.total_work for join in pipe.joins()] == [16]  # steps of the whole training, not of each rank
    assert pipe.work() == 16


def test_of_two_ranks_that_are_started_by_hand_one_beats(pipe: Listener, tmp_path: Path):
    run_with("torch", words=[script(tmp_path, SPAWNED), tmp_path / "store"], CEML_PIPE=str(pipe.path))
    assert (len(pipe.joins()), pipe.work(), pipe.leaves()) == (1, 5, 1)
