"""Images given as Python objects: paths, PIL images, arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from slmlp.data import decode
from slmlp.runtime.errors import SlmlpError


def as_rgb(image: Any) -> npt.NDArray[np.uint8]:
    """Return RGB uint8 (H, W, 3) of a path, a PIL image, or a uint8 array (H, W) or (H, W, 1, 3 or 4)."""
    if isinstance(image, (str, Path)):
        try:
            return decode.decode(Path(image).read_bytes())
        except (OSError, ValueError) as error:
            raise SlmlpError(f"cannot read {image} as an image: {error}") from error
    if isinstance(image, Image.Image):
        return decode.to_rgb(image)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise SlmlpError(f"an image array must be uint8 (H, W[, C]), found {array.dtype} {array.shape}")
    return decode.to_rgb(array)
