"""Accuracy on the images that choose a learning rate: the source training images that pretraining was not given."""

from __future__ import annotations

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.probes.linear import evaluate
from slmlp.results.records import Score


def run(inputs: Inputs, cfg: config.Probe) -> list[Score]:
    """Return the accuracy of the linear probe under the labels of pretraining."""
    train, validation = inputs.features
    result = evaluate(train, validation, cfg)
    return [Score("accuracy", result.accuracy, result.n, result.interval)]
