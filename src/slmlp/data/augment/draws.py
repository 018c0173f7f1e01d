"""Draw what is random in a view: on the CPU, from a seed, so that it is the same on every device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.generic]
# Pixels (images * side * side) of a view that are made at a time: on a CPU ten images of 224 pixels, whose planes stay
# in its cache; elsewhere 334, which take at most 1.5 GB while they are made.
AT_A_TIME = {"cpu": 2**19}
ELSEWHERE = 2**24


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

    def below(self, p: float) -> npt.NDArray[np.bool_]:
        """Return whether each image is chosen, with probability ``p``, (images of the part,)."""
        return (self.rand() < p).numpy()

    def integers(self, high: int) -> Tensor:
        """Return integers from 0 to ``high`` - 1, (images of the part,)."""
        return torch.randint(high, (self.total,), generator=self.generator)[self.part]

    def orders(self, n: int) -> Tensor:
        """Return a random permutation of ``n`` for each image, (images of the part, n)."""
        return torch.rand(self.total, n, generator=self.generator)[self.part].argsort(dim=1)


@dataclass(frozen=True)
class Choices:
    """What is random in one view of N images: arrays on the host with a row for each, None for what the view has not.

    Everything whose shape depends on chance, as which images are blurred, is worked out from these arrays by NumPy:
    the device is never asked.
    """

    boxes: npt.NDArray[np.float32] | None = None  # (N, 4), see geometry; None: the images are cut already
    mirrored: npt.NDArray[np.bool_] | None = None  # (N,)
    policy: npt.NDArray[np.int64] | None = None  # (N, rounds), see policy
    magnitudes: npt.NDArray[np.float32] | None = None  # (N, rounds)
    jittered: npt.NDArray[np.bool_] | None = None
    changes: npt.NDArray[np.float32] | None = None  # (N, 4) of brightness, contrast, saturation, hue
    orders: npt.NDArray[np.int64] | None = None  # (N, 4), a permutation of the four changes
    grey: npt.NDArray[np.bool_] | None = None
    blurred: npt.NDArray[np.bool_] | None = None
    sigmas: npt.NDArray[np.float32] | None = None  # (N,), pixels
    solarised: npt.NDArray[np.bool_] | None = None
    erased: npt.NDArray[np.int64] | None = None  # (N, 4), top, left, bottom and right in pixels
    seeds: npt.NDArray[np.int64] | None = None  # of a user's transform

    def of(self, part: slice) -> Choices:
        """Return the choices for a part of the images."""
        rows = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Choices(**{name: values if values is None else values[part] for name, values in rows.items()})


def parts(images: int, side: int, device: torch.device) -> Iterator[slice]:
    """Yield the images that are made at a time, so that memory is bounded at any batch and side."""
    step = max(1, AT_A_TIME.get(device.type, ELSEWHERE) // side**2)
    return (slice(start, start + step) for start in range(0, images, step))
