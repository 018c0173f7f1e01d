"""Many small logistic regressions solved as one: the episodes of few-shot classification.

Letters: E problems, N images, D features, C classes. The objective of each is scikit-learn's,

    f(W, b) = 1/2 ||W||_F^2 + C_sk * sum_i -log softmax(W x_i + b)[y_i]

on features as they are handed in; the bias is not penalised. With two classes scikit-learn minimises another function
(one weight vector, penalised once): C_sk = 1 here is C = 2 there.

Newton's method with conjugate gradients, all problems in step, in float64: f is strongly convex in W, so a largest
gradient entry of 1e-8 leaves the weights within 1e-8 * sqrt(C (D + 1)) of the minimum. With fewer images than features
the problem is first written in the images' own span, where it is the same problem in N dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-8  # largest gradient entry of the summed objective
NEWTON = 50  # most steps; 4 to 8 are usual
CONJUGATE = 200  # most products with the Hessian in a step
SPAN = 200  # images up to which the change to their span pays
SINGULAR = 1e-12  # directions of the span with less than this share of the largest eigenvalue are rounding


@dataclass(frozen=True)
class Many:
    """The minima of E problems."""

    weight: Tensor  # (E, C, D), float64
    bias: Tensor  # (E, C), their sum is 0
    gradient_norm: Tensor  # (E,) largest absolute entry at the end
    iterations: int  # Newton steps of the slowest

    def decision(self, x: Tensor) -> Tensor:
        """Return logits (E, Q, C) of features (E, Q, D)."""
        return x.double() @ self.weight.mT + self.bias[:, None]


def fit_many(x: Tensor, y: Tensor, classes: int, c: float = 1.0, tolerance: float = TOLERANCE) -> Many:
    """Minimise the objective for E sets of images, x (E, N, D) with labels y (E, N) from 0 to ``classes`` - 1."""
    x = x.double()
    if x.shape[1] <= min(SPAN, x.shape[2] - 1):
        z, back = _span(x)  # (E, N, N), (E, N, D)
    else:
        z, back = x, None
    images = torch.cat([z, torch.ones_like(z[..., :1])], dim=2)  # (E, N, R+1), last: bias
    theta, norm, steps = _newton(images, torch.nn.functional.one_hot(y, classes).double(), c, tolerance)
    weight = theta[..., :-1] if back is None else theta[..., :-1] @ back
    return Many(weight, theta[..., -1], norm, steps)


def _span(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return images (E, N, N) in an orthonormal basis of their span, and the basis (E, N, D)."""
    values, vectors = torch.linalg.eigh(x @ x.mT)
    keep = values > SINGULAR * values.amax(dim=1, keepdim=True)
    length = torch.where(keep, values, 1.0).sqrt()
    vectors = vectors * keep[:, None]
    return vectors * length[:, None], (vectors / length[:, None]).mT @ x


def _newton(x: Tensor, target: Tensor, c: float, tolerance: float) -> tuple[Tensor, Tensor, int]:
    """Return parameters (E, C, R+1), largest gradient entries (E,) and the number of steps."""
    theta = x.new_zeros(len(x), target.shape[2], x.shape[2])
    penalty = x.new_ones(x.shape[2])
    penalty[-1] = 0.0
    value, p = _objective(x, theta, target, c, penalty)
    for step in range(NEWTON + 1):
        gradient = c * (p - target).mT @ x + penalty * theta
        norm = gradient.abs().amax(dim=(1, 2))
        going = norm > tolerance
        if step == NEWTON or not going.any():
            break
        direction = _conjugate(x, p, c, penalty, gradient * going[:, None, None])
        slope = (gradient * direction).sum(dim=(1, 2))
        length = going.double()
        for _ in range(40):  # halve where the objective falls less than the slope predicts
            tried, new_p = _objective(x, theta + length[:, None, None] * direction, target, c, penalty)
            short = tried > value + 1e-4 * length * slope + 1e-14 * value.abs()
            if not short.any():
                break
            length = torch.where(short, length / 2, length)
        theta, value, p = theta + length[:, None, None] * direction, tried, new_p
    return theta, norm, step


def _objective(x: Tensor, theta: Tensor, target: Tensor, c: float, penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Return the objectives (E,) and the probabilities (E, N, C)."""
    logits = x @ theta.mT
    logs = torch.log_softmax(logits, dim=2)
    return -c * (logs * target).sum(dim=(1, 2)) + (penalty * theta * theta).sum(dim=(1, 2)) / 2, logs.exp()


def _conjugate(x: Tensor, p: Tensor, c: float, penalty: Tensor, gradient: Tensor) -> Tensor:
    """Return minus the inverse Hessian times the gradient (E, C, R+1), the nearer the smaller the gradient is."""
    direction, residual = torch.zeros_like(gradient), -gradient
    towards = residual.clone()
    square = (residual * residual).sum(dim=(1, 2))
    enough = square * square.sqrt().clamp(max=0.01)  # relative accuracy that keeps Newton faster than linear
    for _ in range(CONJUGATE):
        if not (square > enough).any():
            break
        moved = x @ towards.mT  # (E, N, C)
        bend = p * (moved - (p * moved).sum(dim=2, keepdim=True))
        product = c * bend.mT @ x + penalty * towards
        curvature = (towards * product).sum(dim=(1, 2))
        rate = torch.where(curvature > 0, square / curvature.clamp(min=1e-300), 0.0)
        direction = direction + rate[:, None, None] * towards
        residual = residual - rate[:, None, None] * product
        new = (residual * residual).sum(dim=(1, 2))
        ratio = torch.where(square > 0, new / square.clamp(min=1e-300), 0.0)
        towards = residual + ratio[:, None, None] * towards
        square = new
    return direction
