"""Hugging Face Trainer on a very small BERT, made on the spot; CEML's lines are marked."""

from __future__ import annotations

import argparse
import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from ceml.apps.callbacks.huggingface import Heartbeat  # CEML


class FirstToken(torch.utils.data.Dataset):
    """Sentences of random tokens; the label says whether the first one is in the upper half."""

    def __init__(self, sentences: int) -> None:
        self.tokens = torch.randint(0, 64, (sentences, 12), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[at], "labels": (self.tokens[at, 0] >= 32).long()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="training steps (default 60)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    with tempfile.TemporaryDirectory(prefix="ceml-huggingface-") as folder:
        trainer = Trainer(
            model=BertForSequenceClassification(config),
            args=TrainingArguments(
                output_dir=folder,
                max_steps=options.steps,
                per_device_train_batch_size=16,
                logging_steps=10,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=FirstToken(512),
            callbacks=[Heartbeat("huggingface")],  # CEML
        )
        trainer.train()
    print(f"done: {trainer.state.global_step} steps")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
