"""Exact logistic regression: standardise, rotate to principal axes, preconditioned L-BFGS in bounded memory.

Letters: N images, D features, R principal axes kept, C classes. The objective, per image, is

    f(W, b) = 1/N sum_i loss(W s_i + b, y_i) + strength / 2 * ||W||_F^2

with ``s`` the features standardised by the statistics of the same N images; the bias is not penalised. The loss is
-log softmax at the label, or, for labels that are a 0/1 matrix, the sum over classes of -log sigmoid of what is there
and of -log (1 - sigmoid) of what is not: a logistic regression a class.

Why it is fast. A rotation changes neither the loss nor ``||W||_F``, and on principal axes the Hessian block of class k
is close to the diagonal ``c_k * eigenvalues + strength``, with ``c_k`` the mean of ``p_k (1 - p_k)``. L-BFGS that
starts each of its directions from the inverse of that diagonal needs few passes over the data, and each is read once
for logits, loss and gradient together, block by block, so that no matrix (N, C) exists. Products run in float32 as long
as they can tell the gradient from rounding, and in float64, from the images as they came, after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp import config
from slmlp.errors import SlmlpError
from slmlp.probes.images import Basis, Images, Integers, Moments, Rows, check_finite
from slmlp.probes.losses import Binary, Loss, Multinomial

FLOAT32_FLOOR = 1e-5  # largest gradient entry that float32 is asked for; below, it may stall
SMALLEST_STEP = 1e-8  # of a line search
STALL = 50  # iterations without a smaller gradient after which float32 is left for float64
MEMORY = 20  # pairs of steps and gradient differences that L-BFGS remembers


def check(rows: Rows, y: Integers, num_classes: int) -> None:
    """Refuse features (M, D) and labels (M,), or a 0/1 matrix (M, C), that no fit can be made of."""
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
    """Training images of one fit; every strength of a path shares it."""

    def __init__(
        self,
        x: npt.NDArray[np.floating],
        y: Integers,
        num_classes: int,
        device: torch.device | str = "cpu",
        *,
        rows: npt.NDArray[np.int64] | None = None,
        basis: Basis | None = None,
        memory_limit_gb: float = config.Probe.memory_limit_gb,
        beside: int = 0,
    ) -> None:
        """Take the images ``rows`` of ``x`` (M, D) with labels ``y`` (M,), or a 0/1 matrix (M, C).

        ``basis`` saves finding the axes where it serves. Of ``memory_limit_gb`` room is left for ``beside`` more
        images (those of validation).
        """
        self.rows = Rows(x, rows, torch.device(device))
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
        self.moments = Moments.of(self.rows, correlation=basis is None and self.n >= self.rows.width)
        if basis is None or not basis.serves(self.moments):
            if self.n >= self.rows.width and self.moments.correlation is None:
                self.moments = Moments.of(self.rows, correlation=True)
            basis = Basis.of(self.rows, self.moments)
        self.moments = self.moments.without_correlation()
        self.basis = basis
        self.curvature = torch.cat([basis.curvature, basis.curvature.new_ones(1)])  # (R + 1,), last: bias

    @property
    def present(self) -> Tensor:
        """Class indices (C',) that are fitted: the others have no images (or, in a matrix, are always or never on)."""
        return self.loss.present

    @cached_property
    def single(self) -> Images:
        """The images in float32, held where memory allows."""
        return Images(self.rows, self.moments, self.basis, torch.float32, hold=self.hold)

    @cached_property
    def double(self) -> Images:
        """The images in float64, made anew at every pass."""
        return Images(self.rows, self.moments, self.basis, torch.float64, hold=False)

    def others(self, rows: npt.NDArray[np.int64]) -> Images:
        """Return other images of the same array under this design's statistics and axes, in float32."""
        return Images(
            Rows(self.rows.x, rows, self.rows.device), self.moments, self.basis, torch.float32, hold=self.hold
        )

    def unrotate(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Turn rotated parameters (C', R+1) into weights (C', D) on standardised features and biases (C',)."""
        axes = (self.single if theta.dtype == torch.float32 else self.double).axes
        return theta[:, :-1] @ axes.T, theta[:, -1]

    def largest(self, gradient: Tensor, target: float = float("inf")) -> float:
        """Return the largest absolute entry of a rotated gradient (C', R+1), seen on standardised features.

        Where it must be above ``target`` a bound that needs no rotation is returned instead.
        """
        bias = float(gradient[:, -1].abs().amax())
        bound = float(gradient[:, :-1].square().sum(1).amax().sqrt()) / float(np.sqrt(self.rows.width))
        if max(bound, bias) > target:
            return max(bound, bias)
        return max(float(self.unrotate(gradient)[0].abs().amax()), bias)

    def zeros(self) -> Tensor:
        """Return the start of a path, (C', R+1)."""
        return self.curvature.new_zeros(len(self.present), len(self.curvature))


def requirement(features: int, classes: int) -> tuple[int, int]:
    """Return the bytes of a fit that do not grow with the images, and those of holding one image.

    The first counts the eigenvectors with what LAPACK works in (4 matrices (D, D) in float64, and copies that stay),
    the parameters (``MEMORY`` steps and gradient differences in float64, and a dozen temporaries) and what is made of
    a block.
    """
    parameters = 8 * classes * (features + 1) * (2 * MEMORY + 12)
    return 8 * 6 * features**2 + parameters + (128 << 20), 4 * (features + 32)


@dataclass(frozen=True)
class Point:
    """The objective at some parameters."""

    loss: float  # summed in float64
    gradient: Tensor  # (C', R+1)
    spread: Tensor  # (C',) mean of p (1 - p), where asked for


@dataclass(frozen=True)
class Solution:
    """Where the minimiser stopped."""

    theta: Tensor  # (C', R+1), float64
    gradient_norm: float  # largest absolute entry, on standardised features
    iterations: int
    finished: bool  # whether the tolerance was reached


def minimise(
    design: Design,
    strength: float,
    *,
    tolerance: float,
    max_iterations: int,
    start: Tensor | None = None,
    exact: bool = True,
) -> Solution:
    """Minimise the objective until no entry of its gradient exceeds ``tolerance``; ``start`` is (C', R+1).

    With ``exact`` the last word is float64's; without it a gradient that float32 measures is enough, where float32 can.
    """
    if not strength > 0:
        raise SlmlpError(f"a probe's strength must be above 0 (--probe.strengths), found {strength}")
    theta = design.zeros() if start is None else start
    target = max(tolerance, FLOAT32_FLOOR)
    theta, norm, used = _lbfgs(design, design.single, theta.float(), strength, target, max_iterations, STALL)
    if exact or norm > tolerance:
        left = max_iterations - used
        theta, norm, more = _lbfgs(design, design.double, theta.double(), strength, tolerance, left, left)
        used += more
    return Solution(theta.double(), norm, used, norm <= tolerance)


def evaluate(images: Images, loss: Loss, theta: Tensor, penalty: Tensor, *, spread: bool = False) -> Point:
    """Read every image once: the objective and its gradient at ``theta`` (C', R+1), in the precision of the images."""
    weight, bias = images.outward(theta)
    total = theta.new_zeros((), dtype=torch.float64)
    slope = torch.zeros_like(weight, dtype=torch.float64)
    offset, spreads = torch.zeros_like(bias, dtype=torch.float64), torch.zeros_like(bias)
    for at, x in images.blocks(len(theta)):
        p = torch.addmm(bias, x, weight.T)  # logits (n, C')
        total += loss.probabilities(p, at)
        if spread:
            spreads += (p - p * p).sum(0)
        loss.subtract_labels(p, at)
        slope += p.T @ x
        offset += p.sum(0)
    n = len(images)
    gradient = torch.cat([images.inward(slope.to(theta.dtype)), offset.to(theta.dtype)[:, None]], dim=1) / n
    value = float(total / n + 0.5 * (penalty * theta * theta).sum(dtype=torch.float64))
    return Point(value, gradient.add_(penalty * theta), spreads / n)


def _lbfgs(
    design: Design, images: Images, theta: Tensor, strength: float, target: float, max_iterations: int, patience: int
) -> tuple[Tensor, float, int]:
    """Run preconditioned L-BFGS in the precision of ``images``; return parameters, gradient norm and iterations."""
    rounding = 10 * torch.finfo(images.dtype).eps  # relative, of a mean over images
    penalty = theta.new_full((theta.shape[1],), strength)
    penalty[-1] = 0.0  # the bias is free
    now = evaluate(images, design.loss, theta, penalty, spread=True)
    diagonal = _diagonal(now.spread, design, penalty)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # (step, gradient difference, 1 / their product)
    best, best_at = float("inf"), 0
    for iteration in range(max_iterations):
        norm = design.largest(now.gradient, target)
        if norm < best:
            best, best_at = norm, iteration
        if norm <= target or iteration - best_at > patience:
            return theta, design.largest(now.gradient), iteration
        direction = _direction(now.gradient, pairs, diagonal)
        slope, step = float((now.gradient * direction).sum()), 1.0
        while step > SMALLEST_STEP:
            moved = theta + step * direction
            new = evaluate(images, design.loss, moved, penalty)
            if new.loss <= now.loss + 1e-4 * step * slope + rounding * abs(now.loss):
                break
            step /= 2
        else:
            if not pairs:
                return theta, design.largest(now.gradient), iteration  # this precision has no more to give
            pairs = []  # forget the curvature that led here, and measure it anew
            diagonal = _diagonal(evaluate(images, design.loss, theta, penalty, spread=True).spread, design, penalty)
            continue
        change, bend = moved - theta, new.gradient - now.gradient
        product = (change * bend).sum()
        if product > 0:  # always, up to rounding: the objective is convex
            pairs = [*pairs[1 - MEMORY :], (change, bend, 1 / product)]
        theta, now = moved, new
    return theta, design.largest(now.gradient), max_iterations


def _diagonal(spread: Tensor, design: Design, penalty: Tensor) -> Tensor:
    """Return the diagonal (C', R+1) that stands for the Hessian where the mean of p (1 - p) is ``spread`` (C',)."""
    return spread.clamp(min=1e-7)[:, None] * design.curvature.to(spread.dtype) + penalty


def _direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]], diagonal: Tensor) -> Tensor:
    """Return minus the inverse Hessian estimate times the gradient (two-loop recursion)."""
    q, weights = gradient.clone(), []
    for change, bend, inverse in reversed(pairs):
        weights.append(inverse * (change * q).sum())
        q -= weights[-1] * bend
    if pairs:
        change, bend, inverse = pairs[-1]
        q *= 1 / (inverse * (bend * bend / diagonal).sum())  # the newest pair fixes the scale
    q /= diagonal
    for (change, bend, inverse), weight in zip(pairs, reversed(weights), strict=True):
        q += (weight - inverse * (bend * q).sum()) * change
    return -q
