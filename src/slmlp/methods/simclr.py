"""SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an image attract, the rest of the batch repels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor

from slmlp import config
from slmlp.encoders import Encoder
from slmlp.encoders.projector import projector
from slmlp.methods.base import SMALL_ENCODER, Facts, Method, encode
from slmlp.methods.losses import nt_xent
from slmlp.runtime.distributed import gather


class SimCLR(Method):
    """NT-Xent of two views, over the batch of all processes."""

    num_views = 2
    cfg: config.SimCLR

    def __init__(self, encoder: Encoder, num_classes: int, cfg: config.SimCLR) -> None:
        super().__init__(encoder, num_classes, cfg)
        self.projector, _ = projector(encoder.dim, cfg.projector)

    @staticmethod
    def fit(cfg: config.SimCLR, facts: Facts) -> tuple[config.SimCLR, list[str]]:
        """Choose the temperature of the source's ImageNet or small-image runs by the width of the encoder."""
        if cfg.temperature != "auto":
            return cfg, []
        if facts.encoder_dim >= SMALL_ENCODER:
            return dataclasses.replace(cfg, temperature=0.1), []
        note = f"temperature 0.5, as in the source's small-image runs (appendix B.9): {facts.encoder_dim} channels"
        return dataclasses.replace(cfg, temperature=0.5), [note]

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the loss of two views."""
        assert self.cfg.temperature != "auto"  # resolved by ``fit``
        z1, z2 = (gather(self.projector(h)) for h in encode(self.encoder, views))  # (N, P) each
        return {"loss": nt_xent(z1, z2, self.cfg.temperature), "embeddings": z1.detach()}
