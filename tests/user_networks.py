"""Networks as a user would write them, for ``module:function``."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

NUMBER = 3


class Means(nn.Module):
    """Channel means, through one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean(dim=(2, 3)))


def means() -> nn.Module:
    return Means()


def configured() -> nn.Module:
    net = Means()
    net.pretrained_cfg = {"input_size": (3, 40, 40), "crop_pct": 0.8, "mean": (0.1, 0.2, 0.3), "crop_mode": "squash"}
    return net


def timms() -> nn.Module:
    return timm.create_model("test_resnet", num_classes=0)


def maps() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


def number() -> int:
    return NUMBER


def broken() -> nn.Module:
    raise FileNotFoundError("weights.pt")


class NotFinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.mean(dim=(2, 3))
        return torch.where(h > h.median(), h / 0, h)


def not_finite() -> nn.Module:
    return NotFinite()
