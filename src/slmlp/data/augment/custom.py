"""A user's transform of one image, ``module:name``: tried before training begins, applied image by image."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.plain import short

TRIES = 8  # images of black and white squares that a transform is tried on
SQUARES = 8  # of them along a side
BELOW = -0.2  # no image in 0 to 1 falls below it, sharpened or resized with overshoot; normalised black squares do
ABOVE = 2.0  # nor rises above it


class Custom:
    """A transform from a uint8 tensor (3, H, W) to a view (3, size, size), uint8 or floating point.

    Views in 0 to 1, as torchvision's ``ToDtype(torch.float32, scale=True)`` leaves them, are to be normalised as
    evaluation does; a transform that normalises its floats itself is known by values below 0.
    """

    def __init__(self, name: str, size: int, side: int) -> None:
        """Load the transform and try it on images of ``side`` pixels.

        Raises:
            SlmlpError: it cannot be imported or called, or returns something else.
        """
        self.name, self.size, self.transform = name, size, _load(name)
        draws = torch.Generator().manual_seed(0)
        place = torch.arange(side) * SQUARES // side
        squares = torch.randint(0, 2, (TRIES, 3, SQUARES, SQUARES), generator=draws, dtype=torch.uint8) * 255
        try:
            views = self._made(squares[:, :, place][:, :, :, place], list(range(TRIES)))
        except SlmlpError:
            raise
        except Exception as error:  # a user's code may raise anything
            raise SlmlpError(
                f"--augment {name} fails ({type(error).__name__}: {short(error)}): it is called with one uint8 tensor "
                "(3, H, W) at a time"
            ) from error
        self.floats = views.is_floating_point()
        self.normalises = self.floats and bool((views < BELOW).any())
        if self.floats and not self.normalises and bool((views > ABOVE).any()):
            raise SlmlpError(
                f"--augment {name} returns floats up to {float(views.max()):g}, and those of an image are 0 to 1: make "
                "them by v2.ToDtype(torch.float32, scale=True), or return uint8"
            )

    @property
    def note(self) -> str:
        """What is done about normalisation."""
        if self.normalises:
            return f"augmentation {self.name} normalises its views itself; evaluation takes the encoder's mean and std"
        return f"augmentation {self.name} is normalised by the mean and std of the encoder, as evaluation does it"

    def __call__(self, pixels: Tensor, seeds: list[int]) -> Tensor:
        """Return views, float32 (N, 3, size, size), of uint8 images (N, S, S, 3), of which ``seeds`` decide chance.

        They are in 0 to 1, or as the transform normalises them.
        """
        x = self._made(pixels.permute(0, 3, 1, 2), seeds)
        return x.float() if self.floats else x.float() / 255

    def _made(self, images: Tensor, seeds: list[int]) -> Tensor:
        views: list[Tensor] = []
        with torch.random.fork_rng(devices=[]):
            for image, seed in zip(images, seeds, strict=True):
                torch.manual_seed(seed)
                views.append(self._checked(self.transform(image)))
        return torch.stack(views)

    def _checked(self, view: Any) -> Tensor:
        shape = (3, self.size, self.size)
        if isinstance(view, Tensor) and view.shape == shape and (view.is_floating_point() or view.dtype == torch.uint8):
            return view.as_subclass(Tensor)
        found = f"{view.dtype} {tuple(view.shape)}" if isinstance(view, Tensor) else type(view).__name__
        raise SlmlpError(
            f"--augment {self.name} must return a tensor of shape {shape}, uint8 or floating point, from a uint8 "
            f"tensor (3, H, W), found {found.removeprefix('torch.')}"
        )


def _load(name: str) -> Callable[[Tensor], Any]:
    module_name, _, attribute = name.partition(":")
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))  # as Python does for a script that stands here
    try:
        transform: Callable[[Tensor], Any] = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # an import runs a stranger's code
        raise SlmlpError(
            f"--augment {name} cannot be imported ({type(error).__name__}: {short(error)}); expected `module:name` of "
            "a torchvision v2 transform that Python finds from here"
        ) from error
    finally:
        sys.path[:] = before
    if not callable(transform):
        raise SlmlpError(f"--augment {name} is a {type(transform).__name__}, expected a callable transform")
    return transform
