"""Means over seeds and images, their variances and intervals, and Holm's correction.

Images come in groups (patients, scans, products) whose images may resemble one another, so a mean over N images of G
groups has the precision of something between G and N independent images. The cluster-robust variance needs no model of
that resemblance. Numbers that are no mean over images, as average precision, get their variance from a bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

LEVEL = 0.95  # of every interval in the project
POWER = 0.8  # of the minimum detectable difference

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean or a difference of means with its variance."""

    value: float
    variance: float  # inf where images of one group leave it unknown
    degrees: float  # of freedom, may be fractional (Welch-Satterthwaite)
    percentiles: tuple[float, float] | None = None  # of bootstrap replicates, where the interval is theirs

    @property
    def standard_error(self) -> float:
        """Square root of the variance."""
        return float(np.sqrt(self.variance))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval: of the bootstrap where there was one, else of Student's t."""
        if self.percentiles is not None:
            return self.percentiles
        if not np.isfinite(self.variance):
            return -float("inf"), float("inf")
        half = float(special.stdtrit(self.degrees, 0.5 + LEVEL / 2) * np.sqrt(self.variance))
        return self.value - half, self.value + half

    @property
    def share_interval(self) -> tuple[float, float]:
        """The interval of a share, cut to 0 and 1."""
        low, high = self.interval
        return max(0.0, low), min(1.0, high)

    @property
    def p(self) -> float:
        """Two-sided p-value of the value being 0, by Student's t."""
        if self.variance == 0:
            return 1.0 if self.value == 0 else 0.0
        if not np.isfinite(self.variance):
            return 1.0
        return float(2 * special.stdtr(self.degrees, -abs(self.value) / self.standard_error))

    @property
    def detectable(self) -> float:
        """Minimum detectable difference: found with 80 % power at a two-sided 5 % by a study of this precision."""
        quantiles = special.stdtrit(self.degrees, 0.5 + LEVEL / 2) + special.stdtrit(self.degrees, POWER)
        return float(quantiles * self.standard_error)

    def times(self, factor: float) -> Estimate:
        """Return the estimate in other units: 100 turns shares into percentage points."""
        ends = self.percentiles and (factor * self.percentiles[0], factor * self.percentiles[1])
        return Estimate(factor * self.value, factor**2 * self.variance, self.degrees, ends)


@dataclass(frozen=True)
class Bootstrap:
    """A number of one run, 0 to 1, and its values on B bootstrap replicates of the groups of its images."""

    value: float
    replicates: Array  # (B,); NaN where a replicate holds nothing to find
    groups: int
    images: int


def clustered_mean(values: npt.NDArray[np.floating], groups: npt.NDArray[np.str_]) -> Estimate:
    """Return the mean of ``values`` (N,) with its cluster-robust variance, with G - 1 degrees of freedom.

    Var = G / (G - 1) / N^2 * sum over groups of (sum of the group's deviations from the mean)^2
    (Liang & Zeger 1986 for an intercept). Groups of one image give the usual s^2 / N.

    >>> m = clustered_mean(np.array([1.0, 0.0, 1.0, 1.0]), np.array(["a", "b", "c", "d"]))
    >>> m.value, m.degrees, m.variance  # s^2 / N = 0.25 / 4
    (0.75, 3, 0.0625)
    """
    _, codes = np.unique(groups, return_inverse=True)
    n, count = len(values), int(codes.max()) + 1
    value = float(values.mean())
    if count == 1:
        return Estimate(value, float("inf"), 0)
    sums = np.bincount(codes, weights=np.asarray(values, dtype=np.float64) - value)
    return Estimate(value, float((sums**2).sum() / n**2 * count / (count - 1)), count - 1)


def share_interval(correct: npt.NDArray[np.floating], groups: npt.NDArray[np.str_]) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy (0 to 1) over images clustered by group, cut to 0 and 1."""
    return clustered_mean(correct, groups).share_interval


def crossed_mean(values: npt.NDArray[np.floating], groups: npt.NDArray[np.str_]) -> Estimate:
    """Return the mean of ``values`` (S, N) with the variance that both other seeds and other images would give.

    Var = s^2 of the S seed means / S  +  cluster-robust variance over groups of the images' means over seeds.
    Noise of single images that differs between seeds is in both terms, so the interval errs on the wide side (in
    simulations 0.95 to 0.99 for a nominal 0.95, see docs/statistics.md). With one seed only the second term exists.
    ``values`` (S, R, N) are of R draws of the training images, whose s^2 / R is added in the same way.
    """
    factors = values.ndim - 1
    images = clustered_mean(values.mean(axis=tuple(range(factors))), groups)
    parts = [(images.variance, images.degrees)]
    for axis in range(factors):
        means = values.mean(axis=tuple(other for other in range(values.ndim) if other != axis))
        if len(means) > 1:
            parts.append((float(means.var(ddof=1)) / len(means), len(means) - 1))
    return Estimate(images.value, *add_variances(parts))


def bootstrap_mean(runs: Sequence[Bootstrap]) -> Estimate:
    """Return the mean over runs (one per seed) with the variance that both other seeds and other images would give.

    Var = s^2 of the S values / S + variance over bootstrap replicates of the mean over seeds, times G / (G - 1): that
    makes the bootstrap's variance of a plain mean the usual s^2 / G. G - 1 degrees of freedom for the images.
    """
    values = np.array([run.value for run in runs])
    means = np.mean([run.replicates for run in runs], axis=0)
    means = means[np.isfinite(means)]
    groups = runs[0].groups
    if groups < 2 or len(means) < 2:
        return Estimate(float(values.mean()), float("inf"), 1)
    parts: list[tuple[float, float]] = [(float(means.var(ddof=1)) * groups / (groups - 1), groups - 1)]
    if len(values) > 1:
        parts.append((float(values.var(ddof=1)) / len(values), len(values) - 1))
    return Estimate(float(values.mean()), *add_variances(parts))


def add_variances(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
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
