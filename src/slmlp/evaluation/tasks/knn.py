"""k-nearest neighbours: each test image gets the label that its nearest training images vote for.

Wu et al. 2018 (arXiv 1805.01978), section 3.4: cosine, each of the k nearest votes with weight exp(cosine /
temperature). The search is that of ``probes.nearest``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import accuracy_scores, check_gallery, check_parts, predictions
from slmlp.probes.features import Features
from slmlp.probes.nearest import nearest
from slmlp.results.records import Score


def run(inputs: Inputs, cfg: config.Knn) -> list[Score]:
    """Return the scores of ``knn`` on training and test part."""
    train, test = inputs.features
    return knn(train, test, cfg)


def among_unseen(inputs: Inputs, cfg: config.Knn) -> list[Score]:
    """Return the scores on the held-out classes, with all images of other groups as voters."""
    (unseen,) = inputs.features
    return knn(unseen, unseen, cfg, task="unseen-knn", own_group=False)


def knn(train: Features, test: Features, cfg: config.Knn, *, task: str = "knn", own_group: bool = True) -> list[Score]:
    """Return accuracy and mean class accuracy of the vote; without ``own_group``, of images of other groups only.

    Ties are broken the same way on every machine and in every order of the images. Cosines count to 1e-6; of
    equally near training images those whose id sorts first are the nearer ones; of classes with equal votes the one
    that has the nearest voter wins.
    """
    check_parts(task, train, test)
    check_gallery(task, "--knn.neighbours", cfg.neighbours, train.groups, test.groups, own_group=own_group)
    labels = torch.from_numpy(train.y)
    votes = [
        _vote(torch.from_numpy(near.cosines), labels[near.rows], len(train.classes), cfg.temperature)
        for near in nearest(train, test, cfg.neighbours, own_group=own_group)
    ]
    extra = {"neighbours": cfg.neighbours, "temperature": cfg.temperature}
    return accuracy_scores(predictions(test, torch.cat(votes).numpy()), extra)


def _vote(cosines: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Return the class (n,) with most votes of neighbours (n, k), nearest first."""
    # Divided by the nearest one's weight, which changes no winner and keeps small temperatures within range.
    weights = torch.exp((cosines - cosines[:, :1]) / temperature) if temperature else torch.ones_like(cosines)
    votes = weights.new_zeros(len(labels), classes).scatter_add_(1, labels, weights)
    leads = votes.gather(1, labels) == votes.amax(dim=1, keepdim=True)  # (n, k)
    return labels.gather(1, leads.int().argmax(dim=1, keepdim=True))[:, 0]  # the first, i.e. nearest, of them
