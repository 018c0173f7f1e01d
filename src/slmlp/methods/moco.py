"""MoCo v1 and v2 (He et al. 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.encoders.projector import projector
from slmlp.methods.base import Facts, Method, Progress, Queue, ema_copy, ema_update
from slmlp.methods.losses import info_nce, unit
from slmlp.runtime.distributed import gather, shuffled
from slmlp.runtime.errors import SlmlpError


class MoCo(Method):
    """A query view against its key from an EMA encoder and a queue of earlier keys.

    BatchNorm lets an image recognise its key by the statistics they share (section 3.3 of v1), so keys are computed in
    another company than queries: shuffled across processes, or in shuffled parts of the batch on one.
    """

    num_views = 2
    gradient_views = 1
    target_views = 1
    sync_norms = False
    cfg: config.MoCo

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.MoCo) -> None:
        super().__init__(encoder, num_classes, cfg)
        self.projector, width = projector(encoder.dim, cfg.projector)
        self.target = ema_copy(encoder, self.projector)
        assert cfg.queue_size != "auto"  # resolved by ``fit``
        self.queue = Queue(cfg.queue_size, width)
        self.queue.rows.copy_(unit(torch.randn(cfg.queue_size, width)))

    @staticmethod
    def fit(cfg: config.MoCo, facts: Facts) -> tuple[config.MoCo, list[str]]:
        """Choose the queue size: the source's, or half the training images, in whole batches."""
        batch, notes = facts.batch_size, []
        affordable = max(batch, min(65536, facts.training_images // 2) // batch * batch)
        size = affordable if cfg.queue_size == "auto" else cfg.queue_size
        if cfg.queue_size == "auto" and size < 65536 // batch * batch:
            notes.append(f"queue of {size:,} keys, half the training images, in place of the source's 65,536")
        if size % batch:
            raise SlmlpError(
                f"queue_size {size} is not a multiple of the batch of {batch}; choose {max(1, size // batch) * batch}"
            )
        if size > facts.training_images:
            raise SlmlpError(
                f"queue_size {size} is more than the {facts.training_images} training images, so an image would meet "
                f"its own key as a negative; choose at most {facts.training_images // batch * batch}"
            )
        groups = cfg.bn_groups
        if batch // groups < 2:
            raise SlmlpError(f"bn_groups {groups} leaves fewer than 2 of {batch} images in a part; choose {batch // 2}")
        return dataclasses.replace(cfg, queue_size=size), notes

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return InfoNCE of the first view as query, the second as key."""
        q = self.projector(self.encoder(views[0]))  # (N, P)
        with torch.no_grad():
            k = unit(shuffled(self.target, views[1], self.cfg.bn_groups))  # (N, P)
        loss = info_nce(q, k, self.queue.rows, self.cfg.temperature)
        self.keys = gather(k)
        return {"loss": loss, "embeddings": q.detach()}

    def after_step(self, progress: Progress) -> None:
        """Move the key encoder and put the keys of the step into the queue, the oldest out."""
        ema_update(self.target, (self.encoder, self.projector), self.cfg.ema_momentum)
        self.queue.push(self.keys)
