"""The projector: an MLP between encoder and loss, discarded after pretraining.

Letters: N images, D encoder width, P projector width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slmlp import config


class InputNorm(nn.Module):
    """Divides features (N, D) by their L2 norm."""

    def forward(self, h: Tensor) -> Tensor:
        """Return unit vectors (N, D)."""
        return F.normalize(h, dim=1)


class Reweight(nn.Module):
    """Multiplies feature i of D by kappa^(-i * 2048 / D): the fixed reweighting head of Xue et al. (2403.11391).

    The source's kappa is for 2048 features; the exponent is stretched so that any width spans the same range.
    """

    weights: Tensor

    def __init__(self, dim: int, kappa: float) -> None:
        super().__init__()
        self.register_buffer("weights", kappa ** (-torch.arange(dim) * (2048 / dim)))

    def forward(self, h: Tensor) -> Tensor:
        """Return reweighted features (N, D)."""
        return h * self.weights


class Residual(nn.Module):
    """The sum of features (N, D) and of layers on them, the last of which, a Linear, starts at zero."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers
        self.start_at_zero()

    def start_at_zero(self) -> None:
        """Set the last Linear to zero."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)

    def forward(self, h: Tensor) -> Tensor:
        """Return the sum (N, D)."""
        added: Tensor = h + self.layers(h)
        return added


NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
ACTS = {"relu": nn.ReLU, "gelu": nn.GELU}


def projector(dim: int, spec: config.Projector) -> tuple[nn.Sequential, int]:
    """Return the projector of ``spec`` on features of width ``dim``, and its output's width.

    ``depth`` blocks of [Linear(hidden), norm, act], then Linear(out) where there is one. Depth 0 without ``out`` is
    the empty sequence: the identity.
    """
    hidden, out = spec.widths(dim)
    before: list[nn.Module] = [InputNorm()] if spec.l2_input else []
    if spec.reweight != 1:
        before.append(Reweight(dim, spec.reweight))
    layers: list[nn.Module] = []
    for _ in range(spec.depth):
        if spec.hidden != "none":
            layers.append(nn.Linear(dim, hidden, bias=spec.bias))
        if spec.norm != "none":
            layers.append(NORMS[spec.norm](hidden))
        if spec.act != "none":
            layers.append(ACTS[spec.act]())
        dim = hidden
    if out is not None:
        layers.append(nn.Linear(dim, out, bias=spec.out_bias))
        dim = out
    if spec.residual:
        layers = [Residual(nn.Sequential(*layers))]
    return nn.Sequential(*before, *layers), dim
