"""Keras 3 with a heartbeat per batch, here on PyTorch; CEML's lines are marked."""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

from ceml.apps.callbacks.keras import Heartbeat  # CEML


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3, help="times through the data (default 3)")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(2048, 8)).astype("float32")
    model = keras.Sequential([keras.layers.Dense(64, activation="relu"), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("adam", loss="binary_crossentropy", metrics=["accuracy"])
    history = model.fit(
        x,
        (x[:, 0] * x[:, 1] > 0).astype("float32"),
        batch_size=64,
        epochs=options.epochs,
        verbose=0,
        callbacks=[Heartbeat("keras")],  # CEML
    )
    print(f"done: {options.epochs * 32} steps, accuracy {history.history['accuracy'][-1]:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
