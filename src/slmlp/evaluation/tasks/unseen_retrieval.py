"""Retrieval among the held-out classes: each image asks for the others of its class."""

from __future__ import annotations

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.retrieval import retrieval
from slmlp.results.records import Score


def run(inputs: Inputs, cfg: config.Retrieval) -> list[Score]:
    """Return the scores of ``retrieval``, with all images of other groups as gallery."""
    (unseen,) = inputs.features
    return retrieval(unseen, unseen, cfg, task="unseen-retrieval", own_group=False)
