"""ONNX files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def matrix_product(path: Path, weight: np.ndarray) -> Path:
    """Write a network that multiplies the mean colour by a weight, which lies in ``weights.bin`` beside it."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["out"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", weight.shape[1]])
    tensor = numpy_helper.from_array(weight.astype(np.float32), "w")
    graph = helper.make_graph(nodes, "g", [given], [output], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (path.parent / "weights.bin").unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path
