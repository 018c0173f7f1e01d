"""Exact logistic regression: standardise, then preconditioned L-BFGS (``lbfgs.py``), in bounded memory.

Letters: N images, D features, C classes. The objective, per image, is

    f(W, b) = 1/N sum_i loss(W s_i + b, y_i) + l2 / 2 * ||W||_F^2

with ``s`` the features standardised by the statistics of the same N images; the bias is not penalised. The loss is
-log softmax at the label, or, for labels that are a 0/1 matrix, the sum over classes of -log sigmoid where the label is
set and of -log (1 - sigmoid) where it is not: one logistic regression per class.

Why it is fast: preconditioned L-BFGS needs few passes over the data, and each image is read once for logits, loss and
gradient together, block by block, so that no matrix (N, C) exists. Products run in float32 as long as they can tell the
gradient from rounding, and in float64, from the images as they came, after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp import config
from slmlp.probes.images import NARROW, SKETCHED, Axes, Images, Integers, Moments, Rows, check_finite
from slmlp.probes.lbfgs import REMEMBERED, Curvature, iterate
from slmlp.probes.losses import Binary, Loss, Multinomial
from slmlp.runtime.errors import SlmlpError

FLOAT32_FLOOR = 1e-5  # largest gradient entry that float32 is asked for; below, it may stall
STALL = 50  # iterations without a smaller gradient after which float32 is left for float64


def check(rows: Rows, y: Integers, num_classes: int) -> None:
    """Check features (M, D) and labels (M,), or a 0/1 matrix (M, C); SlmlpError for what cannot be fitted."""
    x = rows.x
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y) or len(rows) == 0:
        raise SlmlpError(f"a probe needs features (N, D) and labels (N,), found shapes {x.shape} and {y.shape}")
    if not np.issubdtype(y.dtype, np.integer) and y.dtype != np.bool_:
        raise SlmlpError(f"labels must be whole numbers, the index of each image's class; found {y.dtype}")
    check_finite(rows)
    low, high = int(y.min()), int(y.max())
    if y.ndim == 1 and (low < 0 or high >= num_classes):
        raise SlmlpError(f"labels must be 0 to {num_classes - 1}, found {low} to {high}")
    if y.ndim == 2 and (low < 0 or high > 1 or y.shape[1] != num_classes):
        raise SlmlpError(
            f"labels of images with several must be a matrix of 0 and 1, a column for each of {num_classes} classes; "
            f"found {low} to {high} in {y.shape[1]} columns"
        )


class Design:
    """Training images of one fit; every l2 of a path shares it."""

    def __init__(
        self,
        x: npt.NDArray[np.floating],
        y: Integers,
        num_classes: int,
        *,
        rows: npt.NDArray[np.int64] | None = None,
        axes: Axes | None = None,
        memory_limit_gb: float = config.Probe.memory_limit_gb,
        beside: int = 0,
    ) -> None:
        """Take the images ``rows`` of ``x`` (M, D) with labels ``y`` (M,), or a 0/1 matrix (M, C).

        ``axes`` saves finding them where they serve. Of ``memory_limit_gb`` room is left for ``beside`` more images
        (those of validation).
        """
        self.rows = Rows(x, rows)
        check(self.rows, y, num_classes)
        self.n, self.num_classes = len(self.rows), num_classes
        self.loss: Loss = (Multinomial if y.ndim == 1 else Binary).of(self.rows, y, num_classes)
        need, image = requirement(self.rows.width, num_classes)
        spare = memory_limit_gb * 1e9 - need
        if spare < 0:
            raise SlmlpError(
                f"--probe.memory-limit-gb {memory_limit_gb:g} is too little for a probe of {self.rows.width} features "
                f"and {num_classes} classes: give at least {need / 1e9 + 0.005:.2f}"
            )
        self.hold = image * (self.n + beside) <= spare
        narrow = self.rows.width <= NARROW
        self.moments = Moments.of(self.rows, correlation=narrow and axes is None)
        if axes is None or not axes.serves(self.moments):
            if narrow and self.moments.correlation is None:
                self.moments = Moments.of(self.rows, correlation=True)
            axes = Axes.of(self.rows, self.moments)
        self.moments = self.moments.without_correlation()
        self.axes = axes

    @property
    def present(self) -> Tensor:
        """Class indices (C',) that are fitted: the others have no images (or, in a matrix, are always or never on)."""
        return self.loss.present

    @cached_property
    def single(self) -> Images:
        """The images in float32, held where memory allows."""
        return Images(self.rows, self.moments, torch.float32, hold=self.hold)

    @cached_property
    def double(self) -> Images:
        """The images in float64, made anew at every pass."""
        return Images(self.rows, self.moments, torch.float64, hold=False)

    def others(self, rows: npt.NDArray[np.int64]) -> Images:
        """Return other images of the same array under this design's statistics, in float32."""
        return Images(Rows(self.rows.x, rows), self.moments, torch.float32, hold=self.hold)

    def zeros(self) -> Tensor:
        """Return the start of a path, (C', D+1)."""
        return self.moments.mean.new_zeros(len(self.present), self.rows.width + 1)


def requirement(features: int, classes: int) -> tuple[int, int]:
    """Return the bytes of a fit that do not grow with the images, and those of holding one image.

    The first counts the correlations and eigenvectors with what LAPACK works in (6 matrices (D, D) in float64) or the
    images that leading axes are found from, the parameters (``REMEMBERED`` steps and gradient differences in float64
    beside those of the path in float32, and a dozen temporaries) and what is made of a block.
    """
    parameters = 8 * classes * (features + 1) * (3 * REMEMBERED + 12)
    finding = 8 * 6 * features**2 if features <= NARROW else 3 * 4 * SKETCHED * features
    return finding + parameters + (128 << 20), 4 * (features + 32)


@dataclass(frozen=True)
class Solution:
    """Where the minimiser stopped."""

    theta: Tensor  # (C', D+1), float64
    gradient_norm: float  # largest absolute entry
    iterations: int
    finished: bool  # whether the tolerance was reached


def minimise(
    design: Design,
    l2: float,
    *,
    tolerance: float,
    max_iterations: int,
    start: Tensor | None = None,
    exact: bool = True,
    curvature: Curvature | None = None,
) -> Solution:
    """Minimise the objective until no entry of its gradient exceeds ``tolerance``; ``start`` is (C', D+1).

    With ``exact`` the fit ends in float64; without it a gradient measured in float32 is enough, where float32 can reach
    it. ``curvature`` is what fits at other l2 have learned; this fit adds to it.
    """
    check_l2(l2)
    theta = design.zeros() if start is None else start
    target = max(tolerance, FLOAT32_FLOOR)
    curvature = Curvature() if curvature is None else curvature
    loss, axes = design.loss, design.axes
    theta, norm, used = iterate(design.single, loss, axes, theta.float(), l2, target, max_iterations, STALL, curvature)
    theta = axes.on_axes(theta.double())
    if exact or norm > tolerance:
        left = max_iterations - used
        theta, norm, more = iterate(design.double, loss, axes, theta, l2, tolerance, left, left, Curvature())
        used += more
    return Solution(theta, norm, used, norm <= tolerance)


def check_l2(l2: float) -> None:
    """Raise SlmlpError for a penalty that is not above 0."""
    if not l2 > 0:
        raise SlmlpError(f"a probe's l2 must be above 0 (--probe.l2), found {l2}")
