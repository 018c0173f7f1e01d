"""Detectron2's ResNet, rebuilt from a weights file by the names that Detectron2 gives its layers.

Detectron2 is not on PyPI, so that its own loader cannot prove an export. This is the committed reader in its place: it
knows the file's form and the network as ``detectron2/modeling/backbone/resnet.py`` defines it, and nothing of timm or
of the encoder.

================================================== ========================================================
name                                               layer
================================================== ========================================================
``stem.conv1``, ``stem.conv1.norm``                7x7 of stride 2, norm, ReLU, 3x3 max-pool of stride 2
``res2`` to ``res5``                               stages; the first block of all but ``res2`` has stride 2
``resN.B.conv1`` to ``conv3``, each with ``.norm`` 1x1, 3x3, 1x1 of a bottleneck; 3x3, 3x3 of a basic block
``resN.B.shortcut``, with ``.norm``                1x1 where the width or the stride changes
================================================== ========================================================

With ``STRIDE_IN_1X1`` false the stride of a bottleneck stands in its 3x3 convolution, a basic block's in its first.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slmlp.runtime.errors import SlmlpError

STAGES = ("res2", "res3", "res4", "res5")
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
WIDTHS = (64, 128, 256, 512)  # of the 3x3 convolutions, by stage
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
EPS = 1e-5  # of its BatchNorm and SyncBN


class _Plain(pickle.Unpickler):
    """Opens pickles of dicts, texts and numpy arrays, and of nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of numpy's three names that an array is pickled with."""
        if (module.split(".")[0], name) in {("numpy", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by Detectron2's names."""
    try:
        content = _Plain(io.BytesIO(path.read_bytes())).load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise SlmlpError(f"{path} cannot be read as a weights file of Detectron2 ({error})") from error
    known = {"model", "__author__", "matching_heuristics"}
    if not isinstance(content, dict) or set(content) != known or content["matching_heuristics"] is not True:
        raise SlmlpError(
            f"{path}: expected a dict of {', '.join(sorted(known))}, the last of them true, which makes Detectron2 "
            "match names by their ends"
        )
    arrays: Mapping[str, Any] = content["model"]
    wrong = [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]
    if wrong:
        raise SlmlpError(f"{path}: {', '.join(wrong[:4])} are no numpy arrays")
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


def layers(depth: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a ResNet of that depth, by Detectron2's names."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, into: int, side: int) -> None:
        shapes[f"{name}.weight"] = (out, into, side, side)
        for part in NORM:
            shapes[f"{name}.norm.{part}"] = () if part == "num_batches_tracked" else (out,)

    conv("stem.conv1", 64, 3, 7)
    width, deep = 64, depth >= 50
    for stage, count, inner in zip(STAGES, BLOCKS[depth], WIDTHS, strict=True):
        out = 4 * inner if deep else inner
        for block in range(count):
            name = f"{stage}.{block}"
            if width != out:
                conv(f"{name}.shortcut", out, width, 1)
            sides = (1, 3, 1) if deep else (3, 3)
            plan = [width, *[inner] * (len(sides) - 1), out]
            for i, side in enumerate(sides):
                conv(f"{name}.conv{i + 1}", plan[i + 1], plan[i], side)
            width = out
    return shapes


def check(state: Mapping[str, Tensor], depth: int, source: str) -> None:
    """Check that names and shapes of the tensors are those of Detectron2's network of that depth."""
    expected = layers(depth)
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shaped = sorted(k for k in expected if k in state and tuple(state[k].shape) != expected[k])
    for words, names in (("missing", missing), ("unexpected", extra), ("of another shape", shaped)):
        if names:
            raise SlmlpError(
                f"{source} does not fit Detectron2's ResNet-{depth}: {words} {len(names)} ({', '.join(names[:6])})"
            )


def stages(state: Mapping[str, Tensor], depth: int, x: Tensor) -> dict[str, Tensor]:
    """Return the maps (N, C, H, W) of ``res2`` to ``res5`` on normalised RGB images, in evaluation mode."""
    x = F.relu(_conv(state, "stem.conv1", x, stride=2, padding=3))
    x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    maps: dict[str, Tensor] = {}
    for stage, count in zip(STAGES, BLOCKS[depth], strict=True):
        for block in range(count):
            stride = 2 if block == 0 and stage != "res2" else 1
            x = _block(state, f"{stage}.{block}", x, stride, depth >= 50)
        maps[stage] = x
    return maps


def _block(state: Mapping[str, Tensor], name: str, x: Tensor, stride: int, bottleneck: bool) -> Tensor:
    if bottleneck:
        y = F.relu(_conv(state, f"{name}.conv1", x))
        y = F.relu(_conv(state, f"{name}.conv2", y, stride=stride, padding=1))
        y = _conv(state, f"{name}.conv3", y)
    else:
        y = F.relu(_conv(state, f"{name}.conv1", x, stride=stride, padding=1))
        y = _conv(state, f"{name}.conv2", y, padding=1)
    shortcut = f"{name}.shortcut"
    return F.relu(y + (_conv(state, shortcut, x, stride=stride) if f"{shortcut}.weight" in state else x))


def _conv(state: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    y = F.conv2d(x, state[f"{name}.weight"], None, stride, padding)
    weight, bias, mean, var = (state[f"{name}.norm.{part}"] for part in NORM[:4])
    return F.batch_norm(y, mean, var, weight, bias, training=False, eps=EPS)
