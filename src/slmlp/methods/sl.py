"""Supervised pretraining, with the MLP projector or without: SL and SL-MLP (arXiv 2112.00496)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.methods.base import Method, projector


class SL(Method):
    """Cross-entropy of a linear classifier behind the projector. Depth 0 is plain SL, depth 1 is SL-MLP."""

    supervised = True

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.SL) -> None:
        super().__init__(encoder, num_classes, cfg)
        self.projector, width = projector(encoder.dim, cfg.projector)
        self.classifier = nn.Linear(width, num_classes)
        self.label_smoothing = cfg.label_smoothing
        self.num_classes = num_classes

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the loss and the share of images whose largest logit is their class."""
        z = self.projector(self.encoder(views[0]))  # (N, P)
        logits = self.classifier(z).float()  # (N, C)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return {"loss": loss, "accuracy": (logits.argmax(1) == labels).float().mean()}

    @property
    def chance_loss(self) -> float:
        """Ln C: the cross-entropy of equal logits."""
        return math.log(self.num_classes)
