"""MoCo v1 and v2 (He et al. 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.encoders.projector import projector
from slmlp.methods.base import Method, Progress, Queue, ema_copy, ema_update
from slmlp.methods.losses import info_nce, unit
from slmlp.runtime.distributed import gather, shuffled


class MoCo(Method):
    """A query view against its key from an EMA encoder and a queue of earlier keys.

    BatchNorm lets an image recognise its key by the statistics they share (section 3.3 of v1), so keys are computed in
    another company than queries: shuffled across processes, or in shuffled parts of the batch on one.
    """

    num_views = 2
    gradient_views = 1
    target_views = 1
    sync_norms = False

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.MoCo) -> None:
        super().__init__(encoder, num_classes, cfg)
        self.projector, width = projector(encoder.dim, cfg.projector)
        self.target = ema_copy(encoder, self.projector)
        assert cfg.queue_size != "auto"  # resolved by ``fit``
        self.queue = Queue(cfg.queue_size, width)
        self.queue.rows.copy_(unit(torch.randn(cfg.queue_size, width)))
        self.cfg = cfg

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
