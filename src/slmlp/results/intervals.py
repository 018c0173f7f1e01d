"""Means over seeds and over images that come in groups (patients, scans, products), and their intervals.

A group is a cluster: its images may resemble one another, so a mean over N images of G groups has the precision of
something between G and N independent draws. The cluster-robust variance needs no model of that resemblance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

LEVEL = 0.95  # of every interval in the project
POWER = 0.8  # with which the smallest difference that could have been found would have been found


@dataclass(frozen=True)
class Mean:
    """A mean over images clustered by group."""

    value: float
    variance: float  # of the mean; inf with one group
    groups: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval, Student's t with groups - 1 degrees of freedom; infinite with one group."""
        return t_interval(self.value, self.variance, self.groups - 1)


def clustered_mean(values: npt.NDArray[np.floating], groups: npt.NDArray[np.str_]) -> Mean:
    """Return the mean of ``values`` (N,) and its cluster-robust variance with factor G / (G - 1).

    Var = G / (G - 1) / N^2 * sum over groups of (sum of the group's deviations from the mean)^2
    (Liang & Zeger 1986 for an intercept). Groups of one image give the usual s^2 / N.

    >>> m = clustered_mean(np.array([1.0, 0.0, 1.0, 1.0]), np.array(["a", "b", "c", "d"]))
    >>> m.value, m.groups, m.variance  # s^2 / N = 0.25 / 4
    (0.75, 4, 0.0625)
    """
    _, codes = np.unique(groups, return_inverse=True)
    n, count = len(values), int(codes.max()) + 1
    value = float(values.mean())
    if count == 1:
        return Mean(value, float("inf"), 1)
    sums = np.bincount(codes, weights=np.asarray(values, dtype=np.float64) - value)
    return Mean(value, float((sums**2).sum() / n**2 * count / (count - 1)), count)


def t_interval(value: float, variance: float, degrees: float) -> tuple[float, float]:
    """Return the 95 % interval of an estimate with this variance and these degrees of freedom (may be fractional)."""
    if not np.isfinite(variance):
        return -float("inf"), float("inf")
    half = float(special.stdtrit(degrees, 0.5 + LEVEL / 2) * np.sqrt(variance))
    return value - half, value + half


def share_interval(correct: npt.NDArray[np.floating], groups: npt.NDArray[np.str_]) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy (0 to 1) over images clustered by group, cut to 0 and 1."""
    low, high = clustered_mean(correct, groups).interval
    return max(0.0, low), min(1.0, high)


@dataclass(frozen=True)
class CrossedMean:
    """A mean over S seeds, R draws of the training images where there were several, and the same N images in each."""

    value: float
    variance: float  # of the mean, for other seeds and other images
    degrees: float  # of freedom, Welch-Satterthwaite

    @property
    def standard_error(self) -> float:
        """Square root of the variance."""
        return float(np.sqrt(self.variance))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval."""
        return t_interval(self.value, self.variance, self.degrees)

    @property
    def p(self) -> float:
        """Two-sided p-value of the mean being 0."""
        if self.variance == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * special.stdtr(self.degrees, -abs(self.value) / self.standard_error))

    @property
    def detectable(self) -> float:
        """Smallest mean that a study of this precision finds with 80 % power at a two-sided 5 %."""
        quantiles = special.stdtrit(self.degrees, 0.5 + LEVEL / 2) + special.stdtrit(self.degrees, POWER)
        return float(quantiles * self.standard_error)


def crossed_mean(values: npt.NDArray[np.floating], groups: npt.NDArray[np.str_]) -> CrossedMean:
    """Return the mean of ``values`` (S, N) with the variance of a draw of both new seeds and new images.

    Var = s^2 of the S seed means / S  +  cluster-robust variance over groups of the images' means over seeds.
    Noise of single images that differs between seeds is in both terms, so the interval errs on the wide side (in
    simulations 0.95 to 0.99 for a nominal 0.95, see docs/statistics.md). With one seed only the second term exists.
    ``values`` (S, R, N) are of R draws of the training images, whose s^2 / R is added in the same way.
    """
    factors = values.ndim - 1
    images = clustered_mean(values.mean(axis=tuple(range(factors))), groups)
    parts = [(images.variance, images.groups - 1)]
    for axis in range(factors):
        means = values.mean(axis=tuple(other for other in range(values.ndim) if other != axis))
        if len(means) > 1:
            parts.append((float(means.var(ddof=1)) / len(means), len(means) - 1))
    return CrossedMean(images.value, *added(parts))


def added(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the sum of independent variances and its degrees of freedom (Welch-Satterthwaite), from theirs."""
    largest = max(variance for variance, _ in parts)
    if largest == 0 or not np.isfinite(largest):
        return largest, parts[0][1]
    variance = sum(variance for variance, _ in parts)
    share = sum((part / variance) ** 2 / degrees for part, degrees in parts if part > 0)
    return variance, 1 / share


def holm(p: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return Holm's adjusted p-values (M,): all below 0.05 may be called differences at 5 % taken together.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
