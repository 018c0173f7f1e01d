"""Compare the features of an export, loaded by the other tool, with those of the encoder, on real images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slmlp import config, data
from slmlp.data.readers import read_resized
from slmlp.encoders import Encoder
from slmlp.runtime.errors import SlmlpError

TOLERANCE = 1e-4  # largest difference over the largest value; float32 sums in another order stay near 1e-6


@dataclass(frozen=True)
class Difference:
    """How far one output of an export is from the encoder's."""

    output: str
    shape: tuple[int, ...]
    largest: float  # absolute
    relative: float  # to the largest absolute value of the encoder's


def real_images(encoder: Encoder, source: str, count: int) -> tuple[Tensor, str]:
    """Return ``count`` images spread over a data set, prepared for the encoder, (N, 3, S, S), and the data's name."""
    if count < 2:
        raise SlmlpError(f"--images must be at least 2, since equal outputs of one image prove little; found {count}")
    images = data.load(source, config.DataOptions())
    if len(images) < 2:
        raise SlmlpError(f"--data {source} has {len(images)} images; at least 2 are needed to compare features on")
    rows = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).astype(int))
    try:
        squares = np.stack([read_resized(images, int(row), encoder.preprocess.resize) for row in rows])
    except (OSError, ValueError) as error:
        raise SlmlpError(f"--data {source}: an image cannot be read ({error}); choose other images") from error
    return encoder.preprocess(torch.from_numpy(squares)).contiguous(), images.name


def compare(pairs: Mapping[str, tuple[Tensor, Tensor]], target: str, tolerance: float = TOLERANCE) -> list[Difference]:
    """Return the difference of each output.

    Raises:
        SlmlpError: an output has another shape, is not finite, is the same for every image (so the comparison proves
            nothing), or differs by more than the tolerance.
    """
    rows = []
    for name, (expected, actual) in pairs.items():
        a, b = expected.double(), actual.double()
        if a.shape != b.shape:
            raise SlmlpError(
                f"{target}: {name} came back as {tuple(b.shape)}, expected {tuple(a.shape)}; nothing was written"
            )
        if not bool(torch.isfinite(a).all()) or not bool(torch.isfinite(b).all()):
            raise SlmlpError(
                f"{target}: {name} are not finite on real images and cannot be compared; nothing was written"
            )
        scale = float(a.abs().max())
        if float((a - a[:1]).abs().max()) <= 1e-6 * max(scale, math.ulp(0.0)):
            raise SlmlpError(
                f"{target}: the encoder's {name} are the same for all images, so that equal ones prove nothing; was it "
                "trained? nothing was written"
            )
        largest = float((a - b).abs().max())
        rows.append(Difference(name, tuple(a.shape), largest, largest / scale))
        if largest > tolerance * scale:
            raise SlmlpError(
                f"{target}: {name} differ from the encoder's by {largest:.3g} ({largest / scale:.3g} of the largest "
                f"value, at most {tolerance:g} is allowed): the network that was loaded is another one; nothing was "
                "written"
            )
    return rows
