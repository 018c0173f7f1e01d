"""Overrides of the preprocessing of an encoder that comes from elsewhere."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from slmlp.runtime.errors import SlmlpError

Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class PreprocessFlags:
    """Overrides of the encoder's own preprocessing; a setting that is not given stays as the encoder has it."""

    size: int | None = None
    """Side of the square that the encoder sees, in pixels; `side` then keeps its ratio to it, unless it is given."""
    side: int | None = None
    """Side of the square that it is cut from, in pixels: what the short side of an image is resized to."""
    mean: tuple[float, float, float] | None = None
    """Means of the channels, of values in 0 to 1."""
    std: tuple[float, float, float] | None = None
    """Standard deviations of the channels."""
    interpolation: Interpolation | None = None
    """Filter of the resize, with antialiasing."""
    squash: bool | None = None
    """Stretch the whole image to the square, instead of taking its centre."""

    def __post_init__(self) -> None:
        """Check that images can be made of this size."""
        for name in ("size", "side"):
            value = getattr(self, name)
            if value is not None and not 8 <= value <= 4096:
                raise SlmlpError(f"preprocessing: {name} must be 8 to 4096 pixels, found {value}")
        if self.side is not None and self.size is not None and self.side < self.size:
            raise SlmlpError(f"preprocessing: side must be at least size ({self.size}), found {self.side}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) != 3:
                raise SlmlpError(f"preprocessing: {name} must be three numbers, one a channel, found {len(values)}")
        if self.std is not None and not all(value > 0 for value in self.std):
            raise SlmlpError(f"preprocessing: std must be above 0, found {' '.join(map(str, self.std))}")
        if self.mean is not None and not all(-1 <= value <= 1 for value in self.mean):
            listed = " ".join(map(str, self.mean))
            raise SlmlpError(f"preprocessing: mean is of values in 0 to 1, found {listed}; divide by 255")

    def given(self) -> dict[str, Any]:
        """Return the settings that were given."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
