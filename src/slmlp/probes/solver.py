"""Exact multinomial logistic regression: standardise, rotate to principal axes, preconditioned L-BFGS.

Letters: N images, D features, R principal axes kept, C classes. The objective, per image, is

    f(W, b) = 1/N sum_i -log softmax(W s_i + b)[y_i] + strength / 2 * ||W||_F^2

with ``s`` the features standardised by the statistics of the same N images; the bias is not penalised.

Why it is fast. A rotation changes neither the loss nor ``||W||_F``, and on principal axes the Hessian block of class k
is close to the diagonal ``c_k * eigenvalues + strength``, with ``c_k`` the mean of ``p_k (1 - p_k)``. L-BFGS that
starts each of its directions from the inverse of that diagonal needs about 10 passes over the data at strong
strengths and 50 at the weakest. Logits are linear in the step, so the line search costs no product with the data.
Products run in float32 as long as they can tell the gradient from rounding, and in float64 after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp.errors import SlmlpError

FLOAT32_FLOOR = 1e-5  # largest gradient entry that float32 is asked for; below, it may stall
SMALLEST_STEP = 1e-8  # of a line search
STALL = 50  # iterations without a smaller gradient after which float32 is left for float64
MEMORY = 20  # pairs of steps and gradient differences that L-BFGS remembers
CONSTANT = 1e-7  # a feature whose std is below this share of its largest entry is rounding noise of float32
RANK = 1e-14  # an axis whose share of the largest variance is below this is rounding noise of float64


def check(x: npt.NDArray[np.floating], y: npt.NDArray[np.int64], num_classes: int) -> None:
    """Refuse features and labels (N, D), (N,) that no fit can be made of."""
    if x.ndim != 2 or len(x) != len(y) or len(x) == 0:
        raise SlmlpError(f"a probe needs features (N, D) and labels (N,), found shapes {x.shape} and {y.shape}")
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise SlmlpError(
            f"features of {int(bad.sum())} of {len(x)} images are NaN or infinite (first: row {int(bad.argmax())}): "
            "pretraining has diverged; look at its loss, and lower --base-lr"
        )
    if y.min() < 0 or y.max() >= num_classes:
        raise SlmlpError(f"labels must be 0 to {num_classes - 1}, found {int(y.min())} to {int(y.max())}")


class Design:
    """Training images of one fit, standardised and rotated; every strength of a path shares it."""

    def __init__(
        self,
        x: npt.NDArray[np.floating],
        y: npt.NDArray[np.int64],
        num_classes: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Standardise ``x`` (N, D) by its own mean and std and rotate it to its principal axes, in float64."""
        check(x, y, num_classes)
        wide = torch.as_tensor(np.asarray(x), device=device).to(torch.float64, copy=True)
        self.n, self.num_classes = len(wide), num_classes
        largest = torch.maximum(wide.amax(0), -wide.amin(0))  # (D,)
        self.mean = wide.mean(0)
        wide -= self.mean  # in place from here: features of a large set fill the memory
        std = torch.linalg.vector_norm(wide, dim=0) / self.n**0.5
        varies = std > CONSTANT * largest
        self.std = torch.where(varies, std, torch.ones_like(std))  # (D,)
        wide /= self.std
        wide[:, ~varies] = 0.0
        self.standardised = wide  # (N, D)
        # A class without images would be pushed to minus infinity for ever: fit the others, see ``LinearFit``.
        self.present, codes = torch.unique(
            torch.as_tensor(np.asarray(y, dtype=np.int64), device=device), return_inverse=True
        )
        self.codes = codes[:, None]  # (N, 1)
        values, axes = torch.linalg.eigh(self.standardised.T @ self.standardised / self.n)
        keep = values > RANK * values.amax()  # in the dropped directions the penalised weights are zero anyway
        self.axes = axes[:, keep]  # (D, R)
        self.curvature = torch.cat([values[keep], values.new_ones(1)])  # (R+1,), last: bias

    @cached_property
    def rotated64(self) -> Tensor:
        """Images on principal axes and a column of ones for the bias, (N, R+1)."""
        return self.augment(self.standardised)

    @cached_property
    def rotated32(self) -> Tensor:
        """The same in float32."""
        return self.augment(self.standardised).float()

    def augment(self, standardised: Tensor) -> Tensor:
        """Rotate standardised images (n, D) and append the bias column: (n, R+1)."""
        return torch.cat([standardised @ self.axes, standardised.new_ones(len(standardised), 1)], dim=1)

    def standardise(self, x: npt.NDArray[np.floating]) -> Tensor:
        """Apply the training statistics to other images (n, D)."""
        return (torch.as_tensor(np.asarray(x), device=self.mean.device).double() - self.mean) / self.std

    def unrotate(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Turn rotated parameters (C', R+1) into weights (C', D) on standardised features and biases (C',)."""
        return theta[:, :-1] @ self.axes.to(theta.dtype).T, theta[:, -1]

    def largest(self, gradient: Tensor) -> float:
        """Return the largest absolute entry of a rotated gradient (C', R+1), seen on standardised features."""
        weight, bias = self.unrotate(gradient)
        return max(float(weight.abs().amax()), float(bias.abs().amax()))

    def zeros(self) -> Tensor:
        """Return the start of a path, (C', R+1)."""
        return self.curvature.new_zeros(len(self.present), len(self.curvature))

    def exact_gradient(self, theta: Tensor, strength: float) -> float:
        """Return the largest absolute gradient entry in float64, from the unrotated images."""
        weight, bias = self.unrotate(theta.double())
        logits = self.standardised @ weight.T + bias
        excess = torch.softmax(logits, dim=1).scatter_add(1, self.codes, -torch.ones_like(logits[:, :1])) / self.n
        gradient = excess.T @ self.standardised + strength * weight
        return max(float(gradient.abs().amax()), float(excess.sum(0).abs().amax()))


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
    theta, norm, used = _lbfgs(design, design.rotated32, theta.float(), strength, target, max_iterations, STALL)
    if exact or norm > tolerance:
        left = max_iterations - used
        theta, norm, more = _lbfgs(design, design.rotated64, theta.double(), strength, tolerance, left, left)
        used += more
    return Solution(theta.double(), norm, used, norm <= tolerance)


def _lbfgs(
    design: Design, x: Tensor, theta: Tensor, strength: float, target: float, max_iterations: int, patience: int
) -> tuple[Tensor, float, int]:
    """Run preconditioned L-BFGS in the precision of ``x``; return parameters, gradient norm and iterations."""
    rounding = 10 * torch.finfo(x.dtype).eps  # relative, of a mean over images
    penalty = x.new_full((x.shape[1],), strength)
    penalty[-1] = 0.0  # the bias is free
    logits = x @ theta.T  # (N, C')
    loss, norms = _loss(logits, theta, design.codes, penalty)
    p = torch.exp(logits - norms)
    diagonal = _diagonal(p, design, penalty)
    gradient = _gradient(x, p, theta, design, penalty)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # (step, gradient difference, 1 / their product)
    best, best_at = float("inf"), 0
    for iteration in range(max_iterations):
        norm = design.largest(gradient)
        if norm < best:
            best, best_at = norm, iteration
        if norm <= target or iteration - best_at > patience:
            return theta, norm, iteration
        direction = _direction(gradient, pairs, diagonal)
        moved = x @ direction.T  # how the logits move along the line
        slope, step = float((gradient * direction).sum()), 1.0
        while step > SMALLEST_STEP:
            new_theta, new_logits = theta + step * direction, logits + step * moved
            new_loss, norms = _loss(new_logits, new_theta, design.codes, penalty)
            if new_loss <= loss + 1e-4 * step * slope + rounding * abs(loss):
                break
            step /= 2
        else:
            if not pairs:
                return theta, norm, iteration  # this precision has no more to give
            pairs = []  # forget the curvature that led here, and measure it anew
            diagonal = _diagonal(torch.softmax(logits, dim=1), design, penalty)
            continue
        p = torch.exp(new_logits - norms)
        new_gradient = _gradient(x, p, new_theta, design, penalty)
        change, bend = new_theta - theta, new_gradient - gradient
        product = (change * bend).sum()
        if product > 0:  # always, up to rounding: the objective is convex
            pairs = [*pairs[1 - MEMORY :], (change, bend, 1 / product)]
        theta, logits, loss, gradient = new_theta, new_logits, new_loss, new_gradient
    return theta, design.largest(gradient), max_iterations


def _loss(logits: Tensor, theta: Tensor, codes: Tensor, penalty: Tensor) -> tuple[float, Tensor]:
    """Return the objective, summed in float64, and log sum exp of the logits (N, 1)."""
    norms = torch.logsumexp(logits, dim=1, keepdim=True)
    data = (norms - logits.gather(1, codes)).double().mean()
    return float(data + 0.5 * (penalty * theta * theta).double().sum()), norms


def _diagonal(p: Tensor, design: Design, penalty: Tensor) -> Tensor:
    """Return the diagonal (C', R+1) that stands for the Hessian at probabilities ``p`` (N, C')."""
    spread = (p.mean(0) - (p * p).mean(0)).clamp(min=1e-7)  # (C',) mean of p (1 - p)
    return spread[:, None] * design.curvature.to(p.dtype) + penalty


def _gradient(x: Tensor, p: Tensor, theta: Tensor, design: Design, penalty: Tensor) -> Tensor:
    """Return the gradient (C', R+1); overwrites the probabilities ``p`` (N, C')."""
    p.scatter_add_(1, design.codes, p.new_full((len(p), 1), -1.0))  # probability minus one at the label
    return p.T @ x / design.n + penalty * theta


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
