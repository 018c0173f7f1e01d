"""A fitted probe: weights on standardised features, applied block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp.probes.images import Array, Rows
from slmlp.probes.solver import Design, Solution


@dataclass(frozen=True)
class LinearFit:
    """A fitted probe. A class without training images has a bias of minus infinity: it is never predicted."""

    weight: npt.NDArray[np.float64]  # (C, D), on standardised features
    bias: npt.NDArray[np.float64]  # (C,)
    mean: npt.NDArray[np.float64]  # (D,) of the training images
    std: npt.NDArray[np.float64]  # (D,) of the training images; 1 where a feature does not vary (its weight is 0)
    l2: float
    gradient_norm: float  # largest absolute entry of the gradient of the mean objective; of final fits in float64
    iterations: int
    finished: bool  # whether gradient_norm reached the tolerance
    constant_features: int  # features that do not vary over the training images

    def decision(self, x: Array) -> npt.NDArray[np.float64]:
        """Return the logits (N, C) of features (N, D)."""
        parts = [logits.numpy() for _, logits in self.logits(x)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.bias)))

    def predict(self, x: Array) -> npt.NDArray[np.int64]:
        """Return the class index (N,) of features (N, D)."""
        return self.classify(x)[0]

    def classify(
        self, x: Array, rows: npt.NDArray[np.int64] | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return class index (N,) and its softmax probability (N,) of all features (M, D) or of some rows of them."""
        n = len(x) if rows is None else len(rows)
        best, confidence = np.empty(n, dtype=np.int64), np.empty(n)
        for at, logits in self.logits(x, rows):
            top, places = logits.max(dim=1)
            best[at] = places.numpy()
            confidence[at] = torch.exp(top - torch.logsumexp(logits, dim=1)).numpy()
        return best, confidence

    def logits(
        self, x: Array, rows: npt.NDArray[np.int64] | None = None, classes: slice = slice(None)
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield (slice of images, their logits (n, C) in float64), block by block."""
        images = Rows(x, rows)
        mean, std, weight, bias = map(torch.as_tensor, (self.mean, self.std, self.weight[classes], self.bias[classes]))
        for at in images.slices(len(bias)):
            yield at, (images.block(at).double() - mean).div_(std) @ weight.T + bias


def linear_fit(design: Design, solution: Solution, l2: float) -> LinearFit:
    """Carry a solution (C', D+1) back to all classes."""
    some_weight, some_bias = solution.theta[:, :-1], solution.theta[:, -1]
    weight = np.zeros((design.num_classes, design.rows.width))
    present = design.present.numpy()
    weight[present] = some_weight.numpy()
    bias = design.loss.missing_bias.numpy().copy()  # of the classes that could not be fitted
    if design.loss.shared:
        some_bias = some_bias - some_bias.mean()  # a common shift of all logits changes nothing
    bias[present] = some_bias.numpy()
    mean, std = design.moments.mean.numpy(), design.moments.std.numpy()
    constant = int((~design.moments.varies).sum())
    return LinearFit(
        weight, bias, mean, std, l2, solution.gradient_norm, solution.iterations, solution.finished, constant
    )


def expressed(design: Design, start: LinearFit) -> Tensor:
    """Convert a fit that used other training statistics to the parameters (C', D+1) of ``design``."""
    present = design.present.numpy()
    raw = start.weight[present] / start.std  # (C', D) on features as they came
    bias = start.bias[present] + raw @ (design.moments.mean.numpy() - start.mean)
    bias = np.where(np.isfinite(bias), bias, 0.0)
    weight = torch.as_tensor(raw) * design.moments.std * design.moments.varies
    return design.axes.on_axes(torch.cat([weight, torch.as_tensor(bias)[:, None]], dim=1))
