"""safetensors: the backbone's weights by its own names, and optionally the projector's under ``projector.``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from slmlp import config
from slmlp.encoders import build
from slmlp.encoders.projector import projector
from slmlp.exports.bundle import EMBEDDING, FEATURES, Bundle, no_room_for
from slmlp.runtime import files

TOOL, LOADER = "safetensors", "safetensors.torch.load_file, into a network built anew"
SUFFIXES = (".safetensors",)
PREFIX = "projector."


def unsupported(bundle: Bundle) -> str | None:
    """Return why a file of tensors cannot hold this bundle, or None."""
    return no_room_for(bundle, "safetensors", projector=True)


def write(bundle: Bundle, path: Path) -> Sequence[Path]:
    """Write the file; without a projector it is one that ``slmlp.Encoder.load`` opens too."""
    if bundle.projector is None:
        bundle.encoder.save(path)
        return []
    behind = {f"{PREFIX}{k}": v.detach().clone() for k, v in bundle.projector.state_dict().items()}
    metadata = {"format": "pt", "projector": json.dumps(bundle.projector_settings, sort_keys=True)}
    files.write_tensors(path, {**bundle.encoder.weights(), **behind}, metadata)
    return []


def pairs(bundle: Bundle, path: Path, x: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Load the file with safetensors, strictly, into a newly built network."""
    state, spec = load_file(path), bundle.encoder.spec
    network = build(spec.name, spec.image_size, spec.stem).backbone
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith(PREFIX)}, strict=True)
    with torch.inference_mode():
        features = {FEATURES: network.eval()(x)}
        if bundle.projector is not None:
            behind = _fresh_projector(bundle)
            mine = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
            behind.load_state_dict(mine, strict=True)
            features[EMBEDDING] = behind.eval()(features[FEATURES])
        expected = bundle.expected(x)
    return {name: (expected[name], value) for name, value in features.items()}


def usage(bundle: Bundle, name: str) -> str:
    """Return the lines that load the file."""
    read = f'import safetensors.torch\n\nstate = safetensors.torch.load_file("{name}")'
    if bundle.projector is not None:
        return f'{read}  # the projector is below "{PREFIX}"'
    return f'{read}\n\nimport slmlp  # or with slmlp\n\nencoder = slmlp.Encoder.load("{name}")'


def _fresh_projector(bundle: Bundle) -> nn.Sequential:
    layers, _ = projector(bundle.encoder.dim, config.from_dict(config.Projector, bundle.projector_settings))
    return layers
