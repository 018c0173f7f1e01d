"""Mixup and CutMix of a batch: torchvision's transforms, one of them drawn for each batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2

Mix = Callable[[Sequence[Tensor], Tensor], tuple[list[Tensor], Tensor]]


def mixer(mixup: float, cutmix: float, num_classes: int) -> Mix | None:
    """Return a function from views and labels (N,) to mixed views and targets (VN, C), or None where both are 0.

    Draws from torch's global generator. Partners are the neighbours in the batch, whose order is random.
    """
    kinds: list[v2.Transform] = []
    if mixup:
        kinds.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
    if cutmix:
        kinds.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
    if not kinds:
        return None

    def mix(views: Sequence[Tensor], labels: Tensor) -> tuple[list[Tensor], Tensor]:
        kind = kinds[int(torch.randint(len(kinds), (1,)))]
        # crops of one image show different parts of it, so each is mixed by draws of its own
        mixed = [kind(view, labels) for view in views]
        return [x for x, _ in mixed], torch.cat([targets for _, targets in mixed])

    return mix
