"""Parameter groups and the learning rate as a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from slmlp.config import Training


def parameter_groups(module: nn.Module, cfg: Training) -> list[dict[str, object]]:
    """Return weights with weight decay, and biases and normalisation parameters (1-d tensors) without, by default."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (free if parameter.ndim <= 1 and not cfg.decay_norms_and_biases else decayed).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": cfg.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build(module: nn.Module, cfg: Training) -> torch.optim.SGD:
    """Return SGD with Nesterov momentum; the rate is set before every step by ``lr_at``."""
    return torch.optim.SGD(
        parameter_groups(module, cfg), lr=0.0, momentum=cfg.momentum, nesterov=cfg.momentum > 0, foreach=True
    )


def warmup_steps(total: int, steps_per_epoch: int, cfg: Training) -> int:
    """Return the steps of linear warm-up: ``warmup_epochs``, at most a tenth of all."""
    return int(min(cfg.warmup_epochs * steps_per_epoch, total / 10))


def lr_at(step: int, total: int, warmup: int, peak: float) -> float:
    """Return the rate of step 0..total-1: linear warm-up to ``peak``, then half a cosine to 0.

    >>> [round(lr_at(s, 10, 2, 1.0), 3) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
