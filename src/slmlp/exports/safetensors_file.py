"""safetensors: the backbone's weights by its own names, and the projector's below ``projector.`` where asked for."""

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
from slmlp.exports.parcel import EMBEDDING, FEATURES, Parcel, no_room_for
from slmlp.runtime import files

TOOL, LOADER = "safetensors", "safetensors.torch.load_file, into a network built anew"
SUFFIXES = (".safetensors",)
PREFIX = "projector."


def refusal(parcel: Parcel) -> str | None:
    """Return why a file of tensors cannot hold what was asked for, or None."""
    return no_room_for(parcel, "safetensors", projector=True)


def write(parcel: Parcel, path: Path) -> Sequence[Path]:
    """Write the file; without a projector it is one that ``slmlp.Encoder.load`` opens too."""
    if parcel.projector is None:
        parcel.encoder.save(path)
        return []
    behind = {f"{PREFIX}{k}": v.detach().clone() for k, v in parcel.projector.state_dict().items()}
    metadata = {"format": "pt", "projector": json.dumps(parcel.projector_settings, sort_keys=True)}
    files.write_tensors(path, {**parcel.encoder.weights(), **behind}, metadata)
    return []


def pairs(parcel: Parcel, path: Path, x: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Read the file with safetensors and load it, strictly, into a network built anew."""
    state, spec = load_file(path), parcel.encoder.spec
    network = build(spec.name, spec.image_size, spec.stem).backbone
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith(PREFIX)}, strict=True)
    with torch.inference_mode():
        found = {FEATURES: network.eval()(x)}
        if parcel.projector is not None:
            behind = _fresh_projector(parcel)
            mine = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
            behind.load_state_dict(mine, strict=True)
            found[EMBEDDING] = behind.eval()(found[FEATURES])
        expected = parcel.expected(x)
    return {name: (expected[name], value) for name, value in found.items()}


def usage(parcel: Parcel, name: str) -> str:
    """Return the lines that load the file."""
    read = f'import safetensors.torch\n\nstate = safetensors.torch.load_file("{name}")'
    if parcel.projector is not None:
        return f'{read}  # the projector is below "{PREFIX}"'
    return f'{read}\n\nimport slmlp  # or with slmlp\n\nencoder = slmlp.Encoder.load("{name}")'


def _fresh_projector(parcel: Parcel) -> nn.Sequential:
    made, _ = projector(parcel.encoder.dim, config.from_dict(config.Projector, parcel.projector_settings))
    return made
