"""Draw random numbers per image that do not depend on the number of processes."""

from __future__ import annotations

import torch
from torch import Tensor


class Draws:
    """Random numbers for ``total`` images, one row each, of which the rows ``part`` are returned.

    An image gets the same numbers for any number of processes that share the batch.
    """

    def __init__(self, generator: torch.Generator, total: int, part: slice = slice(None)) -> None:
        self.generator, self.total, self.part = generator, total, part

    def __len__(self) -> int:
        """Return the number of images in the part."""
        return len(range(self.total)[self.part])

    def rand(self, *shape: int) -> Tensor:
        """Return numbers uniform in 0 to 1, ``(images of the part, *shape)``."""
        return torch.rand(self.total, *shape, generator=self.generator)[self.part]

    def integers(self, high: int) -> Tensor:
        """Return integers from 0 to ``high`` - 1, (images of the part,)."""
        return torch.randint(high, (self.total,), generator=self.generator)[self.part]

    def orders(self, n: int) -> Tensor:
        """Return a random permutation of ``n`` for each image, (images of the part, n)."""
        return torch.rand(self.total, n, generator=self.generator)[self.part].argsort(dim=1)
