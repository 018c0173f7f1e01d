"""Preprocessing for evaluation: resize, crop and normalise as the encoder expects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from slmlp.data.augment import IMAGENET_MEAN, IMAGENET_STD, Triple, evaluation_side
from slmlp.data.decode import Resize


@dataclass(frozen=True)
class Preprocess:
    """Short side resized to ``side`` with antialiasing, centre ``size`` x ``size`` cut, channels normalised."""

    size: int  # pixels, of the square that the encoder sees
    side: int  # pixels, of the square it is cut from; not below ``size``
    mean: Triple = IMAGENET_MEAN  # of channels in [0, 1]
    std: Triple = IMAGENET_STD
    interpolation: str = "bicubic"  # or "bilinear"
    squash: bool = False  # the whole image is stretched to ``side`` x ``side``; else its centre square is taken

    @classmethod
    def ours(cls, size: int) -> Preprocess:
        """Return what encoders trained by slmlp are evaluated with."""
        return cls(size, evaluation_side(size))

    @classmethod
    def read(cls, name: str, mean: Triple, std: Triple) -> Preprocess | None:
        """Return the one whose ``id`` is ``name``, None where there is none; mean and deviation stand beside it.

        >>> first = Preprocess(96, 109, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), "bilinear")
        >>> Preprocess.read(first.id, first.mean, first.std) == first
        True
        """
        found = re.match(r"(square|squash)(\d+)(?:-([a-z]+))?-centre(\d+)-", name)
        if found is None:
            return None
        one = cls(int(found[4]), int(found[2]), mean, std, found[3] or "bicubic", found[1] == "squash")
        return one if one.id == name else None

    @property
    def resize(self) -> Resize:
        """How an image is resized before the centre crop."""
        return Resize(self.side, self.interpolation, self.squash)

    @property
    def id(self) -> str:
        """Return the name recorded with every number and used in cache keys."""
        name = ("squash" if self.squash else "square") + str(self.side)
        name += "" if self.interpolation == "bicubic" else f"-{self.interpolation}"
        imagenet = (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)
        norm = "imagenet" if imagenet else f"mean{_join(self.mean)}-std{_join(self.std)}"
        return f"{name}-centre{self.size}-{norm}"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32 (N, 3, size, size) of uint8 squares (N, side, side, 3)."""
        top = (pixels.shape[1] - self.size) // 2
        centre = pixels[:, top : top + self.size, top : top + self.size].permute(0, 3, 1, 2).float()
        mean = torch.tensor(self.mean, device=centre.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=centre.device).view(1, 3, 1, 1)
        return centre.div_(255).sub_(mean).div_(std)  # in place: a batch of these is a hundred megabytes and more


@dataclass(frozen=True)
class Origin:
    """Where an encoder and each value of its preprocessing came from."""

    source: str  # as the user typed it
    values: Mapping[str, str]  # field of ``Preprocess`` -> who says so
    identity: tuple[str, ...] = ()  # what its weights do not tell, and its hash must: a file's hash, a module's text


def _join(values: Triple) -> str:
    return ",".join(f"{value:g}" for value in values)
