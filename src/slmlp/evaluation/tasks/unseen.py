"""Accuracy on the held-out classes, by cross-validation over all of their images."""

from __future__ import annotations

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.evaluation.tasks.common import at_output
from slmlp.evaluation.tasks.linear import probe_scores
from slmlp.probes.cross_validation import cross_validate
from slmlp.results.records import Score


def run(inputs: Inputs, cfg: config.Probe) -> list[Score]:
    """Return accuracy and mean_class_accuracy of the predictions of all folds."""
    (unseen,) = inputs.features
    return probe_scores(cross_validate(unseen, cfg))[:2]


def at_layer(inputs: Inputs, cfg: config.Probe) -> list[Score]:
    """Return the same at one layer."""
    return at_output(inputs, "unseen") or run(inputs, cfg)
