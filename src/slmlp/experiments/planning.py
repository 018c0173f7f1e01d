"""What the plans of studies and suites share: how features are timed, and a plan in one line."""

from __future__ import annotations

import time
from typing import TypedDict

import numpy as np

from slmlp import config
from slmlp.data.cache import ImageCache
from slmlp.data.dataset import ImageSet
from slmlp.encoders import Encoder
from slmlp.encoders.forward import FloatArray, forward
from slmlp.runtime import device, files
from slmlp.runtime.progress import duration

MEASURED = 64  # images that features and probes are timed on
PARTS = (1, 8, MEASURED)  # the first is slow: it decodes, and libraries choose how to compute
ENOUGH = 1.0  # seconds after which a part is not followed by a larger one
MINUTE = 60.0  # seconds from which a plan is said before the work begins


def thinned(images: ImageSet, most: int = MEASURED) -> ImageSet:
    """Return so many images at even distances, or all where they are fewer."""
    return images.select(np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int)))


def readable(images: ImageSet) -> ImageSet:
    """Return the images that can be decoded."""
    good = np.ones(len(images), dtype=np.bool_)
    for at in range(len(images)):
        try:
            images.read(at)
        except (OSError, ValueError):
            good[at] = False
    return images.select(good)


class Speed(TypedDict):
    """How fast an encoder's features are computed, and where that was measured."""

    images_per_second: float
    measured_on: str


def features(
    encoder: Encoder, image_cache: ImageCache, few: ImageSet, extraction: config.Extraction
) -> tuple[FloatArray, Speed]:
    """Return the features (n, D) of some images at the encoder's output, and how fast that was."""
    compute = device.for_features(encoder, extraction.device, extraction.precision)
    rows = image_cache.rows(few)
    for count in PARTS:
        began = time.perf_counter()
        x = forward(encoder, image_cache, rows[:count], compute, ["output"], extraction.batch_size)["output"]
        took = time.perf_counter() - began
        if count > 1 and took > ENOUGH:
            break
    return x, {"images_per_second": len(x) / took, "measured_on": device.name(compute.device)}


def line(what: str, done: int, seconds: float, size: int) -> str:
    """Return a plan in one line: what there is to do, and how much of it is done, takes and will lie on the disk."""
    some = f", {done} of them done" if done else ""
    return f"{what}{some}, about {duration(seconds)} on this machine, {files.size(size)}"
