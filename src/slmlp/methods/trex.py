"""t-ReX and t-ReX* (Sariyildiz et al. 2023, arXiv 2206.15369), written from the paper's description."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.encoders.projector import Residual, projector
from slmlp.methods.base import Facts, Method, Progress, Queue, ema_copy, ema_update, encode
from slmlp.methods.losses import products, unit
from slmlp.runtime.distributed import gather


class TReX(Method):
    """Cosine softmax of all crops; class weights are learnt (t-ReX*) or made from a memory of an EMA model (t-ReX)."""

    cfg: config.TReX
    labels: Tensor

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.TReX) -> None:
        super().__init__(encoder, num_classes, cfg)
        self.projector, width = projector(encoder.dim, cfg.projector)
        for module in self.projector.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.projector:
            if isinstance(module, Residual):
                module.start_at_zero()
        self.num_classes = num_classes
        assert cfg.memory_size != "auto"  # resolved by ``fit``
        if not cfg.memory_size:
            self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(num_classes, width), std=0.02))
            return
        self.target = ema_copy(encoder, self.projector)
        self.target_views = 1
        self.memory = Queue(cfg.memory_size, width)
        self.memory.rows.normal_()
        self.register_buffer("labels", torch.randint(num_classes, (cfg.memory_size,)))

    @staticmethod
    def fit(cfg: config.TReX, facts: Facts) -> tuple[config.TReX, list[str]]:
        """Choose the size of the memory: the source's 8,192, or half the training images."""
        if cfg.memory_size != "auto":
            return cfg, []
        size = min(8192, max(1, facts.training_images // 2))
        note = f"memory of {size:,} embeddings, half the training images, in place of the source's 8,192"
        return dataclasses.replace(cfg, memory_size=size), [note] if size < 8192 else []

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return one loss on all crops with the image's label, and the accuracy on the global crop."""
        z = torch.cat([self.projector(h) for h in encode(self.encoder, views)])  # (VN, P)
        weights = self.prototypes() if self.cfg.memory_size else unit(self.weight)  # (C, P)
        logits = products(unit(z), weights) / self.cfg.temperature
        loss = F.cross_entropy(logits, labels.repeat(len(views)))
        if self.cfg.memory_size:
            with torch.no_grad():  # the global crop alone feeds the memory
                self.fresh = gather(self.target(views[0])), gather(labels)
        accuracy = (logits[: len(labels)].argmax(1) == labels).float().mean()
        return {"loss": loss, "embeddings": z[: len(labels)].detach(), "accuracy": accuracy}

    def prototypes(self) -> Tensor:
        """Return the unit sums (C, P) of each class's entries; a class that has none gets zeros."""
        rows = self.memory.rows
        return unit(rows.new_zeros(self.num_classes, rows.shape[1]).index_add(0, self.labels, rows))

    def after_step(self, progress: Progress) -> None:
        """Move the EMA model and write its embeddings over the oldest of the memory."""
        if self.cfg.memory_size:
            ema_update(self.target, (self.encoder, self.projector), self.cfg.ema_momentum)
            embeddings, labels = self.fresh
            self.labels[self.memory.push(embeddings)] = labels[-len(self.labels) :]

    @property
    def chance_loss(self) -> float | None:
        """Ln C, where class weights are learnt: prototypes of an untrained memory may stay near it longer."""
        return None if self.cfg.memory_size else math.log(self.num_classes)
