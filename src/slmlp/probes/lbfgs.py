"""L-BFGS preconditioned along principal axes, in bounded memory; curvature is carried from one l2 to the next.

Letters: N images, D features, K principal axes, C' classes that are fitted. On principal axes the Hessian block of
class k is close to the diagonal ``c_k * variance + l2``, with ``c_k`` the mean of ``p_k (1 - p_k)``; every
direction starts from the inverse of that matrix. The leading axes do: the others are given their mean variance.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from slmlp.probes.images import Axes, Images
from slmlp.probes.losses import Loss

SMALLEST_STEP = 1e-8  # of a line search
REMEMBERED = 20  # pairs of steps and gradient differences


@dataclass(frozen=True)
class Point:
    """The objective at some parameters."""

    loss: float  # summed in float64
    gradient: Tensor  # (C', D+1)
    spread: Tensor  # (C',) mean of p (1 - p), where asked for


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
    """The inverse of an approximate Hessian; ``spread`` (C',) is the mean of p (1 - p) per class."""

    def __init__(self, axes: Axes, spread: Tensor, l2: float) -> None:
        """Keep the scale of every class on every axis."""
        self.spread = spread.clamp(min=1e-7)[:, None]
        self.axes = axes.axes.to(spread.dtype)  # (D, K)
        self.on = self.spread * axes.curvature.to(spread.dtype) + l2  # (C', K)
        self.off = None if axes.rest is None else self.spread * axes.rest + l2  # (C', 1)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the step (C', D+1) that a gradient (C', D+1) asks for; on the bias the variance is 1."""
        weight, bias = gradient[:, :-1], gradient[:, -1:]
        along = weight @ self.axes  # (C', K)
        if self.off is None:
            step = (along / self.on) @ self.axes.T
        else:
            step = torch.addmm(weight / self.off, along / self.on - along / self.off, self.axes.T)
        return torch.cat([step, bias / self.spread], dim=1)


@dataclass(frozen=True)
class Pair:
    """A step, how the gradient changed along it, and one over their product."""

    change: Tensor  # (C', D+1)
    bend: Tensor  # (C', D+1)
    inverse: Tensor


class Curvature:
    """The last steps and gradient differences, of this fit and of earlier fits at other l2.

    Only the penalty's part of a gradient difference depends on the l2, and it is known exactly, so that pairs
    serve at every l2. The step from the end of the last fit to the start of this one is one of them.
    """

    def __init__(self) -> None:
        self.penalty = torch.zeros(())
        self.pairs: deque[Pair] = deque(maxlen=REMEMBERED)
        self.last: tuple[Tensor, Tensor] | None = None  # parameters and gradient where the last fit ended

    def begin(self, theta: Tensor, gradient: Tensor, penalty: Tensor) -> None:
        """Begin a fit under ``penalty`` (D+1,) at ``theta`` with ``gradient`` (C', D+1)."""
        more = penalty - self.penalty.to(penalty.dtype)
        known = [(pair.change.to(theta.dtype), pair.bend.to(theta.dtype)) for pair in self.pairs]
        self.pairs.clear()
        for change, bend in known:
            self.add(change, bend + more * change)
        if self.last is not None:
            end, slope = (tensor.to(theta.dtype) for tensor in self.last)
            change = theta - end
            if _dot(change, change) > torch.finfo(theta.dtype).eps * _dot(end, end):  # more than a rounding difference
                self.add(change, gradient - (slope + more * end))
        self.penalty = penalty

    def add(self, change: Tensor, bend: Tensor) -> None:
        """Remember a step if the objective curves along it: always, up to rounding, since it is convex."""
        product = _dot(change, bend)
        if product > 0:
            self.pairs.append(Pair(change, bend, 1 / product))

    def direction(self, gradient: Tensor, scale: Preconditioner) -> Tensor:
        """Return minus the inverse Hessian estimate times the gradient (two-loop recursion)."""
        q, weights = gradient.clone(), []
        for pair in reversed(self.pairs):
            weights.append(pair.inverse * _dot(pair.change, q))
            q.addcmul_(pair.bend, weights[-1], value=-1)
        if self.pairs:
            newest = self.pairs[-1]
            q /= newest.inverse * _dot(newest.bend, scale(newest.bend))  # the newest pair fixes the scale
        q = scale(q)
        for pair, weight in zip(self.pairs, reversed(weights), strict=True):
            q.addcmul_(pair.change, weight - pair.inverse * _dot(pair.bend, q))
        return q.neg_()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the dot product of two matrices as a scalar tensor, without a temporary."""
    return torch.dot(a.reshape(-1), b.reshape(-1))


def largest(gradient: Tensor) -> float:
    """Return the largest absolute entry of a gradient."""
    return float(gradient.abs().amax())


def iterate(
    images: Images,
    loss: Loss,
    axes: Axes,
    theta: Tensor,
    l2: float,
    target: float,
    max_iterations: int,
    patience: int,
    curvature: Curvature,
) -> tuple[Tensor, float, int]:
    """Minimise in the precision of ``images`` from ``theta`` (C', D+1) to a largest gradient entry of ``target``.

    Return parameters, gradient norm and iterations; ``patience`` iterations without a smaller gradient end it too.
    """
    rounding = 10 * torch.finfo(images.dtype).eps  # relative, of a mean over images
    penalty = theta.new_full((theta.shape[1],), l2)
    penalty[-1] = 0.0  # the bias is free
    now = evaluate(images, loss, theta, penalty, spread=True)
    scale = Preconditioner(axes, now.spread, l2)
    curvature.begin(theta, now.gradient, penalty)
    best, best_at, iteration = float("inf"), 0, 0
    for iteration in range(max_iterations + 1):
        norm = largest(now.gradient)
        if norm < best:
            best, best_at = norm, iteration
        if norm <= target or iteration - best_at > patience or iteration == max_iterations:
            break
        direction = curvature.direction(now.gradient, scale)
        slope, step = float(_dot(now.gradient, direction)), 1.0
        while step > SMALLEST_STEP:
            moved = theta + step * direction
            new = evaluate(images, loss, moved, penalty)
            if new.loss <= now.loss + 1e-4 * step * slope + rounding * abs(now.loss):
                break
            step /= 2
        else:
            if not curvature.pairs:
                break  # this precision has no more to give
            curvature.pairs.clear()  # forget the curvature that led here, and measure it anew
            scale = Preconditioner(axes, evaluate(images, loss, theta, penalty, spread=True).spread, l2)
            continue
        curvature.add(moved - theta, new.gradient - now.gradient)
        theta, now = moved, new
    curvature.last = theta, now.gradient
    return theta, norm, iteration
