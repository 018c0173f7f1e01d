"""The two losses of a probe, computed a block at a time: one label per image, or several.

Letters: n images of a block, C classes, C' of them that are fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from slmlp.probes.images import Integers, Rows


class Loss(Protocol):
    """The interface of a loss to the solver; both methods work in place."""

    @property
    def present(self) -> Tensor:
        """Indices (C',) of the classes that are fitted."""
        ...

    @property
    def missing_bias(self) -> Tensor:
        """Biases (C,) that the other classes get, float64: the limit that a fit would run to."""
        ...

    @property
    def shared(self) -> bool:
        """Whether a shift of all of an image's logits changes nothing."""
        ...

    def probabilities(self, logits: Tensor, at: slice) -> Tensor:
        """Turn the logits (n, C') of the images ``at`` into probabilities; return the block's summed loss, float64."""
        ...

    def subtract_labels(self, p: Tensor, at: slice) -> None:
        """Turn the probabilities (n, C') into the gradient over the logits."""
        ...


@dataclass(frozen=True)
class Multinomial:
    """-log softmax at the label."""

    present: Tensor  # (C',)
    missing_bias: Tensor  # (C,)
    codes: Tensor  # (N, 1) position in ``present``
    shared: bool = True

    @classmethod
    def of(cls, rows: Rows, y: Integers, num_classes: int) -> Multinomial:
        """Take labels ``y`` (M,); a class without images has no finite bias and is not fitted."""
        labels = torch.as_tensor(np.asarray(y if rows.index is None else y[rows.index], dtype=np.int64))
        present, codes = torch.unique(labels, return_inverse=True)
        missing = torch.full((num_classes,), -float("inf"), dtype=torch.float64)
        return cls(present, missing, codes[:, None])

    def probabilities(self, logits: Tensor, at: slice) -> Tensor:
        logits -= logits.amax(1, keepdim=True)
        picked = logits.gather(1, self.codes[at])
        sums = logits.exp_().sum(1, keepdim=True)
        logits /= sums
        return (sums.log() - picked).sum(dtype=torch.float64)

    def subtract_labels(self, p: Tensor, at: slice) -> None:
        p.scatter_add_(1, self.codes[at], p.new_full((len(p), 1), -1.0))


@dataclass(frozen=True)
class Binary:
    """Binary cross-entropy summed over classes, each on its own."""

    present: Tensor  # (C',)
    missing_bias: Tensor  # (C,)
    on: Tensor  # (N, C'), bool
    shared: bool = False

    @classmethod
    def of(cls, rows: Rows, y: Integers, num_classes: int) -> Binary:
        """Take a 0/1 matrix ``y`` (M, C); a class that is always or never set has no finite bias and is not fitted."""
        on = torch.as_tensor(np.asarray(y if rows.index is None else y[rows.index], dtype=np.bool_))
        missing = torch.where(on.all(0), float("inf"), -float("inf")).double()
        present = torch.nonzero(on.any(0) & ~on.all(0))[:, 0]
        return cls(present, missing, on[:, present])

    def probabilities(self, logits: Tensor, at: slice) -> Tensor:
        loss = -torch.nn.functional.logsigmoid(torch.where(self.on[at], logits, -logits)).sum(dtype=torch.float64)
        logits.sigmoid_()
        return loss

    def subtract_labels(self, p: Tensor, at: slice) -> None:
        p -= self.on[at].to(p.dtype)
