"""A real training loop in numpy (a small network learns a spiral), with CEML's lines marked."""

from __future__ import annotations

import argparse

import numpy as np

import ceml


def spiral(points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaved spirals, the classic toy problem that a linear model cannot solve."""
    turn = np.sqrt(rng.random(points)) * 3 * np.pi
    side = rng.integers(0, 2, points)
    angle = turn + np.pi * side
    where = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1) / 10
    return where + rng.normal(0, 0.02, where.shape), side


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000, help="training steps (default 2000)")
    parser.add_argument("--width", type=int, default=128, help="width of the network (default 128)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x, y = spiral(2000, rng)
    weights = [rng.normal(0, 0.5, (2, options.width)), rng.normal(0, 0.1, (options.width, 1))]

    heartbeats = ceml.attach("spiral", total_work=options.steps)  # CEML: say who you are
    for step in range(options.steps):
        batch = rng.integers(0, len(x), 256)
        hidden = np.tanh(x[batch] @ weights[0])
        guess = 1 / (1 + np.exp(-(hidden @ weights[1])[:, 0]))
        loss = -np.mean(np.log(np.where(y[batch] == 1, guess, 1 - guess) + 1e-9))
        slope = ((guess - y[batch]) / len(batch))[:, None]
        back = (slope @ weights[1].T) * (1 - hidden**2)
        weights[1] -= 2.0 * hidden.T @ slope
        weights[0] -= 2.0 * x[batch].T @ back
        heartbeats.beat(loss=float(loss))  # CEML: one line per step
        if step % 500 == 0:
            print(f"step {step} loss {loss:.3f}")
    heartbeats.close()  # CEML: or use `with ceml.attach(...) as heartbeats:`
    accuracy = float(np.mean((1 / (1 + np.exp(-(np.tanh(x @ weights[0]) @ weights[1])[:, 0])) > 0.5) == (y == 1)))
    print(f"done: loss {loss:.3f}, accuracy {accuracy:.0%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
