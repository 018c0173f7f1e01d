"""Hugging Face: a folder of ``config.json``, ``model.safetensors`` and ``README.md``, in the form that timm defines.

timm reads it from disk (``local-dir:``) and from the hub (``hf-hub:``), transformers through its wrapper of timm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import timm
from torch import Tensor

from slmlp.exports import timm_config, weights_file
from slmlp.exports.bundle import FEATURES, Bundle
from slmlp.exports.timm_config import unsupported
from slmlp.exports.timm_file import features, state
from slmlp.runtime import json_files

__all__ = ["LOADER", "SUFFIXES", "TOOL", "pairs", "unsupported", "usage", "write"]

TOOL, LOADER = "timm", "timm.create_model('local-dir:...', pretrained=True)"
SUFFIXES: tuple[str, ...] = ()  # a folder


def write(bundle: Bundle, path: Path) -> Sequence[Path]:
    """Write the folder, less its card."""
    path.mkdir()
    json_files.write(path / "config.json", timm_config.config(bundle))
    weights_file.write(path / "model.safetensors", state(bundle))
    return []


def pairs(bundle: Bundle, path: Path, x: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Load the folder with timm as it loads one from the hub, strictly."""
    network = timm.create_model(f"local-dir:{path}", pretrained=True)
    return {FEATURES: (bundle.expected(x)[FEATURES], features(network, x))}


def usage(bundle: Bundle, name: str) -> str:
    """Return the lines that load the folder."""
    return (
        "import timm\n\n"
        f'model = timm.create_model("local-dir:{name}", pretrained=True)  # or hf-hub:OWNER/NAME\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))"
    )
