"""A plain PyTorch training loop with a data loader of two forked workers; CEML's lines are marked."""

from __future__ import annotations

import argparse

import torch
from torch.utils.data import DataLoader, TensorDataset

from ceml.apps.callbacks.torch import Steps  # CEML


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3, help="times through the data (default 3)")
    parser.add_argument("--workers", type=int, default=2, help="processes that load data (default 2)")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.randn(2048, 8)
    data = TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())
    model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    loader = DataLoader(data, batch_size=64, shuffle=True, num_workers=options.workers)
    loader = Steps(loader, "pytorch", epochs=options.epochs)  # CEML: batches are heartbeats from here on
    for epoch in range(options.epochs):
        for inputs, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loader.report(loss=loss)  # CEML: if you like
        print(f"epoch {epoch} loss {loss.item():.3f}")
    print(f"done: {options.epochs * len(loader)} steps")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
