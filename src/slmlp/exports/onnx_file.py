"""ONNX: the network as a graph of a given opset, any batch size, in one file, checked with ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slmlp.encoders.sources.onnx_file import session
from slmlp.exports.bundle import Bundle
from slmlp.exports.exported_program import program, unsupported
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short

__all__ = ["LOADER", "SUFFIXES", "TOOL", "pairs", "unsupported", "usage", "write"]

TOOL, LOADER = "onnxruntime", "onnxruntime.InferenceSession"
SUFFIXES = (".onnx",)
INPUT = "images"


def write(bundle: Bundle, path: Path) -> Sequence[Path]:
    """Write the graph, checked by onnx; its properties say how images are prepared."""
    onnx = _library("onnx")
    _library("onnxscript")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            exported = torch.onnx.export(
                program(bundle), (), dynamo=True, opset_version=bundle.opset, input_names=[INPUT],
                output_names=bundle.outputs, verbose=False,
            )  # fmt: skip
        except Exception as error:  # of the exporter's many parts
            first = short(error)
            raise SlmlpError(f"onnx: the network cannot be written at opset {bundle.opset} ({first})") from error
    assert exported is not None
    model = exported.model_proto
    opset_version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset_version != bundle.opset:
        raise SlmlpError(
            f"onnx: --opset {bundle.opset} was asked for, torch's exporter wrote {opset_version}; ask "
            f"for {opset_version}"
        )
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    prepared = bundle.encoder.preprocess
    for key, value in {"slmlp.preprocess": prepared.id, "mean": prepared.mean, "std": prepared.std}.items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return []


def pairs(bundle: Bundle, path: Path, x: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Run the file in ONNX Runtime on all images at once, then on one alone."""
    _library("onnxruntime")
    opened = session(path)
    return bundle.compared(
        x, lambda part: list(map(torch.from_numpy, opened.run(bundle.outputs, {INPUT: part.numpy()})))
    )


def usage(bundle: Bundle, name: str) -> str:
    """Return the lines that load the file."""
    return (
        "import onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{name}")\n'
        f'{", ".join(bundle.outputs)}, = session.run(None, {{"{INPUT}": images}})  # opset {bundle.opset}, any batch'
    )


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SlmlpError(f"--to onnx needs the package {name}: pip install 'slmlp[onnx]'") from error
