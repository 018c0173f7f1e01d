"""SwAV (Caron et al. 2020, arXiv 2006.09882): each crop predicts the cluster codes of another view."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.encoders.projector import projector
from slmlp.methods.base import Facts, Method, Progress, Queue, encode
from slmlp.methods.losses import products, sinkhorn, soft_cross_entropy, unit
from slmlp.runtime.distributed import gather
from slmlp.runtime.errors import SlmlpError


class SwAV(Method):
    """Codes of the two views by optimal transport over the batch (and a queue), predicted from every other crop."""

    num_views = 2
    cfg: config.SwAV
    step_prototypes: Tensor

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.SwAV) -> None:
        super().__init__(encoder, num_classes, cfg)
        self.projector, width = projector(encoder.dim, cfg.projector)
        assert cfg.prototypes != "auto"
        assert cfg.queue_size != "auto"  # resolved by ``fit``
        self.prototypes = nn.Parameter(unit(torch.randn(cfg.prototypes, width)))  # (K, P)
        self.queues = nn.ModuleList()
        if cfg.queue_size:
            self.queues.extend(Queue(cfg.queue_size, width) for _ in range(self.num_views))
        self.frozen, self.queueing = cfg.freeze_epochs > 0, cfg.queue_start == 0

    @staticmethod
    def fit(cfg: config.SwAV, facts: Facts) -> tuple[config.SwAV, list[str]]:
        """Choose the number of prototypes and the queue size by the number of images and the batch."""
        notes, batch = [], facts.batch_size
        affordable = max(2, min(3000, facts.training_images // 10))
        prototypes = affordable if cfg.prototypes == "auto" else cfg.prototypes
        if cfg.prototypes == "auto" and prototypes < 3000:
            notes.append(f"{prototypes:,} prototypes, a tenth of the training images, in place of the source's 3,000")
        useful = min(15, max(1, facts.training_images // batch // 2)) * batch if batch < prototypes else 0
        size = useful if cfg.queue_size == "auto" else cfg.queue_size
        if cfg.queue_size == "auto" and size:
            notes.append(f"queue of {size:,} embeddings: the batch of {batch} has fewer than the prototypes")
        if size % batch:
            raise SlmlpError(
                f"queue_size {size} is not a multiple of the batch of {batch}; "
                f"choose {max(1, size // batch) * batch}, or 0 for none"
            )
        return dataclasses.replace(cfg, prototypes=prototypes, queue_size=size), notes

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the swapped prediction loss (section 3.1; multi-crop: section 3.2)."""
        cfg = self.cfg
        embeddings = [unit(gather(self.projector(h))) for h in encode(self.encoder, views)]  # V of (N, P)
        prototypes: Tensor = self.prototypes
        if self.frozen:  # no gradient; weight decay moves them all the same, so they are put back after the step
            self.step_prototypes = prototypes.detach().clone()
            prototypes = self.step_prototypes + 0 * prototypes
        scores = [products(z, prototypes) for z in embeddings]  # V of (N, K)
        losses = []
        for view in range(self.num_views):
            codes = self.codes(view, scores[view].detach(), prototypes.detach())  # (N, K)
            others = [s for other, s in enumerate(scores) if other != view]
            losses += [soft_cross_entropy(s / cfg.temperature, codes) for s in others]
        self.fresh = [z.detach() for z in embeddings[: self.num_views]]
        return {"loss": torch.stack(losses).mean(), "embeddings": embeddings[0].detach()}

    def codes(self, view: int, scores: Tensor, prototypes: Tensor) -> Tensor:
        """Return the codes (N, K) of a view, with the queue's embeddings beside the batch once it is full and begun."""
        n = len(scores)
        if self.queues and self.queueing:
            queue = self.queues[view]
            assert isinstance(queue, Queue)
            if queue.full:
                scores = torch.cat([scores, products(queue.rows, prototypes)])
        return sinkhorn(scores, self.cfg.epsilon, self.cfg.sinkhorn_iterations)[:n]

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        """Bring prototypes back to length 1 (or to where they are frozen), fill the queues, and move the two clocks."""
        self.prototypes.copy_(self.step_prototypes if self.frozen else unit(self.prototypes))
        for queue, z in zip(self.queues, self.fresh, strict=False):
            assert isinstance(queue, Queue)
            queue.push(z)
        self.frozen = progress.epochs < self.cfg.freeze_epochs
        self.queueing = progress.share >= self.cfg.queue_start

    def get_extra_state(self) -> Tensor:
        """Return the two clocks, which are part of the state."""
        return torch.tensor([self.frozen, self.queueing])

    def set_extra_state(self, state: Tensor) -> None:
        """Take the two clocks of a state."""
        self.frozen, self.queueing = state.tolist()
