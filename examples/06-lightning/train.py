"""PyTorch Lightning with a heartbeat per step; CEML's lines are marked."""

from __future__ import annotations

import argparse
import tempfile

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from ceml.apps.callbacks.lightning import Heartbeat  # CEML


class Classifier(pl.LightningModule):
    """Two layers: in which quadrants is the point?"""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs, labels = batch
        guesses = self.layers(inputs)
        self.log("train/accuracy", (guesses.argmax(dim=1) == labels).float().mean())
        return torch.nn.functional.cross_entropy(guesses, labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3, help="times through the data (default 3)")
    options = parser.parse_args()
    pl.seed_everything(0, verbose=False)
    torch.set_num_threads(1)
    x = torch.randn(2048, 8)
    loader = DataLoader(TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long()), batch_size=64, shuffle=True)
    with tempfile.TemporaryDirectory(prefix="ceml-lightning-") as folder:
        trainer = pl.Trainer(
            max_epochs=options.epochs,
            callbacks=[Heartbeat("lightning")],  # CEML
            accelerator="cpu",
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(Classifier(), loader)
    print(f"done: {trainer.global_step} steps, accuracy {trainer.callback_metrics['train/accuracy']:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
