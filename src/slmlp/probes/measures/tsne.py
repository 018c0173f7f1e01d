"""t-SNE: a map of features for illustration."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slmlp.probes.measures.ratio import Array
from slmlp.runtime.errors import SlmlpError

VERSION = 1  # of the map that these settings make: raised when they change, so that no older one is taken for it
MOST = 1500  # points: more take minutes and show no more
AXES = 50  # principal axes kept before
PERPLEXITY = 30.0


def embed(x: Array, seed: int) -> npt.NDArray[np.float64]:
    """Return positions (N, 2) of features (N, D), mean 0 and one common scale (root mean square 1); 4 to 1500 points.

    The first 50 principal axes, then scikit-learn's Barnes-Hut t-SNE of perplexity 30 (a third of the points, where
    they are few) from the first two axes. Distances between clusters and their sizes mean nothing.
    """
    from sklearn.manifold import TSNE

    if not 4 <= len(x) <= MOST:
        raise SlmlpError(f"t-SNE takes 4 to {MOST} points, found {len(x)}")
    wide = np.asarray(x, dtype=np.float64)
    centred = wide - wide.mean(axis=0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    # The sign of a singular vector is arbitrary: make its largest entry positive.
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    scores = (left * signs * spread)[:, :AXES]
    if scores.shape[1] < 2:
        scores = np.pad(scores, ((0, 0), (0, 1)))
    start = (
        scores[:, :2] / max(float(scores[:, 0].std()), np.finfo(np.float64).tiny) * 1e-4
    )  # as scikit-learn scales it
    perplexity = min(PERPLEXITY, (len(x) - 1) / 3)
    embedded = TSNE(perplexity=perplexity, init=start, random_state=seed, n_jobs=1).fit_transform(scores)
    positions = np.asarray(embedded, dtype=np.float64)
    positions -= positions.mean(axis=0)
    scale = float(np.sqrt((positions**2).mean()))
    return positions / scale if scale > 0 else positions
