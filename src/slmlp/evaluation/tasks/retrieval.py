"""Retrieval: each query asks the gallery for images of its class, by cosine.

Recall@K and mAP@R as Musgrave et al. 2020 (arXiv 2003.08505, section 3.2) define them. The search is that of
``probes.nearest``, exact, with its rule for ties.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import check_gallery, check_same
from slmlp.probes.features import Features
from slmlp.probes.nearest import group_codes, nearest
from slmlp.results.intervals import share_interval
from slmlp.results.records import Predictions, Score
from slmlp.runtime.errors import SlmlpError


def run(inputs: Inputs, cfg: config.Retrieval) -> list[Score]:
    """Return the scores of ``retrieval`` with the training part as gallery and the test part as queries."""
    train, test = inputs.features
    return retrieval(train, test, cfg)


def among_unseen(inputs: Inputs, cfg: config.Retrieval) -> list[Score]:
    """Return the scores on the held-out classes, with all images of other groups as gallery."""
    (unseen,) = inputs.features
    return retrieval(unseen, unseen, cfg, task="unseen-retrieval", own_group=False)


def retrieval(
    gallery: Features, queries: Features, cfg: config.Retrieval, *, task: str = "retrieval", own_group: bool = True
) -> list[Score]:
    """Return ``recall_at_K`` for every K of the settings, then ``map_at_r``: means over queries, 0 to 1.

    Recall@K of a query is 1 where one of its K nearest images of the gallery is of its class, else 0. With R images of
    its class in the gallery, its mAP@R is 1/R times the sum over the ranks i up to R that hold such an image of the
    share of such images among the first i. Without ``own_group`` a query's gallery is the images of other groups.

    A query whose class has no image in its gallery is left out and counted. The predictions of each number have a row
    for each query: ``predictions`` is the class of the nearest image, ``values`` the query's own number.
    """
    check_same(task, gallery, queries, "gallery", "query")
    relevant = _relevant(gallery, queries, own_group=own_group)  # (Q,)
    lost = int((relevant == 0).sum())
    if lost == len(queries):
        where = "the gallery" if own_group else "another group"
        raise SlmlpError(
            f"{task}: none of the {lost} queries has an image of its class in {where}: every class needs two images "
            "or more, of two groups"
        )
    ranks = sorted(set(cfg.recall_at))
    check_gallery(task, "--retrieval.recall-at", ranks[-1], gallery.groups, queries.groups, own_group=own_group)
    numbers = np.empty((len(ranks) + 1, len(queries)))  # recall at each rank, then mAP@R
    first = np.empty(len(queries), dtype=np.int64)
    k = max(ranks[-1], int(relevant.max()))
    for near in nearest(gallery, queries, k, own_group=own_group):
        hits = (gallery.y[near.rows] == queries.y[near.queries, None]) & (near.rows >= 0)  # (n, k)
        numbers[:-1, near.queries] = [hits[:, :rank].any(axis=1) for rank in ranks]
        numbers[-1, near.queries] = map_at_r(hits, np.maximum(relevant[near.queries], 1))
        first[near.queries] = gallery.y[near.rows[:, 0]]
    kept = relevant > 0
    names = np.array(queries.classes, dtype=np.str_)
    rows = Predictions(
        queries.ids[kept], queries.groups[kept], names[queries.y[kept]], names[first[kept]],
        np.zeros(int(kept.sum()), dtype=np.int64),
    )  # fmt: skip
    extra, warnings = {"gallery": len(gallery)}, {"queries_left_out": lost} if lost else {}
    metrics = [*(f"recall_at_{rank}" for rank in ranks), "map_at_r"]
    return [
        Score(
            metric, float(values.mean()), len(values), share_interval(values, rows.groups),
            replace(rows, values=values), extra, warnings=warnings,
        )
        for metric, values in zip(metrics, numbers[:, kept], strict=True)
    ]  # fmt: skip


def map_at_r(hits: npt.NDArray[np.bool_], relevant: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return mAP@R (n,) from whether the image at each rank is of the query's class (n, k), and R (n,), 1 to k.

    >>> map_at_r(np.array([[True, False, True]]), np.array([3])).round(4).tolist()  # (1 + 2/3) / 3
    [0.5556]
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    shares = np.where(hits & (ranks <= relevant[:, None]), np.cumsum(hits, axis=1) / ranks, 0.0)
    means: npt.NDArray[np.float64] = shares.sum(axis=1) / relevant
    return means


def _relevant(gallery: Features, queries: Features, *, own_group: bool) -> npt.NDArray[np.int64]:
    """Return how many images of its class each query (Q,) has in its gallery."""
    counts = np.bincount(gallery.y, minlength=len(gallery.classes))[queries.y]
    if own_group:
        return counts
    groups = group_codes(gallery.groups, queries.groups)
    a, b = (part.y + len(gallery.classes) * codes for part, codes in zip((gallery, queries), groups, strict=True))
    kinds, mine = np.unique(a, return_counts=True)  # pairs of class and group; b has all of its own in a, or none
    places = np.minimum(np.searchsorted(kinds, b), len(kinds) - 1)
    return np.asarray(counts - np.where(kinds[places] == b, mine[places], 0), dtype=np.int64)
