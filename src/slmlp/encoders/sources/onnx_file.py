"""``FILE.onnx``: a network of any origin, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slmlp.config.encoders import PreprocessFlags
from slmlp.encoders.encoder import Encoder
from slmlp.encoders.preprocess import Preprocess
from slmlp.encoders.sources.check import checked
from slmlp.encoders.sources.preparing import Prepared, plain
from slmlp.runtime import files
from slmlp.runtime.errors import SlmlpError, few
from slmlp.runtime.plain import short

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class OnnxNetwork(nn.Module):
    """Images (N, 3, S, S) -> one output of an ONNX session. Has no weights of torch's, and no gradient."""

    def __init__(self, session: Any, output: str) -> None:
        super().__init__()
        (given,) = session.get_inputs()
        self.session, self.input, self.output = session, given.name, output
        self.dtype = TYPES[given.type]
        self.batch = given.shape[0] if isinstance(given.shape[0], int) else None  # images that it takes, and no others

    def forward(self, x: Tensor) -> Tensor:
        """Return the output (N, ...) in float32; a file made for a fixed number of images gets that many at a time."""
        images = x.detach().cpu().numpy().astype(self.dtype, copy=False)
        step = self.batch or max(len(images), 1)
        parts = [self._run(images[start : start + step]) for start in range(0, len(images), step)]
        return torch.from_numpy(np.concatenate(parts).astype(np.float32, copy=False))

    def _run(self, images: Any) -> Any:
        missing = (self.batch or len(images)) - len(images)
        if missing:  # pad the last batch, and drop the padding's outputs
            images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        (outputs,) = self.session.run([self.output], {self.input: np.ascontiguousarray(images)})
        return outputs[: len(outputs) - missing]


def open_source(source: str, overrides: PreprocessFlags | None, seed: int) -> Encoder:
    """Return the encoder around an ONNX file with one input (N, 3, S, S) and an output (N, D).

    The input's shape tells the size, where it is a number; a file that slmlp did not export tells nothing of
    normalisation, so that it is ImageNet's unless it is overridden.
    """
    name, _, output = source.partition("#")
    path = Path(name)
    if not path.is_file():
        raise SlmlpError(f"{source}: no file {path}")
    beside = _beside(path, source)
    session = _session(path, beside, source)
    side = _input_side(session, source)
    prepared = (_ours(session) or plain(side, "the file's input")).override(overrides)
    if side not in (None, prepared.preprocess.size):
        raise SlmlpError(f"{source} takes images of {side} pixels only, found size {prepared.preprocess.size}")
    chosen = _chosen(session, output, prepared.preprocess.size, source)
    digest = files.sha256(chunk for each in (path, *beside) for chunk in files.chunks(each))
    return checked(OnnxNetwork(session, chosen), f"onnx:{path.name}", prepared, source, (digest, chosen))


def _beside(path: Path, source: str) -> list[Path]:
    """Return the files that hold an ONNX file's weights, where it does not hold them itself."""
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        raise SlmlpError(f"{source} needs ONNX Runtime: pip install 'slmlp[onnx]'")
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # protobuf's own kind; the session says what is wrong with the file
        return []
    names = {entry.value for tensor in _tensors(model) for entry in tensor.external_data if entry.key == "location"}
    for name in sorted(names):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise SlmlpError(
                f"{source}: its weights lie in {name}, outside of its folder, where ONNX Runtime reads none: save them "
                "beside it, onnx.save(onnx.load(FILE), NEW, save_as_external_data=True, location='w.bin')"
            )
        if not (path.parent / name).is_file():
            raise SlmlpError(
                f"{source}: its weights lie in {path.parent / name}, and there is no such file: restore it"
            )
    return [path.parent / name for name in sorted(names)]


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor of a protobuf message, however deep: weights may stand in nodes and in graphs inside them."""
    for field, value in message.ListFields():
        for part in value if field.is_repeated and field.message_type else ():
            yield from _tensors(part)
        if field.message_type and not field.is_repeated:
            yield from _tensors(value)
    if type(message).__name__ == "TensorProto":
        yield message


def session(path: Path) -> Any:
    """Return ONNX Runtime's session of a file on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # fatal: errors reach the user as exceptions, and would be printed in colour too
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _session(path: Path, beside: Sequence[Path], source: str) -> Any:
    try:
        return session(path)
    except Exception as error:  # its exceptions have no common class
        first = short(error)
        weights = f" with its weights in {few(each.name for each in beside)}" if beside else ""
        raise SlmlpError(f"{source}: it cannot be read as an ONNX model{weights} ({first}): fetch it again") from error


def _ours(session: Any) -> Prepared | None:
    """Return the preprocessing that slmlp's export wrote into the file, None where there is none."""
    held = session.get_modelmeta().custom_metadata_map
    try:
        (m1, m2, m3), (s1, s2, s3) = (map(float, json.loads(held[key])) for key in ("mean", "std"))
        found = Preprocess.read(held["slmlp.preprocess"], (m1, m2, m3), (s1, s2, s3))
    except (KeyError, ValueError, TypeError):
        return None
    if found is None:
        return None
    return Prepared(found, {field.name: "the file" for field in dataclasses.fields(Preprocess)})


def _input_side(session: Any, source: str) -> int | None:
    """Return the side of the images that the session takes, None for any."""
    inputs = session.get_inputs()
    channels = inputs[0].shape[1] if inputs and len(inputs[0].shape) == 4 else 0  # a text where any number goes
    described = ", ".join(f"{given.name} {_shape(given.shape)} {given.type}" for given in inputs)
    if len(inputs) != 1 or inputs[0].type not in TYPES or not (channels in (3, None) or isinstance(channels, str)):
        raise SlmlpError(f"{source}: expected one input of images (N, 3, S, S), found {described}; export it so")
    height, width = (side if isinstance(side, int) else None for side in inputs[0].shape[2:])
    if height is not None and width is not None and height != width:
        raise SlmlpError(f"{source} takes images of {height} x {width} pixels; slmlp feeds squares")
    return height or width


def _chosen(session: Any, output: str, size: int, source: str) -> str:
    """Return the output asked for, or the only one that is (N, D)."""
    names = [given.name for given in session.get_outputs()]
    if output and output not in names:
        raise SlmlpError(f"{source}: no output {output!r}; the file has {', '.join(names)}")
    shapes = {name: _found(session, name, size, source) for name in ([output] if output else names)}
    fitting = [name for name, shape in shapes.items() if len(shape) == 2 and shape[0] == 2]
    if len(fitting) == 1:
        return fitting[0]
    described = ", ".join(f"{name} {_shape(['N', *shape[1:]])}" for name, shape in shapes.items())
    if fitting:
        file = source.partition("#")[0]
        raise SlmlpError(f"{source} has several outputs (N, D): choose {' or '.join(f'{file}#{n}' for n in fitting)}")
    if output and len(names) > 1:
        described += f" (others: {', '.join(n for n in names if n != output)})"
    raise SlmlpError(f"{source}: expected an output of features (N, D), found {described}; export the pooled features")


def _found(session: Any, output: str, size: int, source: str) -> tuple[int, ...]:
    """Return the shape of an output for two grey images."""
    try:
        return tuple(OnnxNetwork(session, output)(torch.zeros(2, 3, size, size)).shape)
    except Exception as error:  # its exceptions have no common class
        first = short(error)
        raise SlmlpError(
            f"{source} cannot take images of {size} pixels ({first}); give another size with --preprocess.size"
        ) from error


def _shape(shape: Any) -> str:
    return f"({', '.join(str(side) for side in shape)})"
