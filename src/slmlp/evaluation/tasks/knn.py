"""k-nearest neighbours: each test image gets the label that its nearest training images vote for.

Wu et al. 2018 (arXiv 1805.01978), section 3.4: cosine, each of the k nearest votes with weight exp(cosine /
temperature). Exact search, block by block: no N x N array is held, and features may be memory-mapped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import ROWS, accuracy_scores, check_parts, predictions
from slmlp.probes.features import Features
from slmlp.results.records import Score
from slmlp.runtime.errors import SlmlpError

QUERIES = 512  # test images of a block; with ROWS training images a block takes about 100 MB
STEP = 1_000_000  # cosines are compared to 1 / STEP: below is rounding of float32, which must decide nothing
PLACES = 1 << 32  # more than any number of training images


def run(inputs: Inputs, cfg: config.Knn) -> list[Score]:
    """Return the scores of ``knn`` on training and test part."""
    train, test = inputs.features
    return knn(train, test, cfg)


def knn(train: Features, test: Features, cfg: config.Knn, *, device: torch.device | str = "cpu") -> list[Score]:
    """Return accuracy and mean class accuracy of the vote.

    Ties are broken the same way on every machine and in every order of the images. Cosines count to 1e-6; of
    equally near training images those whose id sorts first are the nearer ones; of classes with equal votes the one
    that has the nearest voter wins.
    """
    check_parts("knn", train, test)
    if cfg.neighbours > len(train):
        raise SlmlpError(
            f"knn: --knn.neighbours is {cfg.neighbours}, and there are {len(train)} training images: lower it"
        )
    by_id = np.argsort(train.ids, kind="stable")
    place = np.empty(len(train), dtype=np.int64)  # of each training image among the sorted ids
    place[by_id] = np.arange(len(train))
    label_at = torch.from_numpy(train.y[by_id])  # (N,) by place
    votes = []
    for start in range(0, len(test), QUERIES):
        keys = _nearest(train.x, place, test.x[start : start + QUERIES], cfg.neighbours, device).cpu()
        cosines = (keys >> 32).double() / STEP  # (n, k), falling
        labels = label_at[PLACES - 1 - (keys & (PLACES - 1))]  # (n, k)
        votes.append(_vote(cosines, labels, len(train.classes), cfg.temperature))
    extra = {"neighbours": cfg.neighbours, "temperature": cfg.temperature}
    return accuracy_scores(predictions(test, torch.cat(votes).numpy()), extra)


def _nearest(
    x: npt.NDArray[np.floating],
    place: npt.NDArray[np.int64],
    queries: npt.NDArray[np.floating],
    k: int,
    device: torch.device | str,
) -> Tensor:
    """Return keys (n, k), falling: cosine in steps, and in the lower half how early the id sorts; no two are equal."""
    wanted = _unit(queries, device)  # (n, D)
    best = torch.empty(len(queries), 0, dtype=torch.int64, device=device)
    for start in range(0, len(x), ROWS):
        cosine = wanted @ _unit(x[start : start + ROWS], device).T  # (n, B)
        keys = cosine.mul_(STEP).round_().long().mul_(PLACES)
        keys += PLACES - 1 - torch.as_tensor(place[start : start + ROWS], device=device)
        best = torch.cat([best, keys.topk(min(k, keys.shape[1]), dim=1, sorted=False).values], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return best


def _unit(x: npt.NDArray[np.floating], device: torch.device | str) -> Tensor:
    """Return rows (n, D) of length 1 in float32; a row of zeros stays as it is, with cosine 0 to all."""
    rows = torch.as_tensor(np.asarray(x), device=device).double()  # double: no overflow of large features
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return (rows / torch.where(length > 0, length, 1.0)).float()


def _vote(cosines: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Return the class (n,) with most votes of neighbours (n, k), nearest first."""
    # Divided by the nearest one's weight, which changes no winner and keeps small temperatures within range.
    weights = torch.exp((cosines - cosines[:, :1]) / temperature) if temperature else torch.ones_like(cosines)
    votes = weights.new_zeros(len(labels), classes).scatter_add_(1, labels, weights)
    leads = votes.gather(1, labels) == votes.amax(dim=1, keepdim=True)  # (n, k)
    return labels.gather(1, leads.int().argmax(dim=1, keepdim=True))[:, 0]  # the first, i.e. nearest, of them
