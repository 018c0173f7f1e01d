"""A tiny model with a projector, and a batch for it."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from slmlp import add_projector
from slmlp.runtime import seeds


def tiny(seed: int = 0, **options) -> nn.Module:
    with seeds.seeded(seed, "model"):
        return add_projector(timm.create_model("test_resnet", num_classes=5), **options)


def batch(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 5
