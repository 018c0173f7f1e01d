"""Compute the encoder's activations again on the way back instead of keeping them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slmlp.encoders import Encoder
from slmlp.runtime.errors import SlmlpError


def recompute(encoder: Encoder) -> None:
    """Let the network keep the activations between its blocks only, by timm's own checkpoints.

    Raises:
        SlmlpError: a network without them.
    """
    start = getattr(encoder.backbone, "set_grad_checkpointing", None)
    try:
        if start is None:
            raise AssertionError("it has no checkpoints")
        start(True)
    except AssertionError as error:
        raise SlmlpError(
            f"--activation-checkpointing: timm cannot compute {encoder.spec.name} in parts ({error}); leave it out, "
            "and take a smaller --batch-size or --accumulate"
        ) from error


@contextlib.contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of every BatchNorm, which saw the batch on the way forward already."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:  # statistics are still handed over, as PyTorch compares what both passes keep
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
