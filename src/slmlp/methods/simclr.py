"""SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an image attract, the rest of the batch repels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.encoders.projector import projector
from slmlp.methods.base import Method, encode
from slmlp.methods.losses import nt_xent
from slmlp.runtime.distributed import gather


class SimCLR(Method):
    """NT-Xent of two views, over the batch of all processes."""

    num_views = 2

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.SimCLR) -> None:
        super().__init__(encoder, num_classes, cfg)
        self.projector, _ = projector(encoder.dim, cfg.projector)
        assert cfg.temperature != "auto"  # resolved by ``fit``
        self.temperature = cfg.temperature

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the loss of two views."""
        z1, z2 = (gather(self.projector(h)) for h in encode(self.encoder, views))  # (N, P) each
        return {"loss": nt_xent(z1, z2, self.temperature), "embeddings": z1.detach()}
