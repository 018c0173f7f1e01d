"""Features: an encoder applied to images, once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Features:
    """Features of N images: what probes and measures read, and all that they read."""

    x: npt.NDArray[np.float32]  # (N, D)
    y: npt.NDArray[np.int64]  # (N,) index into classes
    classes: tuple[str, ...]
    ids: npt.NDArray[np.str_]  # (N,)
    units: npt.NDArray[np.str_]  # (N,)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.y)
