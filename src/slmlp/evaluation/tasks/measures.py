"""The measures of a feature space: images of source classes that pretraining did not use against held-out classes."""

from __future__ import annotations

from slmlp import config
from slmlp.evaluation.inputs import Inputs
from slmlp.probes.measures.measures import measure
from slmlp.results.records import Score


def run(inputs: Inputs, cfg: config.Measures) -> list[Score]:
    """Return every measure that is defined here, and the discriminative ratio on the images trained on."""
    test, train, unseen = inputs.features
    values, on_train = measure(test, unseen, cfg), measure(train, None, cfg)
    for name in ("discriminative_ratio_source", "discriminative_ratio_source_normalised"):
        if name in on_train:
            values[name.replace("source", "source_train")] = on_train[name]
    return [Score(metric, value, len(test) + len(unseen)) for metric, value in values.items()]
