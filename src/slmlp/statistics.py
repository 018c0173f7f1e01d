"""Means over images that come in units (patients, scans, products), and their intervals.

A unit is a cluster: its images may resemble one another, so a mean over N images of G units has the precision of
something between G and N independent draws. The cluster-robust variance needs no model of that resemblance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

LEVEL = 0.95  # of every interval in the project


@dataclass(frozen=True)
class Mean:
    """A mean over images clustered by unit."""

    value: float
    variance: float  # of the mean; inf with one unit
    units: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval, Student's t with units - 1 degrees of freedom; infinite with one unit."""
        return t_interval(self.value, self.variance, self.units - 1)


def clustered_mean(values: npt.NDArray[np.floating], units: npt.NDArray[np.str_]) -> Mean:
    """Return the mean of ``values`` (N,) and its cluster-robust variance with factor G / (G - 1).

    Var = G / (G - 1) / N^2 * sum over units of (sum of the unit's deviations from the mean)^2
    (Liang & Zeger 1986 for an intercept). Units of one image give the usual s^2 / N.

    >>> m = clustered_mean(np.array([1.0, 0.0, 1.0, 1.0]), np.array(["a", "b", "c", "d"]))
    >>> m.value, m.units, m.variance  # s^2 / N = 0.25 / 4
    (0.75, 4, 0.0625)
    """
    _, codes = np.unique(units, return_inverse=True)
    n, groups = len(values), int(codes.max()) + 1
    value = float(values.mean())
    if groups == 1:
        return Mean(value, float("inf"), 1)
    sums = np.bincount(codes, weights=np.asarray(values, dtype=np.float64) - value)
    return Mean(value, float((sums**2).sum() / n**2 * groups / (groups - 1)), groups)


def t_interval(value: float, variance: float, degrees: float) -> tuple[float, float]:
    """Return the 95 % interval of an estimate with this variance and these degrees of freedom (may be fractional)."""
    if not np.isfinite(variance):
        return -float("inf"), float("inf")
    half = float(special.stdtrit(degrees, 0.5 + LEVEL / 2) * np.sqrt(variance))
    return value - half, value + half


def share_interval(correct: npt.NDArray[np.floating], units: npt.NDArray[np.str_]) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy (0 to 1) over images clustered by unit, cut to 0 and 1."""
    low, high = clustered_mean(correct, units).interval
    return max(0.0, low), min(1.0, high)
