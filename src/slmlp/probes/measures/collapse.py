"""Other published measures of how far classes have collapsed and how many directions a feature uses."""

from __future__ import annotations

import numpy as np

from slmlp.probes.measures.ratio import Array, Labels, class_means, normalise, within_variances


def class_separation(x: Array, y: Labels) -> float:
    """Return R^2 = 1 - mean within-class cosine distance / mean overall cosine distance, 0 to 1.

    Kornblith et al., "Why Do Better Loss Functions Lead to Less Transferable Features?" (NeurIPS 2021): classes weigh
    equally, and pairs of an image with itself count, so that both means follow from the class means of unit vectors.
    """
    means, _, _ = class_means(normalise(x), y)
    within = 1 - (means**2).sum(axis=1).mean()
    overall = 1 - (means.mean(axis=0) ** 2).sum()
    defined = means.any() and overall > 1e-12  # features that are zero, or all the same up to rounding, have no angles
    return float(1 - within / overall) if defined else float("nan")


def nc1(x: Array, y: Labels) -> float:
    """Return tr(S_W S_B^+) / C, 0 for collapsed classes (Papyan, Han and Donoho 2020; classes weigh equally).

    S_W is the mean covariance within classes, S_B that of the C class means; only directions in which the class means
    differ count.
    """
    means, sizes, codes = class_means(x, y)
    _, spread, axes = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    keep = spread > 1e-10 * spread[0] if spread[0] > 0 else np.zeros(len(spread), dtype=np.bool_)
    if not keep.any():
        return float("nan")
    # S_B^+ = axes^T diag(C / spread^2) axes: the trace is the variance within classes along axes / spread, times C / C
    scores = ((np.asarray(x, dtype=np.float64) - means[codes]) @ axes[keep].T / spread[keep]) ** 2
    return float((np.bincount(codes, weights=scores.sum(axis=1)) / sizes).mean())


def cdnv(x: Array, y: Labels) -> float:
    """Return the mean over pairs of classes of (Var_j + Var_k) / (2 ||mu_j - mu_k||^2) (Galanti et al. 2021).

    0 for collapsed classes; inf if two classes have the same mean.
    """
    means, _, _ = class_means(x, y)
    within = within_variances(x, y)
    j, k = np.triu_indices(len(means), 1)
    centred = means - means.mean(axis=0)
    squares = (centred**2).sum(axis=1)
    gaps = np.maximum((squares[:, None] + squares - 2 * centred @ centred.T)[j, k], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(((within[j] + within[k]) / (2 * gaps)).mean())


def effective_rank(x: Array) -> float:
    """Return exp(entropy of the singular values of centred features, as shares), 1 to min(N - 1, D).

    Roy and Vetterli (2007); RankMe (2023) takes the same of features that are not centred.

    >>> round(effective_rank(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
    2.0
    """
    wide = np.asarray(x, dtype=np.float64)
    centred = wide - wide.mean(axis=0)
    small = centred.T @ centred if len(wide) > wide.shape[1] else centred @ centred.T
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(small), 0.0))
    if spread.sum() == 0:
        return float("nan")
    shares = spread[spread > 1e-7 * spread.max()] / spread.sum()  # below: the square root of float64's rounding
    return float(np.exp(-(shares * np.log(shares)).sum()))
