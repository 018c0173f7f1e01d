"""Read and write tensors by name: safetensors, or `torch.save`, by suffix."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from slmlp.runtime import files

SAFE, PICKLES = ".safetensors", (".pth", ".pt")
SUFFIXES = (SAFE, *PICKLES)


def write(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors; contiguous ones on the CPU, as ``Encoder.weights`` gives them."""
    if path.suffix == SAFE:
        files.write_tensors(path, state, {"format": "pt"})
    else:
        buffer = io.BytesIO()  # torch.save reports a full disk as an error of its own kind
        torch.save(dict(state), buffer)
        files.write_bytes(path, buffer.getvalue())


def read(path: Path) -> dict[str, Tensor]:
    """Read tensors by name; pickles are restricted to tensors."""
    if path.suffix == SAFE:
        return dict(load_file(path))
    return dict(torch.load(path, map_location="cpu", weights_only=True))
