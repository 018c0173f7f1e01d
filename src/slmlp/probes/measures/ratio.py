"""Discriminative ratio: distance between classes relative to their spread.

With mu_j the mean feature of class j of C classes, n_j its number of images:

    D_inter = 1 / (C (C - 1)) * sum over j != k of ||mu_j - mu_k||^2
    D_intra = 1 / C * sum over j of 1 / n_j * sum over x in j of ||x - mu_j||^2
    phi     = D_inter / D_intra

As in "Revisiting the Transferability of Supervised Pretraining" (arXiv 2112.00496) and, before it, "Negative Margin
Matters" (ECCV 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slmlp.runtime.errors import SlmlpError

Array = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassDistances:
    """Squared distances between and within classes."""

    inter: float  # D_inter
    intra: float  # D_intra
    inter_unbiased: float  # without what the noise of means of n_j images adds
    intra_unbiased: float  # with n_j - 1 in place of n_j; NaN if a class has a single image


def normalise(x: Array) -> npt.NDArray[np.float64]:
    """Divide each row of ``x`` (N, D) by its L2 norm; rows of zeros stay."""
    wide = np.asarray(x, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(norms > 0, norms, 1.0)


def class_means(x: Array, y: Labels) -> tuple[npt.NDArray[np.float64], Labels, Labels]:
    """Return class means (C, D) in float64, class sizes (C,), and the class 0 to C - 1 of each image (N,)."""
    if x.ndim != 2 or len(x) != len(y):
        raise SlmlpError(f"a measure needs features (N, D) and labels (N,), found shapes {x.shape} and {y.shape}")
    _, codes = np.unique(y, return_inverse=True)
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise SlmlpError(f"a measure of classes needs images of at least two, found {len(sizes)}")
    sums = np.zeros((len(sizes), x.shape[1]))
    np.add.at(sums, codes, np.asarray(x, dtype=np.float64))
    return sums / sizes[:, None], sizes.astype(np.int64), codes.astype(np.int64)


def within_variances(x: Array, y: Labels) -> npt.NDArray[np.float64]:
    """Return, of each class, the mean squared distance of its images to their mean, (C,)."""
    means, sizes, codes = class_means(x, y)
    squares = ((np.asarray(x, dtype=np.float64) - means[codes]) ** 2).sum(axis=1)
    variances: npt.NDArray[np.float64] = np.bincount(codes, weights=squares) / sizes
    return variances


def class_distances(x: Array, y: Labels) -> ClassDistances:
    """Return the distances of features (N, D) with labels (N,)."""
    means, sizes, _ = class_means(x, y)
    within = within_variances(x, y)
    classes = len(sizes)
    centred = means - means.mean(axis=0)
    # sum over all pairs of ||a - b||^2 is 2 C times the sum of squares about the mean
    inter = float(2 * (centred**2).sum() / (classes - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        unbiased = within * np.where(sizes > 1, sizes / (sizes - 1), np.nan)
    return ClassDistances(
        inter=inter,
        intra=float(within.mean()),
        inter_unbiased=inter - 2 * float((unbiased / sizes).mean()),
        intra_unbiased=float(unbiased.mean()),
    )


def discriminative_ratio(x: Array, y: Labels, *, l2: bool = False, corrected: bool = False) -> float:
    """Return phi of features (N, D) with labels (N,), 0 or more; NaN or inf if no class has any width.

    ``l2`` divides each feature by its norm first. The plain ratio grows as classes get fewer images: with n in each,
    the noise of the class means adds 2 D_intra / n to D_inter, and D_intra itself is short by (n - 1) / n, so that
    phi is too large by about 2 / n (0.04 at 50 images). ``corrected`` takes both away; it needs two images per class
    and may come out below 0 where classes do not differ.

    >>> x = np.array([[0.0], [2.0], [10.0], [12.0]])
    >>> discriminative_ratio(x, np.array([0, 0, 1, 1]))  # means 1 and 11, variances 1 and 1
    100.0
    >>> discriminative_ratio(x, np.array([0, 0, 1, 1]), corrected=True)  # (100 - 2) / 2
    49.0
    """
    distances = class_distances(normalise(x) if l2 else x, y)
    top, bottom = (
        (distances.inter_unbiased, distances.intra_unbiased) if corrected else (distances.inter, distances.intra)
    )
    if bottom == 0:
        return float("inf") if top > 0 else float("nan")
    return top / bottom
