"""Augment batches of images for training, and normalise them; sizes of training and evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp.data.augment import colour, geometry, policy
from slmlp.data.augment.custom import Custom
from slmlp.data.augment.draws import Choices, Draws, parts
from slmlp.data.augment.recipes import Recipe, named
from slmlp.runtime.errors import SlmlpError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Triple = tuple[float, float, float]
Channels = tuple[Triple, Triple]  # means and deviations, of values in 0 to 1
IMAGENET: Channels = (IMAGENET_MEAN, IMAGENET_STD)


def views(
    name: str,
    size: int,
    num_views: int = 1,
    local_crops: int = 0,
    local_size: int | None = None,
    channels: Channels = IMAGENET,
) -> list[Augment]:
    """Return the augmentation of each view: ``num_views`` at ``size``, then ``local_crops`` at ``local_size``.

    See ``local_side`` for the default of ``local_size``. ``channels`` are means and deviations to normalise with.
    """
    if ":" in name:
        if local_crops:
            raise SlmlpError(f"--augment {name} makes no local crops; leave --local-crops 0, or name an augmentation")
        return [Augment(name, size, channels=channels)] * num_views
    recipes = named(name)
    small = local_side(size, local_size)
    return [Augment(name, size, recipes.of(view), channels) for view in range(num_views)] + [
        Augment(name, small, recipes.crop, channels)
    ] * local_crops


def local_side(size: int, local_size: int | None = None) -> int:
    """Return the side of local crops: as given, else ``size`` * 96 / 224 in steps of 8 pixels (SwAV, t-ReX)."""
    return local_size or max(8, round(size * 96 / 224 / 8) * 8)


class Augment:
    """One recipe at one image size: uint8 images (N, S, S, 3) to float views (N, 3, size, size).

    ``draw`` makes all that is random, on the CPU, for a whole batch at a time and always equally many numbers, so that
    a batch can be reproduced from its seed. ``apply`` makes the views on the images' device and never waits for it.
    """

    def __init__(self, name: str, size: int, recipe: Recipe | None = None, channels: Channels = IMAGENET) -> None:
        self.name, self.size, self.channels = name, size, channels
        self.custom = Custom(name, size, training_side(size)) if ":" in name else None
        self.recipe = recipe or (Recipe(flip=0.0) if self.custom else named(name).of(0))

    def __call__(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Return normalised views, float32 (N, 3, size, size), of uint8 images (N, S, S, 3)."""
        return self.apply(pixels, self.draw(draws))

    def draw(self, draws: Draws, aspect: Tensor | float = 1.0) -> Choices:
        """Return what is random in the view of each image; ``aspect`` is the images' width / height, (N,) or one."""
        if self.custom is not None:
            return Choices(seeds=draws.integers(2**62).numpy())
        recipe = self.recipe
        boxes = geometry.draw_boxes(recipe, draws, aspect).numpy()
        chosen: dict[str, Any] = {"boxes": boxes, "mirrored": draws.below(recipe.flip)}
        if recipe.policy is not None:
            chosen |= policy.draw(recipe.policy, self.size, draws)
        if recipe.jitter is not None:
            chosen |= colour.draw_jitter(recipe.jitter, recipe.jitter_p, draws)
        if recipe.grey_p:
            chosen["grey"] = draws.below(recipe.grey_p)
        # a blur below half a pixel is negligible beside the crop's interpolation
        if recipe.blur_p and self.blur_sigma[1] >= 0.5:
            chosen |= colour.draw_blur(self.blur_sigma, recipe.blur_p, draws)
        if recipe.solarise_p:
            chosen["solarised"] = draws.below(recipe.solarise_p)
        if recipe.erase_p:
            chosen |= policy.draw_erased(recipe.erase_p, self.size, draws)
        return Choices(**chosen)

    @property
    def blur_sigma(self) -> tuple[float, float]:
        """The least and the largest sigma of the blur, in pixels of the view."""
        low, high = self.recipe.blur_sigma
        return low * self.size / 224, high * self.size / 224

    @property
    def crops_originals(self) -> bool:
        """Whether views are cut from the images' own resolution when they are streamed."""
        return self.recipe.scale is not None

    def cut(self, images: Sequence[npt.NDArray[np.uint8]], draws: Draws) -> tuple[Tensor, Choices]:
        """Return crops, uint8 (N, size, size, 3), with antialiasing from images (H, W, 3) of any size.

        With them come the choices that are left: ``apply`` makes the views of both.
        """
        choices = self.draw(draws, torch.tensor([image.shape[1] / image.shape[0] for image in images]))
        assert choices.boxes is not None
        assert choices.mirrored is not None
        crops = [
            geometry.crop_original(image, box, mirror, self.size)
            for image, box, mirror in zip(images, choices.boxes.tolist(), choices.mirrored.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(crops)), dataclasses.replace(choices, boxes=None, mirrored=None)

    def apply(self, images: Tensor, choices: Choices) -> Tensor:
        """Return normalised views, float32 (N, 3, size, size), on the device of uint8 images (N, S, S, 3).

        A user's transform takes images on the CPU alone.
        """
        if self.custom is not None:
            assert choices.seeds is not None
            views = self.custom(images, choices.seeds.tolist())
            return views if self.custom.normalises else normalise(views, self.channels)
        views = torch.empty((len(images), 3, self.size, self.size), device=images.device)
        for part in parts(len(images), self.size, images.device):
            drawn = choices.of(part)
            normalise(self._coloured(images[part], drawn), self.channels, out=views[part])
            if drawn.erased is not None:
                policy.erase(views[part], drawn.erased)
        return views

    def _coloured(self, images: Tensor, choices: Choices) -> Tensor:
        """Return views (N, 3, size, size) in [0, 1]."""
        if choices.boxes is None or choices.mirrored is None:
            x = geometry.to_floats(images).contiguous()
        else:
            x = geometry.crop(images, choices.boxes, choices.mirrored, self.size)
        if choices.policy is not None and choices.magnitudes is not None:
            x = policy.apply(x, choices.policy, choices.magnitudes)
        if choices.jittered is not None and choices.changes is not None and choices.orders is not None:
            x = colour.jitter(x, choices.jittered, choices.changes, choices.orders)
        if choices.grey is not None:
            x = colour.grey(x, choices.grey)
        if choices.blurred is not None and choices.sigmas is not None:
            x = colour.blur(x, choices.blurred, choices.sigmas, self.blur_sigma[1])
        if choices.solarised is not None:
            x = colour.solarise(x, choices.solarised)
        return x


def normalise(x: Tensor, channels: Channels = IMAGENET, out: Tensor | None = None) -> Tensor:
    """Return images (N, 3, H, W) in [0, 1] with the channels' means subtracted and divided by their deviations.

    The result is written to ``out`` if that is given. Constants are plain numbers: a tensor of them would have to be
    copied to the device, for which the host waits.
    """
    out = torch.empty_like(x) if out is None else out
    for channel, (mean, std) in enumerate(zip(*channels, strict=True)):
        torch.sub(x[:, channel], mean, out=out[:, channel]).div_(std)
    return out


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
