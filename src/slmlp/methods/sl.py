"""Supervised pretraining, with the MLP projector or without: SL and SL-MLP (arXiv 2112.00496)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.encoders.projector import projector
from slmlp.methods.base import Facts, Method, encode
from slmlp.methods.losses import arcface, products, unit, variance_covariance
from slmlp.methods.mix import mixer
from slmlp.runtime.distributed import gather
from slmlp.runtime.errors import SlmlpError


class SL(Method):
    """Cross-entropy of a linear classifier behind the projector. Depth 0 is plain SL, depth 1 is SL-MLP."""

    cfg: config.SL

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.SL) -> None:
        super().__init__(encoder, num_classes, cfg)
        self.projector, width = projector(encoder.dim, cfg.projector)
        self.classifier = nn.Linear(width, num_classes, bias=not cfg.cosine)
        self.mix = mixer(cfg.mixup, cfg.cutmix, num_classes)
        self.num_classes = num_classes

    @staticmethod
    def fit(cfg: config.SL, facts: Facts) -> tuple[config.SL, list[str]]:
        """Reject a temperature that has no effect."""
        if not cfg.cosine and cfg.temperature != config.SL.temperature:
            raise SlmlpError(
                f"temperature {cfg.temperature} changes nothing without the cosine softmax: add --cosine "
                "(in --methods cosine=true), or leave the temperature out"
            )
        return cfg, []

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the loss over all crops, and the share of images whose largest logit is their class."""
        cfg, targets = self.cfg, labels.repeat(len(views))  # (VN,)
        if self.mix is not None:
            views, targets = self.mix(views, labels)  # (VN, C)
        h = torch.cat(encode(self.encoder, views))  # (VN, D)
        z = self.projector(h)  # (VN, P)
        logits = self.logits(z)  # (VN, C)
        penalised = arcface(logits, targets, cfg.margin, cfg.temperature) if cfg.margin else logits
        loss = F.cross_entropy(penalised, targets, label_smoothing=cfg.label_smoothing)
        rows = {"accuracy": (logits[: len(labels)].argmax(1) == labels).float().mean()}
        if cfg.variance or cfg.covariance:
            rows["variance"], rows["covariance"] = variance_covariance(gather(h))
            loss = loss + cfg.variance * rows["variance"] + cfg.covariance * rows["covariance"]
        return {"loss": loss, "embeddings": z[: len(labels)].detach(), **rows}

    def logits(self, z: Tensor) -> Tensor:
        """Return logits (N, C) in float32 (float64 of float64): linear, or cosines over the temperature."""
        if not self.cfg.cosine:
            logits: Tensor = self.classifier(z)
            return logits if logits.dtype == torch.float64 else logits.float()
        return products(unit(z), unit(self.classifier.weight)) / self.cfg.temperature

    @property
    def chance_loss(self) -> float | None:
        """Ln C: the cross-entropy of equal logits. Mixed images stay near it for long, so they are not judged.

        With a margin, that of images at a right angle to every class, which falls behind the others by sin(margin).
        """
        if self.mix is not None:
            return None
        cfg, classes = self.cfg, self.num_classes
        behind = math.sin(cfg.margin) / cfg.temperature if cfg.margin else 0.0
        own = 1 - cfg.label_smoothing * (classes - 1) / classes  # share of the target that the image's class has
        return math.log(classes - 1 + math.exp(-behind)) + own * behind
