"""Augment batches of images for training, and normalise them; sizes of training and evaluation."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp.data.augment import colour, geometry
from slmlp.data.augment.draws import Draws
from slmlp.data.augment.recipes import Recipe, named
from slmlp.runtime.errors import SlmlpError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def views(
    name: str, size: int, num_views: int = 1, local_crops: int = 0, local_size: int | None = None
) -> list[Augment]:
    """Return the augmentation of each view: ``num_views`` at ``size``, then ``local_crops`` at ``local_size``.

    See ``local_side`` for the default of ``local_size``.
    """
    if ":" in name:
        if local_crops:
            raise SlmlpError(f"--augment {name} makes no local crops; leave --local-crops 0, or name an augmentation")
        return [Augment(name, size)] * num_views
    recipes = named(name)
    small = local_side(size, local_size)
    return [Augment(name, size, recipes.of(view)) for view in range(num_views)] + [
        Augment(name, small, recipes.crop)
    ] * local_crops


def local_side(size: int, local_size: int | None = None) -> int:
    """Return the side of local crops: as given, else ``size`` * 96 / 224 in steps of 8 pixels (SwAV, t-ReX)."""
    return local_size or max(8, round(size * 96 / 224 / 8) * 8)


class Augment:
    """One recipe at one image size: uint8 images (N, S, S, 3) to float views (N, 3, size, size).

    All random numbers come from ``draws``, for a whole batch at a time and always equally many, so a batch can be
    reproduced from its seed.
    """

    def __init__(self, name: str, size: int, recipe: Recipe | None = None) -> None:
        self.name, self.size = name, size
        self.custom: Callable[[Tensor], Tensor] | None = None
        self.recipe = recipe or Recipe(flip=0.0)
        if ":" in name:
            self.custom = _load_transform(name)
        elif recipe is None:
            self.recipe = named(name).of(0)

    def __call__(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Return normalised views, float32 (N, 3, size, size), of uint8 images (N, S, S, 3)."""
        if self.custom is not None:
            return self._per_sample(pixels, draws)
        boxes = geometry.draw_boxes(self.recipe, draws)
        flips = draws.rand() < self.recipe.flip
        x = geometry.crop(pixels, boxes, flips, self.size)
        return normalise(self.colour(x, draws))

    @property
    def crops_originals(self) -> bool:
        """Whether views are cut from the images' own resolution when they are streamed."""
        return self.recipe.scale is not None

    def from_originals(self, images: Sequence[npt.NDArray[np.uint8]], draws: Draws) -> Tensor:
        """Return views as ``__call__`` does, cut with antialiasing from images (H, W, 3) of any size."""
        aspect = torch.tensor([image.shape[1] / image.shape[0] for image in images])
        boxes = geometry.draw_boxes(self.recipe, draws, aspect)
        flips = draws.rand() < self.recipe.flip
        views = [
            geometry.crop_original(image, box, bool(flip), self.size)
            for image, box, flip in zip(images, boxes.tolist(), flips, strict=True)
        ]
        x = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 255
        return normalise(self.colour(x, draws))

    def colour(self, x: Tensor, draws: Draws) -> Tensor:
        """Return images (N, 3, H, W) in [0, 1] with the recipe's colour changes and blur."""
        recipe = self.recipe
        if recipe.jitter is not None:
            x = colour.jitter(x, recipe.jitter, recipe.jitter_p, draws)
        if recipe.grey_p:
            x = colour.grey(x, draws.rand() < recipe.grey_p)
        low, high = (s * self.size / 224 for s in recipe.blur_sigma)
        # a blur below half a pixel is negligible beside the crop's interpolation
        if recipe.blur_p and high >= 0.5:
            x = colour.blur(x, (low, high), recipe.blur_p, draws)
        if recipe.solarise_p:
            x = colour.solarise(x, draws.rand() < recipe.solarise_p)
        return x

    def _per_sample(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Apply a user's torchvision transform to each image, with torch's global seed set from ``draws``."""
        assert self.custom is not None
        views = []
        with torch.random.fork_rng(devices=[]):
            for image, seed in zip(pixels, draws.integers(2**62).tolist(), strict=True):
                torch.manual_seed(seed)
                views.append(self.custom(image.permute(2, 0, 1)))
        for view in views[:1]:
            if not isinstance(view, Tensor) or view.shape != (3, self.size, self.size):
                raise SlmlpError(
                    f"--augment {self.name} must return a tensor of shape (3, {self.size}, {self.size}) from a uint8 "
                    f"tensor (3, H, W), found {tuple(view.shape) if isinstance(view, Tensor) else type(view).__name__}"
                )
        x = torch.stack(views)
        return x if x.is_floating_point() else normalise(x.float() / 255)


def normalise(x: Tensor) -> Tensor:
    """Return images in [0, 1] with ImageNet's channel means subtracted and divided by its deviations."""
    mean = x.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = x.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (x - mean) / std


def evaluation_side(size: int) -> int:
    """Return the short side an image is resized to before the centre crop: the whole image at 64 pixels and less,
    else the usual 256 for 224 (He et al. 2016).
    """
    return size if size <= 64 else round(size / 0.875)


def training_side(size: int) -> int:
    """Return the side at which images are cached for training: a quarter more than the view.

    A random resized crop of scale 0.2 to 1 then maps about one cached pixel to one of its own, so bilinear sampling
    hardly aliases or blurs.
    """
    return round(size * 1.25)


def _load_transform(name: str) -> Callable[[Tensor], Tensor]:
    module_name, _, attribute = name.partition(":")
    try:
        transform = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise SlmlpError(
            f"--augment {name}: {error}; expected `module:name` of a torchvision v2 transform that Python can import"
        ) from error
    if not callable(transform):
        raise SlmlpError(f"--augment {name} is a {type(transform).__name__}, expected a callable transform")
    return transform  # type: ignore[no-any-return]
