"""Many processes as one: gathers with a gradient. Does nothing when alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def gather(x: Tensor) -> Tensor:
    """Return the rows of all processes, (world * N, ...), in the order of ranks; ``x`` itself when alone."""
    return x


def shuffled(network: nn.Module, x: Tensor, groups: int) -> Tensor:
    """Return ``network(x)`` computed in ``groups`` random parts of the batch, so that BatchNorm sees other company."""
    order = torch.randperm(len(x)).to(x.device)
    parts = [network(part) for part in x[order].tensor_split(groups)]
    return torch.cat(parts)[torch.argsort(order)]
