"""Exact logistic regression: standardise, then L-BFGS preconditioned along principal axes, in bounded memory.

Letters: N images, D features, K principal axes, C classes. The objective, per image, is

    f(W, b) = 1/N sum_i loss(W s_i + b, y_i) + strength / 2 * ||W||_F^2

with ``s`` the features standardised by the statistics of the same N images; the bias is not penalised. The loss is
-log softmax at the label, or, for labels that are a 0/1 matrix, the sum over classes of -log sigmoid of what is there
and of -log (1 - sigmoid) of what is not: a logistic regression a class.

Why it is fast. On principal axes the Hessian block of class k is close to the diagonal ``c_k * variance + strength``,
with ``c_k`` the mean of ``p_k (1 - p_k)``. L-BFGS that starts each of its directions from the inverse of that matrix
needs few passes over the data, and each image is read once for logits, loss and gradient together, block by block, so
that no matrix (N, C) exists. The leading axes do: the others are given their mean variance. Products run in float32 as
long as they can tell the gradient from rounding, and in float64, from the images as they came, after that.
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
from slmlp.probes.images import NARROW, SKETCHED, Axes, Images, Integers, Moments, Rows, check_finite
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
        axes: Axes | None = None,
        memory_limit_gb: float = config.Probe.memory_limit_gb,
        beside: int = 0,
    ) -> None:
        """Take the images ``rows`` of ``x`` (M, D) with labels ``y`` (M,), or a 0/1 matrix (M, C).

        ``axes`` saves finding them where they serve. Of ``memory_limit_gb`` room is left for ``beside`` more images
        (those of validation).
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
        return Images(Rows(self.rows.x, rows, self.rows.device), self.moments, torch.float32, hold=self.hold)

    def zeros(self) -> Tensor:
        """Return the start of a path, (C', D+1)."""
        return self.moments.mean.new_zeros(len(self.present), self.rows.width + 1)


def requirement(features: int, classes: int) -> tuple[int, int]:
    """Return the bytes of a fit that do not grow with the images, and those of holding one image.

    The first counts the correlations and eigenvectors with what LAPACK works in (6 matrices (D, D) in float64) or the
    images that leading axes are found from, the parameters (``MEMORY`` steps and gradient differences in float64, and a
    dozen temporaries) and what is made of a block.
    """
    parameters = 8 * classes * (features + 1) * (2 * MEMORY + 12)
    finding = 8 * 6 * features**2 if features <= NARROW else 3 * 4 * SKETCHED * features
    return finding + parameters + (128 << 20), 4 * (features + 32)


def largest(gradient: Tensor) -> float:
    """Return the largest absolute entry of a gradient."""
    return float(gradient.abs().amax())


@dataclass(frozen=True)
class Point:
    """The objective at some parameters."""

    loss: float  # summed in float64
    gradient: Tensor  # (C', D+1)
    spread: Tensor  # (C',) mean of p (1 - p), where asked for


@dataclass(frozen=True)
class Pair:
    """A step, how the gradient changed along it, and one over their product."""

    change: Tensor  # (C', D+1)
    bend: Tensor  # (C', D+1)
    inverse: Tensor


@dataclass(frozen=True)
class Solution:
    """Where the minimiser stopped."""

    theta: Tensor  # (C', D+1), float64
    gradient_norm: float  # largest absolute entry
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
    """Minimise the objective until no entry of its gradient exceeds ``tolerance``; ``start`` is (C', D+1).

    With ``exact`` the last word is float64's; without it a gradient that float32 measures is enough, where float32 can.
    """
    check_strength(strength)
    theta = design.zeros() if start is None else start
    target = max(tolerance, FLOAT32_FLOOR)
    theta, norm, used = _lbfgs(design, design.single, theta.float(), strength, target, max_iterations, STALL)
    theta = design.axes.on_axes(theta.double())
    if exact or norm > tolerance:
        left = max_iterations - used
        theta, norm, more = _lbfgs(design, design.double, theta, strength, tolerance, left, left)
        used += more
    return Solution(theta, norm, used, norm <= tolerance)


def check_strength(strength: float) -> None:
    """Refuse a penalty that is none."""
    if not strength > 0:
        raise SlmlpError(f"a probe's strength must be above 0 (--probe.strengths), found {strength}")


def evaluate(images: Images, loss: Loss, theta: Tensor, penalty: Tensor, *, spread: bool = False) -> Point:
    """Read every image once: the objective and its gradient at ``theta`` (C', D+1), in the precision of the images."""
    weight, bias = theta[:, :-1].contiguous(), theta[:, -1]
    total = theta.new_zeros((), dtype=torch.float64)
    gradient = torch.zeros_like(theta, dtype=torch.float64)
    spreads = torch.zeros_like(bias)
    for at, x in images.blocks(len(theta)):
        p = torch.addmm(bias, x, weight.T)  # logits (n, C')
        total += loss.probabilities(p, at)
        if spread:
            spreads += (p - p * p).sum(0)
        loss.subtract_labels(p, at)
        gradient[:, :-1] += p.T @ x
        gradient[:, -1] += p.sum(0)
    n = len(images)
    value = float(total / n + 0.5 * (penalty * theta * theta).sum(dtype=torch.float64))
    return Point(value, (gradient / n).to(theta.dtype) + penalty * theta, spreads / n)


class Preconditioner:
    """The inverse of what stands for the Hessian where the mean of p (1 - p) is ``spread`` (C',)."""

    def __init__(self, axes: Axes, spread: Tensor, strength: float) -> None:
        """Keep the scale of every class on every axis."""
        self.spread = spread.clamp(min=1e-7)[:, None]
        self.axes = axes.axes.to(spread.dtype)  # (D, K)
        self.on = self.spread * axes.curvature.to(spread.dtype) + strength  # (C', K)
        self.off = None if axes.rest is None else self.spread * axes.rest + strength  # (C', 1)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the step (C', D+1) that a gradient (C', D+1) asks for; on the bias the variance is 1."""
        weight, bias = gradient[:, :-1], gradient[:, -1:]
        along = weight @ self.axes  # (C', K)
        if self.off is None:
            step = (along / self.on) @ self.axes.T
        else:
            step = torch.addmm(weight / self.off, along / self.on - along / self.off, self.axes.T)
        return torch.cat([step, bias / self.spread], dim=1)


def _lbfgs(
    design: Design, images: Images, theta: Tensor, strength: float, target: float, max_iterations: int, patience: int
) -> tuple[Tensor, float, int]:
    """Run preconditioned L-BFGS in the precision of ``images``; return parameters, gradient norm and iterations."""
    rounding = 10 * torch.finfo(images.dtype).eps  # relative, of a mean over images
    penalty = theta.new_full((theta.shape[1],), strength)
    penalty[-1] = 0.0  # the bias is free
    now = evaluate(images, design.loss, theta, penalty, spread=True)
    scale = Preconditioner(design.axes, now.spread, strength)
    pairs: list[Pair] = []
    best, best_at = float("inf"), 0
    for iteration in range(max_iterations):
        norm = largest(now.gradient)
        if norm < best:
            best, best_at = norm, iteration
        if norm <= target or iteration - best_at > patience:
            return theta, norm, iteration
        direction = _direction(now.gradient, pairs, scale)
        slope, step = float((now.gradient * direction).sum()), 1.0
        while step > SMALLEST_STEP:
            moved = theta + step * direction
            new = evaluate(images, design.loss, moved, penalty)
            if new.loss <= now.loss + 1e-4 * step * slope + rounding * abs(now.loss):
                break
            step /= 2
        else:
            if not pairs:
                return theta, norm, iteration  # this precision has no more to give
            pairs = []  # forget the curvature that led here, and measure it anew
            spread = evaluate(images, design.loss, theta, penalty, spread=True).spread
            scale = Preconditioner(design.axes, spread, strength)
            continue
        change, bend = moved - theta, new.gradient - now.gradient
        product = (change * bend).sum()
        if product > 0:  # always, up to rounding: the objective is convex
            pairs = [*pairs[1 - MEMORY :], Pair(change, bend, 1 / product)]
        theta, now = moved, new
    return theta, largest(now.gradient), max_iterations


def _direction(gradient: Tensor, pairs: list[Pair], scale: Preconditioner) -> Tensor:
    """Return minus the inverse Hessian estimate times the gradient (two-loop recursion)."""
    q, weights = gradient.clone(), []
    for pair in reversed(pairs):
        weights.append(pair.inverse * (pair.change * q).sum())
        q -= weights[-1] * pair.bend
    if pairs:
        newest = pairs[-1]
        q *= 1 / (newest.inverse * (newest.bend * scale(newest.bend)).sum())  # the newest pair fixes the scale
    q = scale(q)
    for pair, weight in zip(pairs, reversed(weights), strict=True):
        q += (weight - pair.inverse * (pair.bend * q).sum()) * pair.change
    return -q
