"""Collapse monitor: warns when the embeddings of all images have become the same."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from slmlp.probes.measures.collapse import effective_rank

EVERY = 50  # steps between two measurements
PATIENCE = 3  # collapsed measurements in a row before the warning
LEAST_STD, LEAST_RANK = 0.05, 1.5


def spread(embeddings: Tensor) -> dict[str, float]:
    """Return how far embeddings (N, P) are spread, as unit vectors.

    ``embedding_std`` is the mean over channels of the standard deviation times sqrt(P): 1 for directions that are
    uniform on the sphere, 0 for a single point (Chen and He, "Exploring Simple Siamese Representation Learning" 2021,
    figure 2, shows it over sqrt(P)). ``effective_rank`` is the exponential of the entropy of the singular values.
    """
    z = F.normalize(embeddings.detach().float(), dim=1).cpu()
    std = float(z.std(dim=0, correction=0).mean()) * math.sqrt(z.shape[1])
    rank = effective_rank(z.numpy())
    return {"embedding_std": std, "effective_rank": rank if math.isfinite(rank) else 0.0}


class CollapseMonitor:
    """Counts measurements of embeddings in one point or on one line, and returns one warning."""

    def __init__(self) -> None:
        self.collapsed, self.warned = 0, False

    def update(self, row: dict[str, float]) -> str | None:
        """Return the warning when the last ``PATIENCE`` measurements were all collapsed; None otherwise, and later."""
        if "embedding_std" not in row:
            return None
        collapsed = row["embedding_std"] < LEAST_STD or row["effective_rank"] < LEAST_RANK
        self.collapsed = self.collapsed + 1 if collapsed else 0
        if self.collapsed < PATIENCE or self.warned:
            return None
        self.warned = True
        return (
            f"the embeddings have collapsed by step {int(row['step'])}: their standard deviation is "
            f"{row['embedding_std']:.3f} of that of spread vectors, their effective rank {row['effective_rank']:.1f}, "
            "so the encoder no longer tells images apart. Usual causes: too high a --base-lr; a batch too small for "
            "BatchNorm or for negatives; BYOL without predictor or with too low a momentum; SwAV with too high an "
            "epsilon or too few images for its prototypes; too high a temperature. Training goes on"
        )
