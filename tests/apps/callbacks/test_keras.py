"""The Keras callback in real trainings, on PyTorch. Not covered: what all callbacks share (test_beating)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apps.listening import Listener
from tests.frameworks import run_with

TRAIN = """
import sys, keras, numpy as np
from ceml.apps.callbacks.keras import Heartbeat
from ceml.apps.callbacks import beating
beating.METRICS_S = beating.BEAT_S = 0.0  # these trainings are short: each step says everything

class Fails(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 6:
            raise RuntimeError("training failed")

def train(*callbacks, data=None, **options):
    model = keras.Sequential([keras.layers.Dense(1)], name="namesake")
    model.compile("sgd", loss="mse", metrics=["mae"])
    data = data or (np.ones((40, 2)), np.ones((40, 1)))
    model.fit(*data, callbacks=list(callbacks), verbose=0, **{"epochs": 2, "batch_size": 4} | options)

def batches():
    for _ in range(20):
        yield np.ones((4, 2)), np.ones((4, 1))

train(Heartbeat("plain"), validation_split=0.5)
train(Heartbeat())
train(Heartbeat("later"), initial_epoch=1, epochs=4)
several = Heartbeat("several")  # as Keras calls it with steps_per_execution=3, which its PyTorch backend refuses
several.set_params({"epochs": 2, "steps": 10})
several.set_model(keras.Sequential([keras.layers.Dense(1)]))
several.on_train_begin()
for epoch in range(2):
    several.on_epoch_begin(epoch)
    for batch in (2, 5, 8, 9):
        several.on_train_batch_end(batch, {"loss": 0.5})
several.on_train_end()
train(Heartbeat("generator"), data=(batches(),), steps_per_epoch=10, batch_size=None)
train(Heartbeat("unknown"), data=(batches(),), epochs=1, batch_size=None)
one = Heartbeat("same-twice")
train(one, one)
train(Heartbeat("two"), Heartbeat("two"))
one = Heartbeat("raises")
try:
    train(one, Fails())
except RuntimeError as error:
    assert str(error) == "training failed"
else:
    sys.exit("the error was lost")
train(one)
"""


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    folder = tmp_path_factory.mktemp("keras")
    program = folder / "program.py"
    program.write_text(TRAIN)
    listener = Listener(folder / "beats")
    run_with("keras", "torch", words=[program], CEML_PIPE=str(listener.path), KERAS_HOME=str(folder))
    yield listener
    listener.close()


@pytest.mark.parametrize(
    ("app", "total", "work"),
    [
        ("plain", 10, 10),
        ("namesake", 20, 20),
        ("later", 30, 30),
        ("several", 20, 20),
        ("generator", 20, 20),
        ("unknown", None, 20),
        ("same-twice", 20, 20),
        ("two", 20, 20),
    ],
)
def test_the_batches_are_announced_and_counted_once(heard: Listener, app: str, total: int | None, work: int):
    assert [join.total_work for join in heard.joins(app)] == [total]
    assert (heard.work(app), heard.leaves(app)) == (work, 1)


def test_after_a_training_that_raised_the_callback_serves_the_next(heard: Listener):
    assert [join.total_work for join in heard.joins("raises")] == [20, 20]
    assert heard.work("raises") == 7 + 20
    assert heard.leaves("raises") == 2


def test_with_several_batches_at_once_a_beat_carries_them(heard: Listener):
    assert max(beat.work for beat in heard.beats("several")) == 3


def test_epoch_loss_and_metrics_go_along(heard: Listener):
    assert {"epoch", "loss", "mae"} <= heard.metrics("plain")
