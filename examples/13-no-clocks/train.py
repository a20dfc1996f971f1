"""The training process: a small network on data made on the spot. Nothing in it knows of knobs or power."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import ceml

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = struct.Struct("q")


def train(folder: Path, framework: str) -> int:
    step, name = (torch_step, "PyTorch") if framework == "torch" else (numpy_step, "numpy")
    work = step()
    counter = os.open(folder / "steps", os.O_CREAT | os.O_WRONLY)
    with ceml.attach(f"training-{framework}", pipe=str(folder / "beats")) as heartbeats:
        print(name, flush=True)
        steps = 0
        while os.getppid() != 1:
            heartbeats.beat(loss=work())
            steps += 1
            os.pwrite(counter, COUNT.pack(steps), 0)  # for the sweep, which does not ask CEML
    return 0


def torch_step() -> Callable[[], float]:
    import torch

    torch.manual_seed(0)
    inputs = torch.randn(1024, 128)
    targets = inputs.norm(dim=1, keepdim=True)
    model = torch.nn.Sequential(torch.nn.Linear(128, 512), torch.nn.Tanh(), torch.nn.Linear(512, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def work() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return work


def numpy_step() -> Callable[[], float]:
    import numpy as np

    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(1024, 128))
    targets = np.linalg.norm(inputs, axis=1, keepdims=True)
    first, last = rng.normal(0, 0.1, (128, 512)), rng.normal(0, 0.1, (512, 1))

    def work() -> float:
        hidden = np.tanh(inputs @ first)
        error = hidden @ last - targets
        back = (error @ last.T) * (1 - hidden**2)
        np.subtract(last, 1e-3 * hidden.T @ error / len(inputs), out=last)
        np.subtract(first, 1e-3 * inputs.T @ back / len(inputs), out=first)
        return float(np.mean(error**2))

    return work


if __name__ == "__main__":
    sys.exit(train(Path(sys.argv[1]), sys.argv[2]))
