"""Nearest neighbours on the held-out classes: each image gets the label that its nearest others vote for."""

from __future__ import annotations

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.knn import knn
from slmlp.results.records import Score


def run(inputs: Inputs, cfg: config.Knn) -> list[Score]:
    """Return accuracy and mean class accuracy of the vote, with all images of other groups as voters."""
    (unseen,) = inputs.features
    return knn(unseen, unseen, cfg, task="unseen-knn", own_group=False)
