"""Feature mixtureness: how far the class centres of two sets of classes are mixed.

    Pi = 1 - 1/C * sum over centres i of | share of pre among the k nearest other centres of i  -  C_pre / C |

over all C = C_pre + C_eval centres (arXiv 2112.00496; k, the distance and which centres are averaged are not
published, see docs/measures.md). It depends on k and on the two numbers of classes: compare at equal ones,
and compare it with ``mixtureness_floor`` and ``mixtureness_ceilings``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from slmlp.probes.measures.ratio import Array, normalise
from slmlp.runtime.errors import SlmlpError
from slmlp.runtime.seeds import numpy_generator

Distance = Literal["cosine", "euclidean"]

DRAWS = 20  # of the simulated ceiling: its error is then below 0.005 from 20 classes on


def feature_mixtureness(centers_pre: Array, centers_eval: Array, k: int, distance: Distance = "cosine") -> float:
    """Return Pi, 0 to 1, of centres (C_pre, D) and (C_eval, D); higher is more mixed.

    >>> left, right = np.array([[1.0], [2.0], [3.0]]), np.array([[11.0], [12.0], [13.0]])
    >>> feature_mixtureness(left, right, 2, "euclidean")  # apart: 1 - 2 * 1/2 * 1/2
    0.5
    """
    return mixtureness_many(centers_pre, centers_eval, [k], distance)[0]


def mixtureness_floor(c_pre: int, c_eval: int, k: int) -> float:
    """Return Pi of two sets that lie fully apart: 1 - 2 p (1 - p) with p = C_pre / C, for k below both sizes.

    It is no lower bound of the formula (centres whose neighbours are all of the other set would give less).

    >>> round(mixtureness_floor(642, 358, 10), 3)
    0.54
    """
    p = c_pre / (c_pre + c_eval)
    near_pre = min(k, c_pre - 1) / k  # a centre's own set comes first, the other fills what is left of k
    near_eval = max(0, k - (c_eval - 1)) / k
    return 1 - p * abs(near_pre - p) - (1 - p) * abs(near_eval - p)


def mixtureness_ceilings(
    c_pre: int, c_eval: int, dim: int, ks: Sequence[int], seed: int, distance: Distance = "cosine"
) -> list[float]:
    """Return Pi of perfectly mixed sets, the mean of ``DRAWS`` draws of independent Gaussian centres in ``dim``.

    For several k from the same draws. It is below 1, since k neighbours sample the share C_pre / C with an error of
    about sqrt(p (1 - p) / k).
    """
    random = numpy_generator(seed, "mixtureness ceiling")
    draws = []
    for _ in range(DRAWS):
        centers = random.standard_normal((c_pre + c_eval, dim))
        draws.append(mixtureness_many(centers[:c_pre], centers[c_pre:], ks, distance))
    return [float(value) for value in np.mean(draws, axis=0)]


def mixtureness_many(centers_pre: Array, centers_eval: Array, ks: Sequence[int], distance: Distance) -> list[float]:
    """Return ``feature_mixtureness`` for several k from one sorting of neighbours."""
    number = len(centers_pre) + len(centers_eval)
    if min(ks) < 1 or max(ks) > number - 1:
        raise SlmlpError(
            f"mixtureness of {number} class centres takes 1 to {number - 1} neighbours, found k {list(ks)}"
        )
    centers = np.concatenate([centers_pre, centers_eval]).astype(np.float64)
    from_pre = np.arange(number) < len(centers_pre)
    distances = _squared_distances(normalise(centers) if distance == "cosine" else centers)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : max(ks)]
    pre = np.cumsum(from_pre[nearest], axis=1)  # (C, k): how many of the first k are of pre
    return [1 - float(np.abs(pre[:, k - 1] / k - from_pre.mean()).mean()) for k in ks]


def _squared_distances(a: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return all squared distances (C, C); of rows of norm 1 they order pairs as the cosine distance does."""
    centred = a - a.mean(axis=0)  # nearby centres far from the origin would lose digits
    squares = (centred**2).sum(axis=1)
    distances: npt.NDArray[np.float64] = squares[:, None] + squares - 2 * centred @ centred.T
    return distances
