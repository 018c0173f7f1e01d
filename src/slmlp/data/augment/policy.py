"""RandAugment and TrivialAugment, a few changes of a list for each image, and random erasing; in batch, on any device.

Each change equals torchvision's of the same name and magnitude on a float image (tested), which takes one magnitude for
a whole batch; magnitudes are those of torchvision's tables. Images are float (N, 3, H, W) in [0, 1]; what is random is
drawn before and comes as arrays of the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from slmlp.data.augment import colour
from slmlp.data.augment.draws import Array, Draws
from slmlp.runtime.transfer import on_device

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

LEVELS = 31  # magnitudes of each change, from none to the policy's largest
CHANGES = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
SIGNED = slice(1, 10)  # of both signs
ERASED, ERASED_RATIO, TRIES = (0.02, 0.33), (0.3, 3.3), 10  # share of the area, height over width


@dataclass(frozen=True)
class Policy:
    """How many changes an image gets, and how large each may be."""

    rounds: int  # changes of an image, one after the other
    level: int | None  # of 0 to 30, for all; None: drawn for each image
    shear: float  # pixels aside for each pixel along
    translate: tuple[float, float]  # share of the side, and pixels
    rotate: float  # degrees
    factor: float  # of brightness, saturation, contrast and sharpness, added to 1 or taken from it
    bits: int  # that posterising takes of 8

    def magnitudes(self, side: int) -> FloatArray:
        """Return the magnitude of each change at each level, (changes, levels)."""
        rise = np.linspace(0, 1, LEVELS, dtype=np.float32)
        shift = self.translate[0] * side + self.translate[1]
        largest = [0, self.shear, self.shear, shift, shift, self.rotate, *[self.factor] * 4]
        posterise = np.round(8 - np.arange(LEVELS, dtype=np.float32) / ((LEVELS - 1) / self.bits))
        nothing = 0 * rise
        return np.stack([*(np.float32(most) * rise for most in largest), posterise, 1 - rise, nothing, nothing])


def draw(policy: Policy, side: int, draws: Draws) -> dict[str, Array]:
    """Return the changes of each image and their magnitudes with signs, (N, rounds) each."""
    table, picked, sizes = policy.magnitudes(side), [], []
    for _ in range(policy.rounds):
        change = draws.integers(len(CHANGES)).numpy()
        level = draws.integers(LEVELS).numpy() if policy.level is None else policy.level
        negative = draws.below(0.5) & np.isin(change, np.arange(len(CHANGES))[SIGNED])
        picked.append(change)
        sizes.append(np.where(negative, -table[change, level], table[change, level]))
    return {"policy": np.stack(picked, 1), "magnitudes": np.stack(sizes, 1)}


def apply(x: Tensor, changes: IntArray, magnitudes: FloatArray) -> Tensor:
    """Make the changes (N, rounds) of each image with their magnitudes, in place."""
    for change, magnitude in zip(changes.T, magnitudes.T, strict=True):
        for names, made in FAMILIES.items():
            index = np.flatnonzero(np.isin(change, [CHANGES.index(name) for name in names]))
            if len(index):
                (at,) = on_device(x.device, index)
                x.index_copy_(0, at, made(x.index_select(0, at), change[index], magnitude[index]))
    return x


def warp(x: Tensor, change: IntArray, magnitude: FloatArray) -> Tensor:
    """Shear, shift or turn the images, bilinear; black where nothing was."""
    height, width = x.shape[2:]
    (matrices,) = on_device(x.device, _matrices(change, magnitude, height, width))
    rows, columns = (torch.arange(n, device=x.device) - (n - 1) / 2 for n in (height, width))  # from the centre
    across, along = columns.view(1, 1, -1), rows.view(1, -1, 1)
    (a, b, c), (d, e, f) = (row.unbind(1) for row in matrices.view(-1, 2, 3, 1, 1).unbind(1))
    where = torch.stack([(a * across + b * along + c) * 2 / width, (d * across + e * along + f) * 2 / height], dim=3)
    return F.grid_sample(x, where, mode="bilinear", padding_mode="zeros", align_corners=False)


def _matrices(change: IntArray, magnitude: FloatArray, height: int, width: int) -> FloatArray:
    """Return for each image where a pixel of the result comes from, (N, 2, 3), in pixels from the centre."""
    matrices = np.zeros((len(change), 2, 3), np.float32)
    for matrix, name, size in zip(matrices, (CHANGES[k] for k in change), magnitude.tolist(), strict=True):
        turn = math.radians(size) if name == "Rotate" else 0.0
        matrix[:] = [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0]]
        if name == "ShearX":  # about the upper left corner
            matrix[0, 1:] = size, size * height / 2
        elif name == "ShearY":
            matrix[1, ::2] = size, size * width / 2
        elif name.startswith("Translate"):
            matrix["XY".index(name[-1]), 2] = -int(size)  # whole pixels
    return matrices


def blend(x: Tensor, change: IntArray, magnitude: FloatArray) -> Tensor:
    """Change brightness, saturation or contrast."""
    which = np.select([change == CHANGES.index("Brightness"), change == CHANGES.index("Contrast")], [0, 1], 2)
    return colour.blended(x, which, 1 + magnitude)


def sharpen(x: Tensor, _: IntArray, magnitude: FloatArray) -> Tensor:
    """Go away from a smoothed image, or towards it; the border stays."""
    (weight,) = on_device(x.device, -magnitude[:, None, None, None])
    inner = x[:, :, 1:-1, 1:-1]
    smooth = (F.avg_pool2d(x, 3, stride=1) * 9 + 4 * inner) / 13  # a 3 x 3 window of ones, 5 in the middle
    inner.add_((smooth - inner) * weight)
    return x.clamp_(0, 1)


def posterise(x: Tensor, _: IntArray, magnitude: FloatArray) -> Tensor:
    """Keep the leading bits."""
    (levels,) = on_device(x.device, np.exp2(magnitude)[:, None, None, None])
    return torch.minimum((x * levels).floor_(), levels - 1).div_(levels)


def solarise(x: Tensor, _: IntArray, magnitude: FloatArray) -> Tensor:
    """Invert values from a threshold on."""
    (threshold,) = on_device(x.device, magnitude[:, None, None, None])
    return torch.where(x >= threshold, 1 - x, x)


def stretch(x: Tensor, *_: Any) -> Tensor:
    """Stretch each channel to 0 to 1; one of a single value stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    flat = low == high
    return ((x - torch.where(flat, 0, low)) / torch.where(flat, 1, high - low)).clamp_(0, 1)


def equalise(x: Tensor, *_: Any) -> Tensor:
    """Spread the histogram of each channel evenly."""
    from torchvision.transforms.v2 import functional  # takes half a second, which no other augmentation needs

    equal: Tensor = functional.equalize_image(x)
    return equal


FAMILIES: dict[tuple[str, ...], Callable[[Tensor, IntArray, FloatArray], Tensor]] = {
    ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"): warp,
    ("Brightness", "Color", "Contrast"): blend,
    ("Sharpness",): sharpen,
    ("Posterize",): posterise,
    ("Solarize",): solarise,
    ("AutoContrast",): stretch,
    ("Equalize",): equalise,
}


def draw_erased(p: float, side: int, draws: Draws) -> dict[str, Array]:
    """Return the rectangle (N, 4) that is erased: top, left, bottom and right in pixels; empty where none is.

    The first of ten draws that fits, else none (Zhong et al. 2020; torchvision's RandomErasing).
    """
    chosen, u, place = draws.below(p), draws.rand(TRIES, 2).numpy(), draws.rand(2).numpy()
    area = side**2 * (ERASED[0] + (ERASED[1] - ERASED[0]) * u[..., 0])
    low, high = np.log(np.array(ERASED_RATIO, np.float32))
    ratio = np.exp(low + (high - low) * u[..., 1])  # height over width
    sizes = np.round(np.sqrt(np.stack([area * ratio, area / ratio], 2)))  # (N, TRIES, 2)
    fits = (sizes < side).all(2)
    first = np.take_along_axis(sizes, fits.argmax(1)[:, None, None], 1)[:, 0]
    first *= (chosen & fits.any(1))[:, None]
    start = np.floor(place * (side - first + 1))
    return {"erased": np.concatenate([start, start + first], 1).astype(np.int64)}


def erase(x: Tensor, erased: IntArray) -> Tensor:
    """Set the rectangles (N, 4) of normalised images to zero, in place: the mean colour."""
    (edges,) = on_device(x.device, erased)
    top, left, bottom, right = edges.view(-1, 4, 1).unbind(1)
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape[2:])
    inside = ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None]
    return x.masked_fill_(inside[:, None], 0.0)
