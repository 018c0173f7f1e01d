"""timm: a state dict for ``timm.create_model(..., checkpoint_path=FILE)``, and its ``pretrained_cfg`` beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from slmlp.exports import timm_config, weights_file
from slmlp.exports.bundle import FEATURES, Bundle
from slmlp.exports.timm_config import unsupported
from slmlp.runtime import json_files, seeds

__all__ = ["LOADER", "SUFFIXES", "TOOL", "pairs", "unsupported", "usage", "write"]

TOOL, LOADER = "timm", "timm.create_model(checkpoint_path=...), strict"
SUFFIXES = weights_file.SUFFIXES


def write(bundle: Bundle, path: Path) -> Sequence[Path]:
    """Write the state dict, and a JSON file of architecture, arguments and ``pretrained_cfg``."""
    weights_file.write(path, state(bundle))
    beside = path.with_name(f"{path.name}.json")
    json_files.write(beside, timm_config.config(bundle))
    return [beside]


def pairs(bundle: Bundle, path: Path, x: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Let timm build the network from the JSON file alone and load the weights, strictly."""
    content: dict[str, Any] = json_files.read(path.with_name(f"{path.name}.json"), dict[str, Any])
    network = timm.create_model(
        content["architecture"], pretrained_cfg=content["pretrained_cfg"], checkpoint_path=str(path),
        num_classes=content["num_classes"], **content["model_args"],
    )  # fmt: skip
    return {FEATURES: (bundle.expected(x)[FEATURES], features(network, x))}


def usage(bundle: Bundle, name: str) -> str:
    """Return the lines that load the file."""
    words = "".join(f", {key}={value!r}" for key, value in timm_config.arguments(bundle.encoder).items())
    return (
        "import json, pathlib, timm\n\n"
        f'config = json.loads(pathlib.Path("{name}.json").read_text())\n'
        f'model = timm.create_model("{bundle.encoder.spec.name}", num_classes={bundle.classes or 0}{words},\n'
        f'                          pretrained_cfg=config["pretrained_cfg"], checkpoint_path="{name}")\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))"
    )


def state(bundle: Bundle) -> dict[str, Tensor]:
    """Return the weights under timm's names, with a fresh classifier where one was asked for."""
    weights = bundle.encoder.weights()
    if bundle.classes is None:
        return weights
    with seeds.seeded(0, "classifier"):
        fresh: Any = timm.create_model(
            bundle.encoder.spec.name, num_classes=bundle.classes, **timm_config.arguments(bundle.encoder)
        )
    head = str(fresh.pretrained_cfg["classifier"])
    mine = {k: v.detach().clone() for k, v in fresh.state_dict().items() if k.rpartition(".")[0] == head}
    return {**weights, **mine}


def features(network: nn.Module, x: Tensor) -> Tensor:
    """Return the features (N, D) of one of timm's networks, without its classifier."""
    reset: Any = network.reset_classifier  # timm's networks have it
    reset(0)
    with torch.inference_mode():
        features: Tensor = network.eval()(x)
    return features
