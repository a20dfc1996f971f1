"""What a callback adds to a step: the hooks of real trainings of very short steps, timed one by one, in time of the
processor, with caches as cold as a training leaves them. Goal: below 5 us a step.

Where the frameworks are found. Not covered: the beat itself (test_bench_heartbeat). Nothing passes or fails by a time.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.apps.listening import Listener
from tests.frameworks import run_with

TIMED = """
import json, statistics, time, warnings
warnings.simplefilter("ignore")
times = []

def timed(callback, hook):
    inside = getattr(callback, hook)
    def around(*args, **options):
        clock = time.thread_time_ns()
        began = time.thread_time_ns()
        inside(*args, **options)
        times.append(time.thread_time_ns() - began - (began - clock))  # without what asking the clock takes
    setattr(callback, hook, around)
    return callback

def tell():
    mean = statistics.fmean(times)
    print(json.dumps({"steps": len(times), "median_us": statistics.median(times) / 1e3, "mean_us": mean / 1e3}))
"""
LIGHTNING = """
import tempfile, logging, torch, lightning.pytorch as pl
from torch.utils.data import DataLoader, TensorDataset
from ceml.apps.callbacks.lightning import Heartbeat
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch, at):
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("train/loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)
pl.Trainer(callbacks=[timed(Heartbeat("bench"), "on_train_batch_end")], accelerator="cpu", logger=False, max_epochs=1,
           enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
           default_root_dir=tempfile.mkdtemp()).fit(Module(), DataLoader(TensorDataset(torch.randn(3000, 2))))
tell()
"""
HUGGINGFACE = """
import tempfile, torch
from transformers import Trainer, TrainingArguments
from ceml.apps.callbacks.huggingface import Heartbeat
class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 3000
    def __getitem__(self, at):
        return {"x": torch.ones(2), "labels": torch.ones(1)}
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def forward(self, x, labels):
        return {"loss": (self.layer(x) - labels).pow(2).mean()}
Trainer(model=Model(), train_dataset=Data(), callbacks=[timed(Heartbeat("bench"), "on_step_end")],
        args=TrainingArguments(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=1, num_train_epochs=1,
                               logging_steps=10**9, report_to="none", use_cpu=True, disable_tqdm=True,
                               save_strategy="no")).train()
tell()
"""
KERAS = """
import keras, numpy as np
from ceml.apps.callbacks.keras import Heartbeat
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("sgd", loss="mse", metrics=["mae"])
model.fit(np.ones((3000, 2)), np.ones((3000, 1)), batch_size=1, verbose=0,
          callbacks=[timed(Heartbeat("bench"), "on_train_batch_end")])
tell()
"""
TORCH = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from ceml.apps.callbacks.torch import Steps
data = list(DataLoader(TensorDataset(torch.randn(50_000, 2)), batch_size=1))
loss = torch.tensor(0.5, requires_grad=True)
def through(batches, report):
    began = time.perf_counter_ns()
    for batch in batches:
        report(loss=loss)
    return (time.perf_counter_ns() - began) / len(data)
for _ in range(5):
    steps = Steps(data, "bench", epochs=1)
    times.append(through(steps, steps.report) - through(data, lambda loss: None))
    steps.close()
tell()
"""
ONNX = """
from ceml.apps.callbacks.onnx import Session
class Instant:
    def run(self, names, feed):
        return None
def through(session):
    began = time.perf_counter_ns()
    for _ in range(50_000):
        session.run(None, {})
    return (time.perf_counter_ns() - began) / 50_000
for _ in range(5):
    times.append(through(Session(Instant(), "bench")) - through(Instant()))
tell()
"""


@pytest.mark.parametrize(
    ("modules", "program"),
    [
        (("torch",), TORCH),
        (("lightning", "torch"), LIGHTNING),
        (("transformers", "accelerate", "torch"), HUGGINGFACE),
        (("keras", "torch"), KERAS),
        (("onnxruntime",), ONNX),
    ],
    ids=["torch", "lightning", "huggingface", "keras", "onnx"],
)
def test_what_a_callback_adds_to_a_step(benchmark: Any, tmp_path: Path, modules: tuple[str, ...], program: str):
    listener, done = Listener(tmp_path / "beats"), threading.Event()

    def read() -> None:
        while not done.wait(0.005):
            listener.heard()
            listener.said.clear()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        ended = benchmark.pedantic(
            run_with, modules, {"words": ["-c", TIMED + program], "CEML_PIPE": str(listener.path)}, rounds=1
        )
    finally:
        done.set()
        reader.join()
        listener.close()
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["steps"]
    benchmark.extra_info.update(us_per_step=round(told["mean_us"], 2), median_us=round(told["median_us"], 2), goal_us=5)
