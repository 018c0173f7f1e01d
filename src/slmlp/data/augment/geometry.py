"""Crop, shift and flip a batch at random, in one resampling.

Letters: N images, S stored side, H = W the view's side. A box is (top, left, height, width) in shares of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from slmlp.data.augment.draws import Draws
from slmlp.data.augment.recipes import Recipe
from slmlp.runtime.transfer import on_device

RATIO = (3 / 4, 4 / 3)  # width over height, as in torchvision's RandomResizedCrop
TRIES = 10


def draw_boxes(recipe: Recipe, draws: Draws, aspect: Tensor | float = 1.0) -> Tensor:
    """Return crop boxes (N, 4) of images of aspect ratio ``aspect`` (width / height), which no draw depends on."""
    if recipe.scale is not None:
        return resized_crops(recipe.scale, draws, aspect)
    offsets = (draws.rand(2) * 2 - 1) * recipe.shift
    return torch.cat([offsets, torch.ones(len(draws), 2)], dim=1)


def resized_crops(scale: tuple[float, float], draws: Draws, aspect: Tensor | float = 1.0) -> Tensor:
    """Return boxes (N, 4) of Inception's random resized crop.

    Area uniform in ``scale``, aspect ratio log-uniform in 3/4 to 4/3; the first of ten draws that fits, else the whole
    image. ``aspect`` is the images' width / height, (N,) or one number.
    """
    shape = torch.as_tensor(aspect, dtype=torch.float32).expand(len(draws)).unsqueeze(1)  # (N, 1)
    u = draws.rand(TRIES, 2)
    place = draws.rand(2)
    area = scale[0] + (scale[1] - scale[0]) * u[..., 0]
    log_low, log_high = math.log(RATIO[0]), math.log(RATIO[1])
    ratio = torch.exp(log_low + (log_high - log_low) * u[..., 1])
    width, height = torch.sqrt(area * ratio / shape), torch.sqrt(area / ratio * shape)  # (N, TRIES), shares
    fits = (width <= 1) & (height <= 1)
    first = fits.float().argmax(dim=1, keepdim=True)
    any_fits = fits.any(dim=1)
    width = torch.where(any_fits, width.gather(1, first).squeeze(1), 1.0)
    height = torch.where(any_fits, height.gather(1, first).squeeze(1), 1.0)
    top, left = place[:, 0] * (1 - height), place[:, 1] * (1 - width)
    return torch.stack([top, left, height, width], dim=1)


def crop(pixels: Tensor, boxes: npt.NDArray[np.float32], mirrored: npt.NDArray[np.bool_], size: int) -> Tensor:
    """Crop the boxes from uint8 images (N, S, S, 3), bilinear; return float (N, 3, size, size) in [0, 1].

    ``mirrored`` (N,) selects the images to mirror. Beyond the border an image is reflected.
    """
    x = to_floats(pixels)
    signs = np.where(mirrored, np.float32(-1), np.float32(1))
    box, sign = on_device(x.device, boxes, signs[:, None])
    top, left, height, width = box.unsqueeze(2).unbind(1)  # (N, 1) each
    # pixel centres of the view on the -1..1 axis, and where they lie in the image
    axis = (torch.arange(size, device=x.device) * 2 + 1) / size - 1
    across, down = axis * (width * sign) + (2 * left + width - 1), axis * height + (2 * top + height - 1)  # (N, size)
    grid = torch.stack((across.unsqueeze(1).expand(-1, size, -1), down.unsqueeze(2).expand(-1, -1, size)), dim=3)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False).clamp_(0, 1)


def to_floats(pixels: Tensor) -> Tensor:
    """Return uint8 images (N, H, W, 3) as float (N, 3, H, W) in [0, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div_(255)


def crop_original(image: npt.NDArray[np.uint8], box: Sequence[float], flip: bool, size: int) -> npt.NDArray[np.uint8]:
    """Return the box of one image (H, W, 3) as (size, size, 3), resized with antialiasing."""
    height, width = image.shape[:2]
    top, left, tall, wide = box
    region = (left * width, top * height, min(left + wide, 1.0) * width, min(top + tall, 1.0) * height)
    view = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=region))
    return np.ascontiguousarray(view[:, ::-1] if flip else view)
