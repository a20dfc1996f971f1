"""The Hugging Face callback in real trainings on the CPU. Not covered: what all callbacks share (test_beating)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apps.listening import Listener
from tests.frameworks import run_with

TRAIN = """
import sys, tempfile, warnings, torch
from transformers import PreTrainedModel, PretrainedConfig, Trainer, TrainingArguments
from ceml.apps.callbacks.huggingface import Heartbeat

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, at):
        return {"x": torch.ones(2) * at, "labels": torch.ones(1)}

class Model(torch.nn.Module):
    def __init__(self, fails_at=None):
        super().__init__()
        self.layer, self.calls, self.fails_at = torch.nn.Linear(2, 1), 0, fails_at
    def forward(self, x, labels):
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("training failed")
        return {"loss": (self.layer(x) - labels).pow(2).mean() / 1e4}

def train(*callbacks, fails_at=None, resume=None, **options):
    trainer = Trainer(
        model=Model(fails_at), train_dataset=Data(), callbacks=list(callbacks),
        args=TrainingArguments(output_dir=folder, per_device_train_batch_size=4, logging_steps=2, report_to="none",
                               use_cpu=True, disable_tqdm=True, **{"save_strategy": "no", "max_steps": 15} | options))
    trainer.train(resume_from_checkpoint=resume)

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder = tempfile.mkdtemp()
    from ceml.apps.callbacks import beating
    beating.METRICS_S = beating.BEAT_S = 0.0  # these trainings are short: each step says everything
    train(Heartbeat("plain"))
    train(Heartbeat("epochs"), max_steps=-1, num_train_epochs=2)
    train(Heartbeat("accumulated"), gradient_accumulation_steps=2)
    one = Heartbeat("same-twice")
    train(one, one)
    train(Heartbeat("two"), Heartbeat("two"))
    one = Heartbeat("raises")
    try:
        train(one, fails_at=8)
    except RuntimeError as error:
        assert str(error) == "training failed"
    else:
        sys.exit("the error was lost")
    train(one)
    train(Heartbeat("before"), max_steps=5, save_strategy="steps", save_steps=5)
    train(Heartbeat("resumed"), resume=folder + "/checkpoint-5")
"""


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    folder = tmp_path_factory.mktemp("huggingface")
    program = folder / "program.py"
    program.write_text(TRAIN)
    listener = Listener(folder / "beats")
    modules = ("transformers", "accelerate", "torch")
    run_with(*modules, words=[program], CEML_PIPE=str(listener.path), TMPDIR=str(folder))
    yield listener
    listener.close()


@pytest.mark.parametrize(
    ("app", "total", "work"),
    [
        ("plain", 15, 15),
        ("epochs", 20, 20),
        ("accumulated", 15, 15),
        ("same-twice", 15, 15),
        ("two", 15, 15),
        ("before", 5, 5),
        ("resumed", 10, 10),
    ],
)
def test_the_steps_of_the_optimizer_are_announced_and_counted_once(heard: Listener, app: str, total: int, work: int):
    assert [join.total_work for join in heard.joins(app)] == [total]
    assert (heard.work(app), heard.leaves(app)) == (work, 1)


def test_after_a_training_that_raised_the_callback_serves_the_next(heard: Listener):
    assert [join.total_work for join in heard.joins("raises")] == [15, 15]
    assert heard.work("raises") == 7 + 15
    assert heard.leaves("raises") == 2


def test_epoch_and_the_log_go_along(heard: Listener):
    assert {"epoch", "loss", "learning_rate", "grad_norm"} <= heard.metrics("plain")
