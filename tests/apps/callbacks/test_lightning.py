"""The Lightning callback in real trainings on the CPU. Not covered: what all callbacks share (test_beating)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apps.listening import Listener
from tests.frameworks import run_with

TRAIN = """
import sys, tempfile, warnings, logging
import lightning.pytorch as pl, torch
from torch.utils.data import DataLoader, TensorDataset
from ceml.apps.callbacks import beating
from ceml.apps.callbacks.lightning import Heartbeat
beating.METRICS_S = beating.BEAT_S = 0.0  # these trainings are short: each step says everything
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

class Module(pl.LightningModule):
    def __init__(self, fails_at=None):
        super().__init__()
        self.layer, self.fails_at = torch.nn.Linear(2, 1), fails_at
    def training_step(self, batch, at):
        if at == self.fails_at:
            raise RuntimeError("training failed")
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("train/loss", loss)
        return loss
    def validation_step(self, batch, at):
        self.log("val_loss", self.layer(batch[0]).mean())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

def loader(n=40):
    return DataLoader(TensorDataset(torch.randn(n, 2)), batch_size=4)

def trainer(*callbacks, **options):
    return pl.Trainer(callbacks=list(callbacks), accelerator="cpu", logger=False, enable_progress_bar=False,
                      enable_model_summary=False, default_root_dir=folder,
                      **{"max_epochs": 2, "enable_checkpointing": False} | options)

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder = tempfile.mkdtemp()
    trainer(Heartbeat("plain")).fit(Module(), loader(), loader())
    trainer(Heartbeat()).fit(Module(), loader())
    trainer(Heartbeat("accumulated"), accumulate_grad_batches=3).fit(Module(), loader())
    one = Heartbeat("same-twice")
    trainer(one, one).fit(Module(), loader())
    trainer(Heartbeat("two"), Heartbeat("two")).fit(Module(), loader())
    again = Heartbeat("fit-twice")
    trainer(again).fit(Module(), loader())
    trainer(again).fit(Module(), loader())
    raising = Heartbeat("raises")
    try:
        trainer(raising).fit(Module(fails_at=7), loader())
    except RuntimeError as error:
        assert str(error) == "training failed"
    else:
        sys.exit("the error was lost")
    first = trainer(Heartbeat("before"), max_epochs=1, enable_checkpointing=True)
    first.fit(Module(), loader())
    first.save_checkpoint(folder + "/half.ckpt")
    trainer(Heartbeat("resumed"), max_epochs=3).fit(Module(), loader(), ckpt_path=folder + "/half.ckpt")
    trainer(Heartbeat("max_steps"), max_epochs=-1, max_steps=7).fit(Module(), loader())
    trainer(Heartbeat("ranks"), strategy="ddp_fork", devices=2).fit(Module(), loader())
"""


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    folder = tmp_path_factory.mktemp("lightning")
    program = folder / "program.py"
    program.write_text(TRAIN)
    listener = Listener(folder / "beats")
    run_with("lightning", "torch", words=[program], CEML_PIPE=str(listener.path), TMPDIR=str(folder))
    yield listener
    listener.close()


@pytest.mark.parametrize(
    ("app", "total", "work"),
    [
        ("plain", 20, 20),
        ("Module", 20, 20),
        ("accumulated", 8, 8),
        ("same-twice", 20, 20),
        ("two", 20, 20),
        ("raises", 20, 7),
        ("before", 10, 10),
        ("resumed", 20, 20),
        ("max_steps", 7, 7),
        ("ranks", 10, 10),  # two ranks share the batches
    ],
)
def test_the_steps_of_the_optimizer_are_announced_and_counted_once(heard: Listener, app: str, total: int, work: int):
    assert [join.total_work for join in heard.joins(app)][:1] == [total]
    assert heard.work(app) == work
    assert heard.leaves(app) == len(heard.joins(app))


def test_one_callback_serves_one_training_after_another(heard: Listener):
    assert [join.total_work for join in heard.joins("fit-twice")] == [20, 20]
    assert heard.work("fit-twice") == 40


def test_epoch_loss_and_what_is_logged_go_along(heard: Listener):
    assert {"epoch", "loss", "train_loss"} <= heard.metrics("plain")


def test_each_source_is_one_training(heard: Listener):
    assert all(len({join.source for join in heard.joins(app)}) == 1 for app in ("plain", "same-twice", "two", "ranks"))
