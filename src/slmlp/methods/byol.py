"""BYOL (Grill et al. 2020, arXiv 2006.07733): each view predicts the EMA target's embedding of the other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.encoders.projector import projector
from slmlp.methods.base import Method, Progress, ema_copy, ema_update, encode
from slmlp.methods.losses import regression


class BYOL(Method):
    """The mean squared distance of group predictions and group targets, both ways."""

    num_views = 2
    target_views = 2
    cfg: config.BYOL

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.BYOL) -> None:
        super().__init__(encoder, num_classes, cfg)
        self.projector, width = projector(encoder.dim, cfg.projector)
        hidden, out = cfg.predictor.widths(encoder.dim)  # relative to the encoder, as the projector's
        wanted = cfg.predictor.depth > 0 or out is not None
        spec = dataclasses.replace(cfg.predictor, out=width if wanted else "none")
        if spec.hidden != "none":
            spec = dataclasses.replace(spec, hidden=hidden)
        self.predictor, _ = projector(width, spec)
        self.target = ema_copy(encoder, self.projector)

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the loss of both directions (section 3.1)."""
        z1, z2 = (self.projector(h) for h in encode(self.encoder, views))  # (N, P) each
        with torch.no_grad():
            t1, t2 = (self.target[1](h) for h in encode(self.target[0], views))
        loss = regression(self.predictor(z1), t2) + regression(self.predictor(z2), t1)
        return {"loss": loss, "embeddings": z1.detach()}

    def after_step(self, progress: Progress) -> None:
        """Move the target; its momentum rises from the setting to 1 along a cosine (section 3.3)."""
        momentum = 1 - (1 - self.cfg.ema_momentum) * (math.cos(math.pi * progress.share) + 1) / 2
        ema_update(self.target, (self.encoder, self.projector), momentum)
