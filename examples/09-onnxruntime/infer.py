"""ONNX Runtime with a heartbeat per run, on a small network made on the spot; CEML's lines are marked."""

from __future__ import annotations

import argparse

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ceml.apps.callbacks.onnx import Session  # CEML


def network() -> bytes:
    """Two dense layers with random weights."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=shape).astype("float32"), name)
        for name, shape in (("first", (32, 128)), ("second", (128, 10)))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        for name, width in (("x", 32), ("y", 10))
    ]
    graph = helper.make_graph(nodes, "dense", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="batches to infer (default 300)")
    options = parser.parse_args()
    session = onnxruntime.InferenceSession(network(), providers=["CPUExecutionProvider"])
    session = Session(session, "onnxruntime", total_runs=options.runs)  # CEML
    x = np.random.default_rng(1).normal(size=(16, 32)).astype("float32")
    for _ in range(options.runs):
        (y,) = session.run(None, {"x": x})
    print(f"done: {options.runs} runs of {len(y)} samples by {session.get_providers()[0]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
