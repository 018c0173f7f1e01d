"""SupCon (Khosla et al. 2020, arXiv 2004.11362): views of one class attract, all others repel."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.encoders.projector import projector
from slmlp.methods.base import Method, encode
from slmlp.methods.losses import sup_con
from slmlp.runtime.distributed import gather


class SupCon(Method):
    """Supervised contrastive loss of the embeddings of two views, over the batch of all processes."""

    num_views = 2
    cfg: config.SupCon

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.SupCon) -> None:
        super().__init__(encoder, num_classes, cfg)
        self.projector, _ = projector(encoder.dim, cfg.projector)

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the loss over all views."""
        embeddings = [gather(self.projector(h)) for h in encode(self.encoder, views)]  # V of (N, P)
        loss = sup_con(embeddings, gather(labels), self.cfg.temperature, self.cfg.form)
        return {"loss": loss, "embeddings": embeddings[0].detach()}
