"""Encoder files for tests of exports: small, and of drawn weights, so that no layer is the identity."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from slmlp.encoders import Encoder, build
from slmlp.runtime import seeds

SUFFIXES = {
    "torchvision": ".pth",
    "timm": ".safetensors",
    "safetensors": ".safetensors",
    "onnx": ".onnx",
    "detectron2": ".pkl",
    "hf": "",
    "exported-program": ".pt2",
}


def drawn(name: str, size: int, stem: str = "standard", seed: int = 0) -> Encoder:
    """Return an encoder whose normalisation layers all do something: timm starts the last one of a block at zero."""
    with seeds.seeded(seed, "encoder"):
        encoder = build(name, size, stem)
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
            elif isinstance(module, nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
    return encoder.eval()


def saved(folder: Path, name: str, size: int, stem: str = "standard") -> Path:
    """Return the file of a drawn encoder."""
    path = folder / f"{name}-{size}-{stem}" / "encoder.safetensors"
    drawn(name, size, stem).save(path)
    return path


def out(folder: Path, target: str, name: str = "made") -> Path:
    """Return where an export goes."""
    return folder / f"{name}{SUFFIXES.get(target, '')}"


def images(encoder: Encoder, n: int = 3) -> torch.Tensor:
    """Return drawn input (N, 3, S, S)."""
    size = encoder.preprocess.size
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def left(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())
