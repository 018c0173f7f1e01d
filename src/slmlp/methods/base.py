"""What a method is, and the parts that methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from slmlp import config
from slmlp.encoders import Encoder


class Method(nn.Module, ABC):
    """An encoder, what stands behind it in pretraining, and the objective. Knows no device, process or logger."""

    num_views = 1
    supervised = False

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.MethodConfig) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return {"loss": scalar, and scalars to log} of views, each (N, 3, H, W), and labels (N,)."""

    def after_step(self, progress: float) -> None:
        """Move what no gradient moves (EMA copies, queues); ``progress`` is the share of training done, 0 to 1."""

    @property
    def chance_loss(self) -> float | None:
        """The loss of a method that has learnt nothing, where that is known; training that stays there is stopped."""
        return None


class InputNorm(nn.Module):
    """Divides features (N, D) by their L2 norm."""

    def forward(self, h: Tensor) -> Tensor:
        """Return unit vectors (N, D)."""
        return F.normalize(h, dim=1)


NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
ACTS = {"relu": nn.ReLU, "gelu": nn.GELU}


def projector(dim: int, spec: config.Projector) -> tuple[nn.Sequential, int]:
    """Return the projector of ``spec`` on features of width ``dim``, and its output's width.

    ``depth`` blocks of [Linear(hidden), norm, act], then Linear(out) where there is one. Depth 0 without ``out`` is
    the empty sequence: the identity.
    """
    hidden, out = spec.widths(dim)
    layers: list[nn.Module] = [InputNorm()] if spec.l2_input else []
    for _ in range(spec.depth):
        layers.append(nn.Linear(dim, hidden, bias=spec.bias))
        if spec.norm != "none":
            layers.append(NORMS[spec.norm](hidden))
        if spec.act != "none":
            layers.append(ACTS[spec.act]())
        dim = hidden
    if out is not None:
        layers.append(nn.Linear(dim, out, bias=spec.bias))
        dim = out
    return nn.Sequential(*layers), dim
